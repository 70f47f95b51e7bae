"""Batches of LoRAs as tensors: which modules a family has, and its factors, padded to one rank.

A column of zeros in U and V adds nothing to U Vᵀ, so LoRAs of several ranks share a batch by
padding; a module that a LoRA lacks is a zero update, and is zero here too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lora.gauge import rotations, turned
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.names import by_canonical_name, canonical_names


@dataclass(frozen=True)
class Signature:
    """The modules of a family in one order.

    Attributes:
        shapes: Module → (n, m), the sides of U and V.
    """

    shapes: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, lora: Lora) -> "Signature":
        """The modules of one LoRA, in order of name."""
        shapes = {m.name: sides(m) for m in lora.modules}
        return cls(dict(sorted(shapes.items())))

    @cached_property
    def groups(self) -> list[tuple[tuple[int, int], list[str]]]:
        """Modules of equal shape, which are processed together."""
        groups: dict[tuple[int, int], list[str]] = {}
        for name, shape in self.shapes.items():
            groups.setdefault(shape, []).append(name)
        return list(groups.items())

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Canonical name of a module, which every program's spelling leads to → its own name."""
        return dict(zip(canonical_names(self.shapes), self.shapes, strict=True))

    @property
    def names(self) -> list[str]:
        """Every module, in the order of the groups."""
        return [name for _, names in self.groups for name in names]

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True)
class Pairs:
    """N LoRAs of one signature.

    Attributes:
        groups: Per group of L modules of equal shape: U (N, L, n, r) and V (N, L, m, r).
        is_canonical: Whether the columns of every U and V are orthogonal and fall in σ.
    """

    groups: tuple[tuple[Tensor, Tensor], ...]
    is_canonical: bool = False

    def __len__(self) -> int:
        return len(self.groups[0][0])

    @property
    def rank(self) -> int:
        """r, padding included."""
        return int(self.groups[0][0].shape[-1])

    def pick(self, index: Tensor | slice) -> "Pairs":
        """The LoRAs of an index or a slice."""
        return Pairs(tuple((U[index], V[index]) for U, V in self.groups), self.is_canonical)

    def chunks(self, count: int = 32) -> Iterator["Pairs"]:
        """A few LoRAs at a time, in float32 if they are kept in less."""
        for i in range(0, len(self), count):
            yield self.pick(slice(i, i + count)).in_full()

    def in_full(self) -> "Pairs":
        """In float32 if in less: what is kept of large families is in half precision."""
        return self.to(torch.float32) if self.groups[0][0].dtype == torch.float16 else self

    def to(self, dtype: torch.dtype | None = None, device: torch.device | None = None) -> "Pairs":
        """Returns a copy in a dtype, on a device."""
        groups = tuple((U.to(device, dtype), V.to(device, dtype)) for U, V in self.groups)
        return Pairs(groups, self.is_canonical)

    def padded(self, rank: int) -> "Pairs":
        """Columns of zeros up to a rank; a larger rank is cut to its first columns."""

        def fit(x: Tensor) -> Tensor:
            extra = rank - x.shape[-1]
            return torch.nn.functional.pad(x, (0, extra)) if extra > 0 else x[..., :rank]

        return Pairs(tuple((fit(U), fit(V)) for U, V in self.groups), self.is_canonical)

    def scaled(self, factor: float) -> "Pairs":
        """The same LoRAs at another strength: U is multiplied."""
        return Pairs(tuple((U * factor, V) for U, V in self.groups), self.is_canonical)

    @staticmethod
    def join(parts: Sequence["Pairs"]) -> "Pairs":
        """Batches one after the other, padded to the largest rank."""
        rank = max(p.rank for p in parts)
        padded = [p.padded(rank).groups for p in parts]
        return Pairs(
            tuple(
                (torch.cat([g[i][0] for g in padded]), torch.cat([g[i][1] for g in padded]))
                for i in range(len(padded[0]))
            ),
            all(p.is_canonical for p in parts),
        )


def by_family_name(lora: Lora, signature: Signature) -> dict[str, LoraModule]:
    """The modules by a family's names for them, however the file spells them.

    A module that the family does not have is under its canonical name.
    """
    names = signature.spellings
    return {names.get(name, name): module for name, module in by_canonical_name(lora).items()}


def sides(module: LoraModule) -> tuple[int, int]:
    """(n, m) of a module's U and V."""
    return module.U.shape[0], module.V.shape[0]


def pack(lora: Lora, signature: Signature) -> Pairs:
    """One LoRA as a batch of one. Modules may be spelt as any program spells them.

    Raises:
        WsdemoError: A module is not in the signature, or has another shape there.
    """
    modules = by_family_name(lora, signature)
    unknown = sorted(set(modules) - set(signature.shapes))
    if unknown:
        first = modules[unknown[0]].name
        raise WsdemoError(
            "Another set of modules",
            f"{first[:60]} and {len(unknown) - 1} more are not modules of this family"
            f" ({len(signature)} modules such as {next(iter(signature.shapes))}).",
            "Choose LoRAs of one base model and one set of target modules.",
        )
    for name, module in modules.items():
        if sides(module) != signature.shapes[name]:
            raise WsdemoError(
                "Another shape of module",
                f"{module.name[:60]} is {sides(module)}; expected {signature.shapes[name]}.",
                "Choose LoRAs of one base model.",
            )
    rank = max(m.rank for m in lora.modules)
    groups = []
    for (n, m), names in signature.groups:
        U, V = torch.zeros(1, len(names), n, rank), torch.zeros(1, len(names), m, rank)
        for i, name in enumerate(names):
            if name in modules:
                U[0, i, :, : modules[name].rank] = modules[name].U
                V[0, i, :, : modules[name].rank] = modules[name].V
        groups.append((U, V))
    return Pairs(tuple(groups))


def regauge_pairs(pairs: Pairs, generator: torch.Generator, condition: float = 10.0) -> Pairs:
    """(U R, V R⁻ᵀ) with a random R of at most this condition number, per module and LoRA."""
    groups = []
    for U, V in pairs.groups:
        n, count, _, r = U.shape
        left, right = rotations((n, count, r, r), generator)
        exponent = torch.rand(n, count, r, generator=generator).double() - 0.5
        groups.append(turned(U, V, left, condition**exponent, right))
    return Pairs(tuple(groups))
