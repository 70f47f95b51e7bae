"""From grouped tensors to modules: those of one layout are read, converted and judged together.

A tensor of some kB costs more to create than to read, and a file has hundreds of them, but few
layouts. So k plain pairs of the same types and shapes become one (k, …) tensor a role.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError, refuse_lack_of_memory
from wsdemo.limits import MAX_EXPANDED_NUMBERS, MAX_MODULE_NUMBERS, MAX_RANK
from wsdemo.lora import convert
from wsdemo.lora.convert import Factors, Unusable
from wsdemo.lora.keys import Part
from wsdemo.lora.modules import IgnoredKey, LoraModule
from wsdemo.lora.scales import Scales
from wsdemo.safetensors_header import Header

BATCH_NUMBERS = 2**21
"""Numbers of modules that are read together: 8 MB. More is not faster."""
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}

Roles = Mapping[str, tuple[str, Part]]
"""Role → (key, part) of one module."""
Read = Callable[[Sequence[str]], Tensor]
"""The keys of k tensors of one type and shape → (k, …) float32."""
Take = Callable[[Sequence[LoraModule], Tensor, Tensor], None]
"""Takes k modules of one shape with their U (k, n, r) and V (k, m, r)."""


@dataclass(frozen=True, eq=False)
class Form:
    """One way to read a module.

    Attributes:
        needs: The roles that it needs.
        may: Those that it may have; if it needs none, it is enough to have one of them.
        factors: Role → (k, …) of k modules, to U (k, n, r) and V (k, m, r).
        is_stacked: Whether k may be more than 1.
    """

    needs: frozenset[str]
    may: frozenset[str]
    factors: Callable[[dict[str, Tensor]], Factors]
    is_stacked: bool

    def fits(self, roles: Collection[str]) -> bool:
        """Whether a module with these roles can be read so."""
        return self.needs.issubset(roles) if self.needs else not self.may.isdisjoint(roles)

    def reads(self, role: str) -> bool:
        """Whether the tensor of this role is then read."""
        return role in self.needs or role in self.may or role in ("alpha", "magnitude")


def _form(factors: Callable[[dict[str, Tensor]], Factors], needs: str = "", may: str = "") -> Form:
    def of_one(parts: dict[str, Tensor]) -> Factors:
        found = factors({role: stack[0] for role, stack in parts.items()})
        return replace(found, U=found.U[None], V=found.V[None])

    return Form(frozenset(needs.split()), frozenset(may.split()), of_one, is_stacked=False)


def _stacked(factors: Callable[[Tensor, Tensor], Factors], *needs: str) -> Form:
    def of_all(parts: dict[str, Tensor]) -> Factors:
        return factors(*(parts[role] for role in needs))

    return Form(frozenset(needs), frozenset(), of_all, is_stacked=True)


_FORMS = (
    _form(convert.loha, may="hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 hada_t2"),
    _form(convert.lokr, may="lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2"),
    _form(lambda p: convert.tucker(p["down"], p["up"], p["mid"]), "down up mid"),
    _stacked(convert.pairs, "down", "up"),
    _form(lambda p: convert.adalora(p["A"], p["B"], p["E"]), "A B E", "ranknum"),
    _stacked(convert.pairs, "A", "B"),
    _stacked(convert.embedding, "embedding_A", "embedding_B"),
    _stacked(convert.mlx, "mlx_a", "mlx_b"),
    _stacked(convert.pairs, "vit_a", "vit_b"),
    _stacked(convert.pairs, "own_A", "own_B"),
    _form(lambda p: convert.difference(p["diff"]), "diff"),
)  # fmt: skip
"""In order: a module that allows several is read by the first; its other tensors are ignored."""


@lru_cache(256)
def form_of(roles: tuple[str, ...]) -> Form | None:
    """The way to read a module with these roles, None if there is none."""
    return next((form for form in _FORMS if form.fits(roles)), None)


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
        """Of the modules."""
        return [name for name, _ in self.modules]

    def keys(self, role: str) -> list[str]:
        """Of the tensors that have this role."""
        return [roles[role][0] for _, roles in self.modules]


_SECOND = "a second update of its module, beside the one that is read"


class Assembly:
    """Turns the tensors of a file into modules.

    Attributes:
        modules: Name → module.
        ignored: Name → tensors of that module that were left out.
        problems: Name → why the module was left out, where its tensors do not fit.
        halves: How many modules have no pair.
        second: Names of modules of which a second update was left out.
        alphas: The distinct α.
        families: Of the keys that were used.
        used: How many tensors are part of the update.
    """

    def __init__(
        self, read: Read, header: Header, scales: Scales, kind: str, take: Take | None
    ) -> None:
        """With ``take`` the factors go there, and only their shapes are kept."""
        self._read, self._header, self._scales = read, header, scales
        self._kind, self._take = kind, take
        self._expanded = 0  # numbers of the factors beyond those that the file stores
        self.modules: dict[str, LoraModule] = {}
        self.ignored: dict[str, list[IgnoredKey]] = {}
        self.problems: dict[str, str] = {}
        self.halves = 0
        self.second: list[str] = []
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
                    self._ignore(name, roles, problem)
                    self.problems[name] = problem
            else:
                self._convert(batch, parts, factors)

    def _ignore(self, name: str, roles: Roles, why: str) -> None:
        left = self.ignored.setdefault(name, [])
        left += [IgnoredKey(key, why) for key, _ in roles.values()]

    def _batches(self, groups: Mapping[str, Roles]) -> Iterator[_Batch]:
        """Modules of one layout together, BATCH_NUMBERS at a time; one by one if not stacked."""
        waiting: dict[object, _Batch] = {}
        for name in sorted(groups):
            roles = groups[name]
            form = form_of(tuple(roles))
            if form is None:
                self._ignore(
                    name, roles, f"its module has only {', '.join(sorted(roles))}: no pair"
                )
                self.halves += not {"alpha", "magnitude"}.issuperset(roles)
                continue
            others = {role: place for role, place in roles.items() if not form.reads(role)}
            if others:
                self.second.append(name)
                self._ignore(name, others, _SECOND)
                roles = {role: place for role, place in roles.items() if role not in others}
            tensors = {role: self._header.tensors[key] for role, (key, _) in roles.items()}
            layout = (form, not others, *tensors.items())
            if layout not in waiting:
                numbers = sum(math.prod(shape) for _, shape in tensors.values())
                waiting[layout] = _Batch(form, not others, tensors, numbers)
            batch = waiting[layout]
            batch.modules.append((name, roles))
            if not form.is_stacked or len(batch.modules) * batch.numbers >= BATCH_NUMBERS:
                yield waiting.pop(layout)
        yield from waiting.values()

    def _factors(self, batch: _Batch) -> tuple[dict[str, Tensor], Factors]:
        """The tensors (k, …) of k modules of one layout, and their factors, within bounds."""
        # 64-bit numbers count twice, as the file's pages stay in memory beside the copy.
        stored = sum(
            math.prod(shape) * (1 + (dtype == "F64")) for dtype, shape in batch.tensors.values()
        )
        if stored > MAX_MODULE_NUMBERS:
            raise Unusable(f"{stored:,} numbers, of {MAX_MODULE_NUMBERS:,} allowed")
        _check_tensors(batch.tensors)
        parts = {role: self._read(batch.keys(role)) for role in batch.tensors}
        factors = batch.form.factors(parts)
        rank = factors.U.shape[-1] if "diff" in parts else factors.stored_rank
        if rank > MAX_RANK:
            raise Unusable(f"rank {rank}, of {MAX_RANK} allowed")
        numbers = factors.U[0].numel() + factors.V[0].numel()
        if numbers > MAX_MODULE_NUMBERS // 2:
            raise Unusable(f"its factors have {numbers:,} numbers")
        self._expanded += max(0, numbers - stored) * len(batch.modules)
        if self._expanded > MAX_EXPANDED_NUMBERS:
            raise Unusable("the factors of this file expand to more than 2 GB")
        return parts, factors

    def _convert(self, batch: _Batch, parts: Mapping[str, Tensor], factors: Factors) -> None:
        """Folds the scales in, judges the values, and adds the modules."""
        names = batch.names
        alphas, counts = (_numbers(parts, role, len(names)) for role in ("alpha", "ranknum"))
        scales = [
            self._scales.of(name, parts, factors.stored_rank, alpha, count)
            for name, alpha, count in zip(names, alphas, counts, strict=True)
        ]
        U, V, magnitude = factors.U, factors.V, parts.get("magnitude")
        if any(scale != 1 for scale in scales):
            U = U * torch.tensor(scales, dtype=torch.float64).float()[:, None, None]
        _check_finite(names, [U, V] if magnitude is None else [U, V, magnitude])
        norms_of: Sequence[Tensor | None] = [None] * len(names)
        if magnitude is not None:
            norms_of = magnitude.reshape(len(names), -1).unbind()
        rows = zip(names, self._kept(U), self._kept(V), scales, norms_of, strict=True)
        is_certain = batch.is_whole and magnitude is None
        modules = [
            LoraModule(
                name,
                u,
                v,
                scale,
                factors.stored_rank,
                factors.shape,
                self._kind,
                factors.note,
                factors.kept,
                is_certain and name not in self._scales.assumed,
                norms,
                factors.is_embedding,
            )
            for name, u, v, scale, norms in rows
        ]
        if self._take:
            self._take(modules, U, V)
        self.modules |= zip(names, modules, strict=True)
        self.alphas.update(alpha for alpha in alphas if alpha is not None)
        for _, roles in batch.modules:
            self.families |= {part.family for _, part in roles.values() if part.family}
        self.used += len(names) * len(parts)

    def _kept(self, X: Tensor) -> Sequence[Tensor]:
        """What modules keep of a factor (k, n, r): memory of their own, or only its shape."""
        if self._take:
            return [_shape_only(X.shape[1:])] * len(X)
        if len(X) == 1:
            return [X[0].contiguous()]
        return [x.clone(memory_format=torch.contiguous_format) for x in X.unbind()]


def _check_tensors(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raises Unusable for types and shapes that no family has."""
    for role, (dtype, shape) in tensors.items():
        if role in ("alpha", "ranknum") and math.prod(shape) != 1:
            raise Unusable(f"its {role} has {math.prod(shape)} numbers, not one")
        if role != "alpha" and dtype not in FLOATS:
            raise Unusable(f"its {role} is {dtype}, not floating point")
        if len(shape) > 5:
            raise Unusable(f"its {role} has {len(shape)} dimensions")


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
    bad = next(n for n, own in zip(names, zip(*stacks, strict=True), strict=True)
               if not all(map(_is_finite, own)))  # fmt: skip
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
