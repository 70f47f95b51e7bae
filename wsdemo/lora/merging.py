"""Several LoRAs as one: their exact sum, or with TIES or DARE.

TIES (Yadav et al. 2023) and DARE (Yu et al. 2023) work on the entries of the stored factors A and
B, as PEFT's ``add_weighted_adapter`` does with ``ties`` and ``dare_linear``: each of A and B is
pruned and combined with weights √(w α/r), so their product holds cross terms. They need factors of
one rank.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lora.arithmetic import check_additive, check_measurable, check_share
from wsdemo.lora.bases.canonical import common_base, spelled_for
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, Spelling, all_tables
from wsdemo.lora.decomposition import truncated
from wsdemo.lora.kept import read_kept
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.names import aligned

METHODS = ("sum", "ties", "dare")


@dataclasses.dataclass(frozen=True)
class Method:
    """How to merge.

    Attributes:
        name: ``sum``, ``ties`` or ``dare``.
        density: Share of the entries that TIES and DARE keep, in (0, 1].
        seed: Of the entries that DARE keeps.
    """

    name: str = "sum"
    density: float = 0.5
    seed: int = 0

    def check(self) -> None:
        """Raises WsdemoError for values out of range."""
        if self.name not in METHODS:
            raise WsdemoError(
                "Unknown method", f"Found {self.name[:20]!r}.", f"Use {', '.join(METHODS)}."
            )
        if not 0 < self.density <= 1:
            raise WsdemoError(
                "Value out of range", f"density is {self.density:g}.", "Choose 0 to 1."
            )


def merge(
    loras: Sequence[Lora],
    weights: Sequence[float],
    energy: float = 1.0,
    method: Method | None = None,
) -> Lora:
    """Σ w_i ΔW_i, exactly, as few ranks as hold ``energy`` of it; or another method's sum.

    Modules are matched in any program's spelling; the sum has that of the first LoRA. Biases are
    summed as the updates are; of heads and other whole tensors the first LoRA's are kept, and
    the warnings say what that loses.

    Raises:
        WsdemoError: They are for different bases, share no module, or adapt modules of different
            shapes under one name; they multiply or are DoRAs; a weight or the sum is not finite;
            the method needs equal ranks.
    """
    method = method or Method()
    method.check()
    check_additive(*loras)
    check_share(energy)
    if not all(map(math.isfinite, weights)):
        raise WsdemoError(
            "Value out of range", f"The weights are {list(weights)}.", "Choose finite numbers."
        )
    _check_bases(loras)
    tables = aligned(loras)
    _check_common(loras, tables)
    combine = _COMBINE[method.name]
    modules: dict[str, LoraModule] = {}
    generator = torch.Generator().manual_seed(method.seed)
    for name in sorted(set[str]().union(*tables)):
        terms = [(t[name], w) for t, w in zip(tables, weights, strict=True) if name in t]
        sides = {(len(m.U), len(m.V)) for m, _ in terms}
        if len(sides) > 1:
            raise WsdemoError(
                "These do not merge",
                f"{name[:80]!r} has the shapes {' and '.join(f'{a}x{b}' for a, b in sides)}.",
                "Merge LoRAs of the same base model.",
            )
        U, V = combine(terms, method, generator)
        check_measurable(name, U, V)
        U, V, _ = truncated(U, V, energy)
        modules[name] = dataclasses.replace(
            terms[0][0],
            U=U,
            V=V,
            stored_rank=U.shape[1],
            scale=1.0,
            kept=1.0,
            note="merged",
            is_rewritten=True,
        )
    carried, warnings = _carried(loras, weights)
    return dataclasses.replace(
        loras[0],
        modules=tuple(_in_spelling_of(loras[0], modules)),
        kept=tuple(t for lora in loras for t in lora.kept),
        carried=carried,
        warnings=tuple(dict.fromkeys([w for lora in loras for w in lora.warnings] + warnings)),
    )


# ---- what may be merged ------------------------------------------------------------


def _check_bases(loras: Sequence[Lora]) -> None:
    """Refuses LoRAs whose keys and shapes say different bases."""
    tables = all_tables()
    families = [
        {tables[key].family for key in lora.base.candidates} if lora.base.sizes_fit else set()
        for lora in loras
    ]
    for i, others in enumerate(families[1:], 1):
        if others and families[0] and not others & families[0]:
            names = [" or ".join(sorted(t)) for t in (families[0], others)]
            raise WsdemoError(
                "Different bases",
                f"The first is for {names[0]}, number {i + 1} for {names[1]}.",
                "Merge LoRAs of the same base model.",
            )


def _check_common(loras: Sequence[Lora], tables: Sequence[dict[str, LoraModule]]) -> None:
    for i, table in enumerate(tables):
        others = set[str]().union(*(t for j, t in enumerate(tables) if j != i))
        if others and not others & set(table):
            raise WsdemoError(
                "Nothing to merge",
                f"They adapt no module in common: {loras[i].modules[0].name[:60]} … against"
                f" {loras[i - 1].modules[0].name[:60]} …",
                "Take LoRAs of one base model.",
            )


# ---- methods -----------------------------------------------------------------------

Terms = Sequence[tuple[LoraModule, float]]
"""A module of several LoRAs, with their weights."""


def _sum(terms: Terms, method: Method, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Factors side by side: Σ w_i U_i V_iᵀ, exactly."""
    return torch.cat([m.U * w for m, w in terms], dim=1), torch.cat([m.V for m, _ in terms], dim=1)


