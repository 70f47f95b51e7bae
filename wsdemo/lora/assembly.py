"""From grouped tensors to modules: those of one layout are read, converted and judged together.

A tensor of some kB costs more to create than to read, and a file has hundreds of them, but few
layouts. So k plain pairs of the same types and shapes become one (k, …) tensor a role.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError, refuse_lack_of_memory
from wsdemo.limits import MAX_EXPANDED_NUMBERS, MAX_MODULE_NUMBERS, MAX_RANK
from wsdemo.lora.factors import Factors, Unusable
from wsdemo.lora.forms.choice import Form, choose
from wsdemo.lora.grouping import Beside, Roles
from wsdemo.lora.modules import LoraModule
from wsdemo.lora.scales import Scales
from wsdemo.lora.settings import Settings
from wsdemo.safetensors_header import Header

BATCH_NUMBERS = 2**21
"""Numbers of modules that are read together: 8 MB. More is not faster."""
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}

Read = Callable[[Sequence[str]], Tensor]
"""The keys of k tensors of one type and shape → (k, …) float32."""
Take = Callable[[Sequence[LoraModule], Tensor, Tensor], None]
"""Takes k modules of one shape with their U (k, n, r) and V (k, m, r)."""


@dataclass
class _Batch:
    """Modules of one layout, to be read together.

    Attributes:
        form: How to read them.
        is_whole: Whether no second update of them is left out.
        tensors: Role → (dtype, shape) of one module.
        numbers: Of the tensors of one module.
        modules: Name and roles of each.
    """

    form: Form
    is_whole: bool
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    numbers: int
    modules: list[tuple[str, Roles]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The modules' names."""
        return [name for name, _ in self.modules]

    def keys(self, role: str) -> list[str]:
        """Of the tensors that have this role."""
        return [roles[role][0] for _, roles in self.modules]


_SECOND = "a second update of its module, beside the one that is read"
_ALONE = {"alpha", "scale", "magnitude"}
"""Roles that make no half of a pair: without one they are something else."""


