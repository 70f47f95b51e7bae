"""What a LoRA does to its base, measured without the base and without multiplying it out.

With thin QRs U = Q_u R_u and V = Q_v R_v, the singular values of ΔW = U Vᵀ are those of the
(r, r) matrix R_u R_vᵀ: O((n + m) r²) a module.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.reader import read_lora
from wsdemo.runtime import one_thread

NEGLIGIBLE = 1e-6
"""A singular value below this share of the largest is dead; a module below this share of the
file's median norm does next to nothing."""
FAINT = 1e-9
"""Root mean square of a file's ΔW below which float32 rounds it away beside weights of 0.02."""
MEASURED_NUMBERS = 2**21
"""Numbers of factors that are measured in one go: 16 MB in float64. More is not faster."""


@dataclass(frozen=True)
class ModuleGeometry:
    """The update of one module.

    Attributes:
        name: Of the module.
        shape: Of the adapted weight.
        rank: Columns of its factors.
        singular_values: (min(rank, n, m),) of ΔW, descending.
        frobenius: ‖ΔW‖_F, of the whole update also where the factors were cut.
        spectral: The largest singular value.
        effective_rank: exp of the entropy of σ² / Σσ² (Roy and Vetterli 2007), of the columns
            that there are.
        energy_rank: Singular values that hold 99.9 % of ‖ΔW‖²; one more than there are if those
            left after a cut hold less.
        dead_ranks: Columns of the factors that add nothing.
        departure: From doing nothing: ‖ΔW‖_F, or ‖U Vᵀ − 1‖_F if U Vᵀ multiplies the weight
            (0 below float32's rounding).
    """

    name: str
    shape: tuple[int, ...]
    rank: int
    singular_values: Tensor
    frobenius: float
    spectral: float
    effective_rank: float
    energy_rank: int
    dead_ranks: int
    departure: float

    @property
    def is_no_op(self) -> bool:
        """Whether the module changes nothing at all."""
        return self.departure == 0.0


