"""One LoRA as a vector: of another size, from other factors."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_SEED
from wsdemo.lora.decomposition import truncated
from wsdemo.lora.gauge import rotations, turned
from wsdemo.lora.modules import Lora, LoraModule


def check_additive(*loras: Lora) -> None:
    """Raises WsdemoError for DoRAs and for adapters that multiply."""
    for lora in loras:
        if any(m.magnitude is not None for m in lora.modules):
            raise WsdemoError(
                "A DoRA does not add",
                "Its update depends on the base's weights, which are not here; U and V alone are"
                " another update.",
                "Use the program that made it.",
            )
        if lora.kind != "additive":
            raise WsdemoError(
                "Not additive",
                "Factors of a multiplicative adapter do not add: W ⊙ (BA) has no sum.",
                "Use additive LoRAs.",
            )


def _with(lora: Lora, modules: Sequence[LoraModule]) -> Lora:
    return dataclasses.replace(lora, modules=tuple(modules))


def check_share(energy: float) -> None:
    """Raises WsdemoError for a share of energy outside of (0, 1]."""
    if not 0 < energy <= 1:
        raise WsdemoError("Value out of range", f"energy is {energy:g}.", "Choose 0 to 1.")


def check_measurable(name: str, U: Tensor, V: Tensor) -> None:
    """Raises WsdemoError for factors whose product float32 cannot hold."""
    norms = (float(torch.linalg.vector_norm(X, dtype=torch.float64)) for X in (U, V))
    size = math.prod(norms)
    if not size < 1e37:  # also NaN
        raise WsdemoError(
            "Values too large",
            f"The factors of {name[:80]!r} multiply to a norm of {size:.3g}; float32 ends at 3e38.",
            "Choose smaller weights.",
        )


@dataclasses.dataclass(frozen=True)
class Size:
    """How many ranks to keep: in every module the fewest that all wishes together allow.

    Attributes:
        energy: Share of ‖ΔW‖² to keep, in (0, 1].
        rank: At most so many.
        ratio: Those whose singular value is at least the largest divided by this (kohya's
            ``sv_ratio``).
    """

    energy: float = 1.0
    rank: int | None = None
    ratio: float | None = None

    def check(self) -> None:
        """Raises WsdemoError for values out of range."""
        check_share(self.energy)
        if self.rank is not None and self.rank < 1:
            raise WsdemoError("Value out of range", f"rank is {self.rank}.", "Choose 1 or more.")
        if self.ratio is not None and not 1 <= self.ratio < math.inf:
            raise WsdemoError("Value out of range", f"ratio is {self.ratio:g}.",
                              "Choose 1 or more.")  # fmt: skip

    def of(self, U: Tensor, V: Tensor) -> tuple[Tensor, Tensor, float]:
        """The smaller U and V, and the share of ‖U Vᵀ‖² that they keep."""
        U, V, share = truncated(U, V, self.energy)
        r = U.shape[1]
        values = U.norm(dim=0) * V.norm(dim=0)  # the singular values, as both hold their roots
        if self.ratio is not None and r > 0:
            r = max(1, int((values * self.ratio >= values[0]).sum()))
        r = min(r, self.rank or r)
        squares = values.double().square()
        if r < U.shape[1] and float(squares.sum()) > 0:
            share *= float(squares[:r].sum() / squares.sum())
        return U[:, :r].contiguous(), V[:, :r].contiguous(), share


def resize(lora: Lora, size: Size | float = 0.999) -> tuple[Lora, float]:
    """The same update from fewer ranks; a number is the share of energy to keep.

    Returns:
        The smaller LoRA, and the share of energy kept over all modules, less what reading cut.

    Raises:
        WsdemoError: A wish is out of range, or the update multiplies: a product W ⊙ (UVᵀ) of
            fewer ranks is not near it.
    """
    size = size if isinstance(size, Size) else Size(size)
    size.check()
    modules, kept, total = [], 0.0, 0.0
    for module in lora.modules:
        check_measurable(module.name, module.U, module.V)
        U, V, share = size.of(module.U, module.V)
        energy = float((U.double().T @ U.double() * (V.double().T @ V.double())).sum())
        kept, total = kept + energy, total + energy / max(share * module.kept, 1e-30)
        modules.append(_rewritten(module, U, V))
    return _with(lora, modules), kept / total if total > 0 else 1.0


def _rewritten(module: LoraModule, U: Tensor, V: Tensor, **changes: Any) -> LoraModule:
    """A module with other factors. Its scale stays, by which its bias is multiplied."""
    return dataclasses.replace(
        module, U=U, V=V, stored_rank=U.shape[1], kept=1.0, is_rewritten=True, **changes
    )


def regauge(lora: Lora, seed: int) -> Lora:
    """The same updates from other factors: (U R, V R⁻ᵀ), R well-conditioned and random.

    Args:
        lora: What to re-gauge.
        seed: Of R, 0 to MAX_SEED.

    Raises:
        WsdemoError: The seed is out of range, or reading cut the update, whose factors are then
            not the same update.
    """
    if not 0 <= seed <= MAX_SEED:
        raise WsdemoError(
            "Value out of range", f"The seed is {str(seed)[:30]}.", f"Choose 0 to {MAX_SEED:,}."
        )
    cut = [m for m in lora.modules if m.is_cut]
    if cut:
        raise WsdemoError(
            "Not the same update",
            f"{len(cut)} of {len(lora.modules)} modules have more ranks than were read; the least"
            f" keeps {min(m.kept for m in cut):.1%} of its energy.",
            "Resize it instead, which says what is lost.",
        )
    g = torch.Generator().manual_seed(seed)
    modules = []
    for module in lora.modules:
        left, right = rotations((module.rank, module.rank), g, torch.float64)
        stretch = torch.rand(module.rank, generator=g, dtype=torch.float64) * 2 + 0.5
        U, V = turned(module.U.float(), module.V.float(), left, stretch, right)
        modules.append(_rewritten(module, U, V, note=module.note))
    return _with(lora, modules)