class Assembly:
    """Turns the tensors of a file into modules.

    Attributes:
        modules: Name → module.
        beside: Tensors of modules that were left out.
        problems: Name → why the module was left out, where its tensors do not fit.
        halves: How many modules have no pair.
        second: Names of modules of which a second update was left out.
        doubtful: Why modules are not the update itself → their names.
        alphas: The distinct α.
        families: Of the keys that were used.
        used: How many tensors are part of the update.
    """

    def __init__(
        self,
        read: Read,
        header: Header,
        settings: Settings,
        scales: Scales,
        kind: str,
        take: Take | None,
    ) -> None:
        """With ``take`` the factors go there, and only their shapes are kept."""
        self._read, self._header = read, header
        self._settings, self._scales = settings, scales
        self._kind, self._take = kind, take
        self._expanded = 0  # numbers of the factors beyond those that the file stores
        self.modules: dict[str, LoraModule] = {}
        self.beside: list[Beside] = []
        self.problems: dict[str, str] = {}
        self.halves = 0
        self.second: list[str] = []
        self.doubtful: dict[str, list[str]] = {}
        self.alphas: set[float] = set()
        self.families: set[str] = set()
        self.used = 0

    def add(self, groups: Mapping[str, Roles]) -> None:
        """Reads all modules.

        Raises:
            WsdemoError: Values are not finite.
        """
        for batch in self._batches(groups):
            try:
                parts, factors = self._factors(batch)
            except (Unusable, RuntimeError, IndexError, MemoryError) as error:
                refuse_lack_of_memory(error)
                # torch's own complaints are about shapes that no family has
                problem = str(error) if isinstance(error, Unusable) else "its shapes do not fit"
                for name, roles in batch.modules:
                    self._leave_out(name, roles, problem)
            else:
                self._convert(batch, parts, factors)

    def _ignore(self, name: str, roles: Roles, why: str, what: str = "unread") -> None:
        self.beside += [Beside(key, what, why, name) for key, _ in roles.values()]

    def _leave_out(self, name: str, roles: Roles, problem: str) -> None:
        self._ignore(name, roles, problem)
        self.problems[name] = problem

    def _batches(self, groups: Mapping[str, Roles]) -> Iterator[_Batch]:
        """Modules of one layout together, BATCH_NUMBERS at a time; one by one if not stacked."""
        waiting: dict[object, _Batch] = {}
        for name in sorted(groups):
            roles = groups[name]
            tensors = {role: self._header.tensors[key] for role, (key, _) in roles.items()}
            form = choose(name, tensors, self._settings)
            if form is None:
                self._add_half(name, roles)
                continue
            if isinstance(form, str):
                self._leave_out(name, roles, form)
                continue
            others = form.unread(tuple(tensors))
            if others:
                self.second.append(name)
                self._ignore(name, {role: roles[role] for role in others}, _SECOND)
                roles = {role: place for role, place in roles.items() if role not in others}
                tensors = {role: tensors[role] for role in roles}
            layout = (form, not others, *tensors.items())
            if layout not in waiting:
                numbers = sum(math.prod(shape) for _, shape in tensors.values())
                waiting[layout] = _Batch(form, not others, tensors, numbers)
            batch = waiting[layout]
            batch.modules.append((name, roles))
            if not form.is_stacked or len(batch.modules) * batch.numbers >= BATCH_NUMBERS:
                yield waiting.pop(layout)
        yield from waiting.values()

    def _add_half(self, name: str, roles: Roles) -> None:
        """A module without a pair; or what only looks like one's scale, such as a norm's."""
        if _ALONE.issuperset(roles):
            what = "norm" if "norm" in name.rpartition(".")[2] else "other"
            why = f"its module has only {', '.join(sorted(roles))}: no pair"
            self._ignore("", roles, why, what)
            return
        self._ignore("", roles, f"its module has only {', '.join(sorted(roles))}: no pair")
        self.halves += 1

    def _factors(self, batch: _Batch) -> tuple[dict[str, Tensor], Factors]:
        """The tensors (k, …) of k modules of one layout, and their factors, within bounds."""
        # 64-bit numbers count twice, as the file's pages stay in memory beside the copy.
        stored = sum(
            math.prod(shape) * (1 + (dtype == "F64")) for dtype, shape in batch.tensors.values()
        )
        if stored > MAX_MODULE_NUMBERS:
            raise Unusable(f"{stored:,} numbers, of {MAX_MODULE_NUMBERS:,} allowed")
        _check_tensors(batch.tensors)
        parts = _unquantised({role: self._read(batch.keys(role)) for role in batch.tensors})
        factors = batch.form.factors(parts)
        rank = max(factors.U.shape[-1] if "diff" in parts else factors.stored_rank, 1)
        if rank > MAX_RANK:
            raise Unusable(f"rank {rank}, of {MAX_RANK} allowed")
        numbers = (factors.U[0].numel() + factors.V[0].numel()) * factors.pieces
        if numbers > MAX_MODULE_NUMBERS // 2:
            raise Unusable(f"its factors have {numbers:,} numbers")
        self._expanded += max(0, numbers - stored) * len(batch.modules)
        if self._expanded > MAX_EXPANDED_NUMBERS:
            raise Unusable("the factors of this file expand to more than 2 GB")
        return parts, factors

    def _scales_of(
        self, batch: _Batch, parts: Mapping[str, Tensor], factors: Factors
    ) -> list[float]:
        """The scale of each module of a batch."""
        names = batch.names
        alphas, counts, stored = (
            _numbers(parts, role, len(names)) for role in ("alpha", "ranknum", "scale")
        )
        self.alphas.update(alpha for alpha in alphas if alpha is not None)
        rule = self._scales.rule(tuple(parts))
        return [
            self._scales.of(
                name, next(iter(places.values()))[0], rule, factors.stored_rank, alpha, count
            )
            if scale is None
            else scale
            for (name, places), alpha, count, scale in zip(
                batch.modules, alphas, counts, stored, strict=True
            )
        ]

    def _convert(self, batch: _Batch, parts: Mapping[str, Tensor], factors: Factors) -> None:
        """Folds the scales in, judges the values, and adds the modules."""
        E = factors.pieces
        scales = [scale for scale in self._scales_of(batch, parts, factors) for _ in range(E)]
        U, V, magnitude = factors.U, factors.V, parts.get("magnitude")
        if any(scale != 1 for scale in scales):
            U = U * torch.tensor(scales, dtype=torch.float64).float()[:, None, None]
        places = [(name, roles, i) for name, roles in batch.modules for i in range(E)]
        names = [self._piece_name(name, i) if E > 1 else name for name, _, i in places]
        _check_finite(names, [U, V] if magnitude is None or E > 1 else [U, V, magnitude])
        norms_of: Sequence[Tensor | None] = [None] * len(names)
        if magnitude is not None and E == 1:
            norms_of = magnitude.reshape(len(names), -1).unbind()
        is_certain = batch.is_whole and magnitude is None and not factors.doubt
        dtype = _dtype(batch.tensors)
        kept = zip(self._kept(U), self._kept(V), scales, norms_of, strict=True)
        modules = [
            LoraModule(
                piece_name,
                u,
                v,
                scale,
                factors.stored_rank,
                factors.shape,
                "multiplicative" if batch.form.offset else self._kind,
                factors.note,
                factors.kept,
                is_certain and name not in self._scales.assumed,
                norms,
                factors.is_embedding,
                tuple([key for key, _ in roles.values()]),
                dtype,
                (i, E),
                batch.form.offset,
                "diff" in roles,
            )
            for piece_name, (name, roles, i), (u, v, scale, norms) in zip(
                names, places, kept, strict=True
            )
        ]
        if self._take:
            self._take(modules, U, V)
        self._add_modules(batch, modules, factors.doubt)

    def _add_modules(self, batch: _Batch, modules: Sequence[LoraModule], doubt: str) -> None:
        for module in modules:
            if module.name in self.modules:
                self.second.append(module.name)
            self.modules[module.name] = module
        if doubt:
            self.doubtful.setdefault(doubt, []).extend(batch.names)
        for _, roles in batch.modules:
            self.families |= {part.family for _, part in roles.values() if part.family}
            self.used += len(roles)

    def _piece_name(self, name: str, i: int) -> str:
        """The name of the i-th expert of a module, as models without fused experts have it."""
        whole = self._settings.parameter(name) or name
        parent, _, last = whole.rpartition(".")
        if _EXPERTS.search(parent):
            return f"{_EXPERTS.sub('experts', parent)}.{i}.{last}"
        return f"{whole}.{i}"

    def _kept(self, X: Tensor) -> Sequence[Tensor]:
        """What modules keep of a factor (k, n, r): memory of their own, or only its shape."""
        if self._take:
            return [_shape_only(X.shape[1:])] * len(X)
        if len(X) == 1:
            return [X[0].contiguous()]
        return [x.clone(memory_format=torch.contiguous_format) for x in X.unbind()]