def _stacked(terms: Terms, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every U and V as stored, (k, n, r) and (k, m, r), and their weights √|w α/r|, (k, 1, 1).

    The sign of the product of weight and scale is V's, as PEFT has it.

    Raises:
        WsdemoError: Their ranks differ.
    """
    ranks = sorted({m.rank for m, _ in terms})
    if len(ranks) > 1:
        raise WsdemoError(
            "These do not merge so",
            f"{terms[0][0].name[:80]!r} has ranks {' and '.join(map(str, ranks))}; {name} combines"
            " factors entry by entry.",
            "Resize them to one rank, or use --method sum.",
        )
    scales = [m.scale or 1.0 for m, _ in terms]
    U = torch.stack([m.U / scale for (m, _), scale in zip(terms, scales, strict=True)])
    V = torch.stack([m.V for m, _ in terms])
    shares = torch.tensor([w * s for (_, w), s in zip(terms, scales, strict=True)])[:, None, None]
    root = shares.abs().sqrt()
    return U, V, root, torch.where(shares < 0, -root, root)


def _ties(terms: Terms, method: Method, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of U and of V: trim, elect the sign of each entry, average the weighted that have it."""

    def merged(X: Tensor, weights: Tensor) -> Tensor:
        X = _largest(X, method.density)
        agree = X.sign() == torch.where(X.sum(0) >= 0, 1.0, -1.0)
        return (X * weights * agree).sum(0) / agree.sum(0).clamp(min=1)

    U, V, of_U, of_V = _stacked(terms, "TIES")
    return merged(U, of_U), merged(V, of_V)


def _largest(X: Tensor, density: float) -> Tensor:
    """X (k, n, r) with the share of its largest entries, of each of the k alone."""
    flat = X.flatten(1)
    keep = flat.abs().topk(int(density * flat.shape[1]), dim=1).indices
    mask = torch.zeros_like(flat).scatter_(1, keep, 1.0)
    return (flat * mask).view_as(X)


def _dare(terms: Terms, method: Method, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Drop entries at random, rescale the others by 1/density, add; of U and of V."""

    def merged(X: Tensor, weights: Tensor) -> Tensor:
        mask = torch.bernoulli(torch.full_like(X, method.density), generator=generator)
        return (X * mask / method.density * weights).sum(0)

    U, V, of_U, of_V = _stacked(terms, "DARE")
    return merged(U, of_U), merged(V, of_V)


_COMBINE: dict[str, Callable[[Terms, Method, torch.Generator], tuple[Tensor, Tensor]]] = {
    "sum": _sum,
    "ties": _ties,
    "dare": _dare,
}


# ---- the spelling of the sum, and what stands beside it ----------------------------------


def _in_spelling_of(first: Lora, modules: dict[str, LoraModule]) -> list[LoraModule]:
    """The modules of a sum as the first LoRA spells them.

    Those that came from a table have canonical names, ``model.NAME``.
    """
    if not any(key.startswith(("model.", "text_encoder_")) for key in modules):
        return list(modules.values())
    base = common_base([first])
    spelling = spelling_of(first, base) if base else None
    if base is None or spelling is None:
        return [dataclasses.replace(m, keys=()) for m in modules.values()]
    main = {k.removeprefix("model."): m for k, m in modules.items() if k.startswith("model.")}
    written, _ = spelled_for(main, base, spelling)
    renamed = [
        dataclasses.replace(m, name=name.removeprefix("base_model.model."), keys=())
        for name, m in written.items()
    ]
    return renamed + [m for key, m in modules.items() if not key.startswith("model.")]


def spelling_of(lora: Lora, base: Base) -> Spelling | None:
    """How a LoRA spells the modules of its base, None if it is in no spelling of the table."""
    for spelling in base.spellings:
        prefix = spelling.prefix.removeprefix("base_model.model.")
        names = [spelled(m.name) for m in lora.modules]
        main = [n for n in names if n.part.startswith("model")]
        entries = [base.find(n.flat) for n in main]
        if main and all(
            n.prefix == prefix and e is not None and spelling.naming in e.namings
            for n, e in zip(main, entries, strict=True)
        ):
            return spelling
    return None


def _carried(
    loras: Sequence[Lora], weights: Sequence[float]
) -> tuple[dict[str, Tensor], list[str]]:
    """Biases, summed; of other whole tensors the first that has them; and what that loses."""
    carried: dict[str, Tensor] = {}
    lost: dict[str, str] = {}
    for lora, weight in zip(loras, weights, strict=True):
        scales = {m.name: m.scale for m in lora.modules}
        tensors = read_kept([t for t in lora.kept if t.what != "mark"])
        for kept in lora.kept:
            if kept.key not in tensors:
                continue
            tensor = tensors[kept.key]
            if kept.what == "bias":
                is_factor = ".lora_" in kept.key
                scale = scales.get(kept.module, 1.0) if is_factor else 1.0
                added = tensor.float() * (weight * scale)
                carried[kept.key] = carried[kept.key] + added if kept.key in carried else added
            elif kept.key in carried:
                lost[kept.key] = "only the first LoRA's is kept"
            elif weight != 1.0 and kept.what == "difference":
                carried[kept.key] = (tensor.float() * weight).to(tensor.dtype)
            else:
                carried[kept.key] = tensor
    warnings = [f"{len(lost)} whole tensors stand in several of the files; of each the first's is"
                f" kept: {next(iter(lost))} …"] if lost else []  # fmt: skip
    return carried, warnings