@dataclass(frozen=True)
class Geometry:
    """The updates of all modules.

    Attributes:
        modules: One a module, in the order of the LoRA.
        frobenius: ‖ΔW‖_F over all modules together.
    """

    modules: tuple[ModuleGeometry, ...]
    frobenius: float

    @property
    def is_no_op(self) -> bool:
        """Whether the whole file changes nothing."""
        return all(m.is_no_op for m in self.modules)

    @property
    def energy_rank(self) -> int:
        """The rank that would hold 99.9 % of every module's energy."""
        return max((m.energy_rank for m in self.modules), default=0)

    @property
    def by_depth(self) -> tuple[float, float, float]:
        """Shares of ‖ΔW‖² in the first, middle and last third of the modules, by block number.

        Modules are ordered as their names count: down before mid before up, layer 9 before 10.
        """
        order = sorted(self.modules, key=lambda m: depth_key(m.name))
        total = self.frobenius**2
        n = len(order)
        cuts = (0, (n + 2) // 3, (2 * n + 2) // 3, n)
        first, middle, last = (
            sum(m.frobenius**2 for m in order[a:b]) / total if total > 0 else 0.0
            for a, b in itertools.pairwise(cuts)
        )
        return first, middle, last

    @property
    def by_block(self) -> dict[str, float]:
        """‖ΔW‖_F of each block, which a name ends with its first number; in order of depth."""
        squares: dict[str, float] = {}
        for module in self.modules:
            block = _BLOCK.match(module.name)
            key = block[0] if block else "elsewhere"
            squares[key] = squares.get(key, 0.0) + module.frobenius**2
        return {key: squares[key] ** 0.5 for key in sorted(squares, key=depth_key)}


_BLOCK = re.compile(r"(?:text_encoder_\d+\.)?.*?[._]\d+(?=[._]|$)")
_DIGITS = re.compile(r"(\d{1,9})")
"""Of longer numbers, which no file has, one part after the other."""


def depth_key(name: str) -> list[str | int]:
    """Sorts names as people count: numbers by value, the rest by letters.

    The parts alternate, so that a number is only compared with a number.
    """
    parts: list[str | int] = _DIGITS.split(name)
    parts[1::2] = map(int, parts[1::2])
    return parts


Stack = tuple[Tensor, Tensor]
"""U (k, n, r) and V (k, m, r) of k modules."""


def singular_values(stacks: Sequence[Stack]) -> Tensor:
    """Singular values of U Vᵀ, descending, in float64.

    Args:
        stacks: Of one r ≤ n, m; or of one shape.

    Returns:
        (k of all stacks, min(n, m, r)).
    """
    U, V = zip(*stacks, strict=True)
    n, m, r = len(U[0][0]), len(V[0][0]), U[0].shape[-1]
    if min(n, m) < r:  # more columns than rows
        return torch.cat([torch.linalg.svdvals(u.double() @ v.double().mT) for u, v in stacks])
    # The work on (r, r) matrices does not depend on n and m: once for all stacks.
    R, is_sure = triangle(torch.cat([gram(X) for X in (*U, *V)]))
    Ru, Rv = R.chunk(2)
    s = torch.linalg.svdvals(Ru @ Rv.mT)
    doubtful = ~is_sure.view(2, -1).all(0)
    if doubtful.any():
        counts = [len(u) for u in U]
        for u, v, values, again in zip(U, V, s.split(counts), doubtful.split(counts), strict=True):
            if again.any():
                Ru, Rv = sure_triangle(u[again]), sure_triangle(v[again])
                values[again] = torch.linalg.svdvals(Ru @ Rv.mT)
    return s


def gram(X: Tensor) -> Tensor:
    """Xᵀ X in float64, of (k, n, r) float → (k, r, r)."""
    return reduce(torch.add, (part.mT @ part for part in _in_double(X)))


def triangle(gram: Tensor) -> tuple[Tensor, Tensor]:
    """R with Rᵀ R = Xᵀ X by Cholesky, twice as fast as a QR, and whether it is as good as one.

    With unit columns, rounding of Xᵀ X changes every singular value of R (and of its product
    with another matrix: Ostrowski) by a share of at most about ε ‖R⁻¹‖², whatever its size.

    Args:
        gram: Xᵀ X, (k, r, r) float64, of an X of at least r rows.

    Returns:
        R (k, r, r), and (k,) whether that share is below 1e-8.
    """
    lengths = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    unit = lengths.where(lengths > 0, 1.0)
    gram = gram / (unit[..., :, None] * unit[..., None, :])
    gram.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    R, failed = torch.linalg.cholesky_ex(gram, upper=True)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
    inverse = torch.linalg.solve_triangular(R, eye.expand_as(R), upper=True)
    bound = torch.linalg.matrix_norm(inverse).square() * 4 * torch.finfo(gram.dtype).eps
    return R * lengths[..., None, :], (failed == 0) & (bound < 1e-8)


def sure_triangle(X: Tensor) -> Tensor:
    """R of a QR of (…, n, r) float, n ≥ r, in float64: of one part of its rows after another.

    The R of the rows so far, with the next rows below it, has the R of all of them.
    """
    R: Tensor | None = None
    for part in _in_double(X):
        R = torch.linalg.qr(part if R is None else torch.cat([R, part], -2), mode="r").R
    assert R is not None
    return R


def _in_double(X: Tensor) -> Iterator[Tensor]:
    """(…, n, r) in parts of rows, in float64: a large matrix is never copied whole."""
    rows = max(1, MEASURED_NUMBERS * X.shape[-2] // max(1, X.numel()))
    for part in X.split(max(rows, X.shape[-1]), -2):
        yield part.double()


def spectral_entropy(s: Tensor) -> Tensor:
    """−Σ p log p of p = σ² / Σσ², of (…, k) singular values; 0 of an update of zero."""
    square = s.square()
    total = square.sum(-1, keepdim=True)
    return torch.special.entr(square / total.where(total > 0, 1.0)).sum(-1)


def effective_rank(s: Tensor) -> Tensor:
    """exp of the entropy (Roy and Vetterli 2007): the directions that an update spreads over.

    One of an update of zero.
    """
    return spectral_entropy(s).exp()


def measure_modules(modules: Sequence[LoraModule], stacks: Sequence[Stack]) -> list[ModuleGeometry]:
    """All measures of many modules, together: far faster than one by one.

    Args:
        modules: Of which the factors are not looked at.
        stacks: Their factors, as singular_values takes them.
    """
    s = singular_values(stacks)
    square = s.square()
    total = square.sum(-1, keepdim=True)
    share = square / total.where(total > 0, 1.0)
    ranks = effective_rank(s).tolist()
    alive = (s > s[:, :1] * NEGLIGIBLE).sum(-1)
    kept = torch.tensor([m.kept for m in modules], dtype=torch.float64)[:, None]
    needed = (share.cumsum(-1) * kept < 0.999).sum(-1) + 1
    norms = (total / kept)[:, 0].sqrt().tolist()
    # An update that is added, or that 1 is added to, departs from nothing by its norm.
    is_plain = modules[0].kind == "additive" or modules[0].offset == 1
    away = norms if is_plain else torch.cat([_from_one(U, V) for U, V in stacks]).tolist()
    rank = stacks[0][0].shape[-1]
    rows = zip(modules, s.unbind(), norms, s[:, 0].tolist(), ranks,
               needed.tolist(), alive.tolist(), away, strict=True)  # fmt: skip
    return [
        ModuleGeometry(m.name, m.shape, rank, values, norm, top, mean, count, rank - lively, far)
        if norm > 0
        else ModuleGeometry(m.name, m.shape, rank, values, 0.0, 0.0, 0.0, 0, rank, far)
        for m, values, norm, top, mean, count, lively, far in rows
    ]


def _from_one(U: Tensor, V: Tensor) -> Tensor:
    """‖U Vᵀ − 1‖_F = (‖U Vᵀ‖² − 2 Σ U Vᵀ + n m)^½; 0 below float32's rounding."""
    entries = U.shape[-2] * V.shape[-2]
    U, V = U.double(), V.double()
    square = (U.mT @ U * (V.mT @ V)).sum((-2, -1)) - 2 * (U.sum(-2) * V.sum(-2)).sum(-1) + entries
    return square.sqrt().where(square > 1e-12 * entries, 0.0)


class Measuring:
    """Measures modules as they come, those of one rank together, and keeps none of them."""

    def __init__(self) -> None:
        self._waiting: dict[object, list[tuple[Sequence[LoraModule], Stack]]] = {}
        self._done: dict[str, ModuleGeometry] = {}
        self._numbers = 0

    def add(self, modules: Sequence[LoraModule], U: Tensor, V: Tensor) -> None:
        """Takes k modules with U (k, n, r) and V (k, m, r).

        Measures all that wait when they fill MEASURED_NUMBERS.
        """
        _, n, r = U.shape
        m = V.shape[1]
        together = r if r <= min(n, m) else (n, m, r)
        self._waiting.setdefault(together, []).append((modules, (U, V)))
        self._numbers += U.numel() + V.numel()
        if self._numbers >= MEASURED_NUMBERS:
            self._measure_all()

    def _measure_all(self) -> None:
        for waiting in self._waiting.values():
            modules = [m for group, _ in waiting for m in group]
            measured = measure_modules(modules, [stack for _, stack in waiting])
            self._done |= {m.name: m for m in measured}
        self._waiting.clear()
        self._numbers = 0

    def geometry(self, modules: Sequence[LoraModule]) -> Geometry:
        """Of these modules, in this order."""
        self._measure_all()
        measured = tuple(self._done[m.name] for m in modules)
        return Geometry(measured, sum(m.frobenius**2 for m in measured) ** 0.5)


def read_and_measure(
    path: Path, config: Mapping[str, Any] | None = None, adapter: str = ""
) -> tuple[Lora, Geometry]:
    """Reads and measures a file part by part: a file of 1 GB takes 1 GB of memory in all.

    Returns:
        The LoRA with the shapes of its factors only (on torch's device "meta"), its geometry.

    Raises:
        WsdemoError: As read_lora.
    """
    measuring = Measuring()
    with one_thread():
        lora = read_lora(path, config, measuring.add, adapter)
        return lora, measuring.geometry(lora.modules)


def measure(lora: Lora) -> Geometry:
    """The geometry of a LoRA; of a multiplicative one, of its factor U Vᵀ."""
    measuring = Measuring()
    with one_thread():
        for module in lora.modules:
            measuring.add([module], module.U[None], module.V[None])
        return measuring.geometry(lora.modules)


def findings(lora: Lora, geometry: Geometry) -> list[str]:
    """What its author should know, in sentences."""
    texts = []
    if geometry.is_no_op:
        zero = "Every update is zero" if lora.kind == "additive" else "Every factor is one"
        is_scaled = all(m.scale == 0 for m in lora.modules)
        why = "its scale is 0" if is_scaled else "B was never trained"
        return [f"{zero}: this file changes nothing ({why})."]
    silent = [m.name for m in geometry.modules if m.is_no_op]
    if silent:
        count = f"{len(silent)} of {len(geometry.modules)}"
        texts.append(f"{count} modules change nothing: {silent[0]} …")
    entries = sum(math.prod(m.shape) for m in geometry.modules)
    mean = (sum(m.departure**2 for m in geometry.modules) / entries) ** 0.5
    if mean < FAINT:
        texts.append(
            f"It changes next to nothing: a weight by {mean:.1g} on average, which float32 rounds"
            " away."
        )
    norms = torch.tensor([m.departure for m in geometry.modules if not m.is_no_op])
    faint = int((norms < 1e-3 * norms.median()).sum())
    if faint:
        texts.append(f"{faint} modules do a thousand times less than the median one.")
    stored = max(m.rank for m in geometry.modules)
    if geometry.energy_rank < stored:
        texts.append(
            f"Rank {geometry.energy_rank} would hold 99.9 % of every module's energy; the file has"
            f" rank {stored}."
        )
    dead = sum(m.dead_ranks for m in geometry.modules)
    if dead:
        texts.append(f"{dead} columns of its factors add nothing.")
    return texts