_EXPERTS = re.compile(r"(?<![^.])(experts|switch_mlp)$")
_WIDTHS = ("F8_E4M3", "F8_E5M2", "Q8_0", "F16", "BF16", "F32", "F64")
"""Types of factors, narrowest first."""
_SCALARS = ("alpha", "ranknum", "scale")


def _dtype(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    """The stored type of a module's factors, the widest of them."""
    dtypes = [d for role, (d, _) in tensors.items() if role not in (*_SCALARS, "magnitude")
             and not role.startswith("scale of ")]  # fmt: skip
    return max(dtypes, key=lambda d: _WIDTHS.index(d) if d in _WIDTHS else -1)


def _check_tensors(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raises Unusable for types and shapes that no family has."""
    for role, (dtype, shape) in tensors.items():
        if role in _SCALARS and math.prod(shape) != 1:
            raise Unusable(f"its {role} has {math.prod(shape)} numbers, not one")
        is_free = role in ("alpha", "shira_indices") or dtype == "Q8_0"
        is_scaled = dtype == "I8" and f"scale of {role}" in tensors
        if not is_free and not is_scaled and dtype not in FLOATS:
            raise Unusable(f"its {role} is {dtype}, not floating point")
        if len(shape) > 5:
            raise Unusable(f"its {role} has {len(shape)} dimensions")


def _unquantised(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Factors in 8 bits times their scales: one for all, or one a row, (k, 1 | rows, …)."""
    factors = {}
    for role, X in parts.items():
        scale = parts.get(f"scale of {role}")
        if role.startswith("scale of "):
            continue
        if scale is not None:
            rows = scale.reshape(len(scale), -1)
            if rows.shape[1] not in (1, X.shape[1] if X.dim() > 1 else 1):
                raise Unusable(f"the scale of its {role} has {rows.shape[1]} numbers")
            X = X * rows.view(len(rows), rows.shape[1], *[1] * (X.dim() - 2))
        factors[role] = X
    return factors


def _numbers(parts: Mapping[str, Tensor], role: str, count: int) -> Sequence[float | None]:
    """The number that each module of a batch has in this role."""
    return parts[role].flatten().tolist() if role in parts else [None] * count


@lru_cache(256)
def _shape_only(shape: torch.Size) -> Tensor:
    return torch.empty(shape, device="meta")


def _check_finite(names: Sequence[str], stacks: Sequence[Tensor]) -> None:
    """Raises WsdemoError if a tensor (k, …) of the k modules has NaN or infinite values."""
    if all(map(_is_finite, stacks)):
        return
    bad = next(n for n, tensors in zip(names, zip(*stacks, strict=True), strict=True)
               if not all(map(_is_finite, tensors)))  # fmt: skip
    raise WsdemoError(
        "Values that are not finite",
        f"Module {bad[:80]!r} holds NaN or infinite values, or an α that is.",
        "The training diverged; use an earlier checkpoint.",
    )


def _is_finite(X: Tensor) -> bool:
    """By the norm: in float32, where it may overflow, it spares almost every file the other."""
    return math.isfinite(torch.linalg.vector_norm(X)) or math.isfinite(
        torch.linalg.vector_norm(X, dtype=torch.float64)
    )
