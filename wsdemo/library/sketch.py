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
from wsdemo.lora.reading import Reading
from wsdemo.runtime import one_thread

DIMENSION = 1024
"""Numbers of a sketch: cosines of unrelated updates come out within ± 0.03."""
SIDE = 6
"""K: a module's update is seen through K² numbers."""


def canonical_modules(lora: Lora) -> Mapping[str, LoraModule]:
    """The modules by names that are equal in every program's spelling, fused ones split."""
    bases = candidates(lora)
    return by_table(lora, bases[0]) if bases else by_canonical_name(lora)


def sketch(lora: Lora) -> NDArray[np.float32]:
    """The sketch of an update, (DIMENSION,) float32."""
    with one_thread():
        return _sketch(canonical_modules(lora))


def fingerprint(reading: Reading) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(sketch, largest): the sketch, and the largest singular value of every module.

    The latter, (modules,) float32 in the order of the canonical names, is what a cut to lower rank
    leaves as it was, module by module.
    """
    lora = reading.whole()
    measured = {
        id(module.U): geometry.spectral
        for module, geometry in zip(lora.modules, reading.geometry.modules, strict=True)
    }
    with one_thread():
        modules = canonical_modules(lora)
        largest = [  # what a table has split or joined was not measured as it is
            measured[id(module.U)] if id(module.U) in measured else _spectral_norm(module)
            for _, module in sorted(modules.items())
        ]
        return _sketch(modules), np.array(largest, np.float32)


def _sketch(modules: Mapping[str, LoraModule]) -> NDArray[np.float32]:
    total = torch.zeros(DIMENSION, dtype=torch.float64)
    for name, module in modules.items():
        # The product with signs is a sum of some thousand numbers: float32 is exact to 1e-6.
        left = (_signs("rows", len(module.U)).T @ module.U).double()
        right = (_signs("columns", len(module.V)).T @ module.V).double()
        places, signs = _places(name)
        total.index_add_(0, places, (left @ right.T).flatten() * signs)
    return (total / SIDE).float().numpy()


def _spectral_norm(module: LoraModule) -> float:
    """σ₁ of U Vᵀ: that of an (r, r) matrix, by the products UᵀU and VᵀV (to 1e-5 of itself)."""
    gram_u, gram_v = ((X.double().T @ X.double()) for X in (module.U, module.V))
    # σ² are the eigenvalues of UᵀU VᵀV, which are those of Lᵀ VᵀV L with UᵀU = L Lᵀ.
    values, vectors = torch.linalg.eigh(gram_u)
    root = vectors * values.clamp(min=0).sqrt()
    return float(torch.linalg.eigvalsh(root.T @ gram_v @ root)[-1].clamp(min=0).sqrt())


@lru_cache(maxsize=64)
def _signs(side: str, count: int) -> Tensor:
    """(count, K) of ±1, the same for all modules of a side; float32."""
    return _random_signs(_generator(side, count), (count, SIDE)).float()


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
