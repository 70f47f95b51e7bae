"""A LoRA's update in a few numbers: linear, independent of its factors, keeping angles.

Of a module's ΔW (n, m) only Pᵀ ΔW Q (K, K) is kept, where P (n, K) and Q (m, K) have random signs,
and of all modules together their sum, each at random places and with random signs of its own
(a tensor sketch of Johnson and Lindenstrauss' kind):

    s(ΔW) = Σ_module  place_module( Pᵀ U (Qᵀ V)ᵀ ) / K

s is linear in ΔW and sees U and V through U Vᵀ alone; E ⟨s(a), s(b)⟩ = ⟨ΔW_a, ΔW_b⟩. So equal
updates have equal sketches, the sketch of a merge is the merge of the sketches, and a difference
is as small as its sketch is, give or take a few per cent.
"""

import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsdemo.lora.bases.canonical import by_table, candidates
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.names import by_canonical_name
from wsdemo.runtime import one_thread

DIMENSION = 1024
"""Numbers of a sketch: cosines of unrelated updates come out within ± 0.03."""
SIDE = 6
"""K: a module's update is seen through K² numbers."""


def canonical_modules(lora: Lora) -> Mapping[str, LoraModule]:
    """The modules by names that are equal in every program's spelling, fused ones split."""
    found = candidates(lora)
    return by_table(lora, found[0]) if found else by_canonical_name(lora)


def sketch(lora: Lora) -> NDArray[np.float32]:
    """The sketch of an update, (DIMENSION,) float32."""
    total = torch.zeros(DIMENSION, dtype=torch.float64)
    with one_thread():
        for name, module in canonical_modules(lora).items():
            left = _signs("rows", len(module.U)).T @ module.U.double()
            right = _signs("columns", len(module.V)).T @ module.V.double()
            places, signs = _places(name)
            total.index_add_(0, places, (left @ right.T).flatten() * signs)
    return (total / SIDE).float().numpy()


@lru_cache(maxsize=64)
def _signs(side: str, count: int) -> Tensor:
    """(count, K) of ±1, the same for all modules of a side."""
    return _random_signs(_generator(side, count), (count, SIDE))


@lru_cache(maxsize=20_000)
def _places(name: str) -> tuple[Tensor, Tensor]:
    """Where in the sketch a module's K² numbers go, and with which signs."""
    g = _generator("module", name)
    places = torch.randint(DIMENSION, (SIDE * SIDE,), generator=g)
    return places, _random_signs(g, (SIDE * SIDE,))


def _random_signs(g: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(2, shape, generator=g).double() * 2 - 1


def _generator(*key: object) -> torch.Generator:
    # crc32 rather than hash(): the same on every machine and in every process.
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))
