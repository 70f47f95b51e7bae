"""The canonical form of an update: U Vᵀ = P diag(σ) Qᵀ, by two thin QRs and a small SVD.

The product is never formed (``lora.decomposition.factored``). All factors of one update lead to
the same σ, and to the same P and Q but for the sign of each pair of columns, where no two σ are
equal.
"""

from dataclasses import replace

import torch
from torch import Tensor

from wsdemo.lol.data.pairs import Pairs
from wsdemo.lora.decomposition import factored

NOTHING = 1e-7
"""Singular values below this share of the largest are rounding: they are zero."""


def svd(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P (…, n, k), σ (…, k) falling, Q (…, m, k) of (…, n, r) and (…, m, r), k = min(r, n, m).

    In float64; columns whose σ is zero are zero.
    """
    P, s, Q = factored(U.double(), V.double())
    s = torch.where(s > NOTHING * s[..., :1].clamp(min=1e-30), s, 0.0)
    seen = (s > 0)[..., None, :]
    return P * seen, s, Q * seen


def canonical(pairs: Pairs, rank: int | None = None) -> Pairs:
    """The same updates as U = P √σ, V = Q √σ, columns falling in σ.

    Args:
        pairs: LoRAs.
        rank: Columns kept, the best approximation of that rank; default: all. Fewer columns are
            padded with zeros.
    """
    if pairs.is_canonical:
        return pairs if rank is None else pairs.padded(rank)
    groups = []
    for U, V in pairs.groups:
        P, s, Q = svd(U, V)
        root = s.sqrt()[..., None, :]
        groups.append(((P * root).to(U), (Q * root).to(V)))
    widest = max(U.shape[-1] for U, _ in groups)
    same = Pairs(tuple(groups)).padded(widest if rank is None else rank)
    return replace(same, is_canonical=True)


def singular_values(pairs: Pairs) -> list[Tensor]:
    """Per group (N, L, r) float64, falling."""
    values = []
    for U, V in pairs.groups:
        if pairs.is_canonical:
            values.append(U.double().norm(dim=-2) * V.double().norm(dim=-2))
            continue
        Ru = torch.linalg.qr(U.double(), mode="r").R
        Rv = torch.linalg.qr(V.double(), mode="r").R
        values.append(torch.linalg.svdvals(Ru @ Rv.mT))
    return values


def thinned(pairs: Pairs, modules: float, energy: float) -> Pairs:
    """Canonical LoRAs that lack some modules and their weakest directions, at random.

    Draws from torch's global generator.

    Args:
        pairs: Canonical.
        modules: Chance of each module to be left out.
        energy: Every LoRA keeps a share of each ‖U Vᵀ‖² between this and 1: the fewest columns
            that hold it.
    """
    keep = energy + (1 - energy) * torch.rand(len(pairs), 1, 1)
    groups = []
    for (U, V), s in zip(pairs.groups, singular_values(pairs), strict=True):
        square = s.square()
        before = square.cumsum(-1) - square
        is_kept = before < keep.to(s) * square.sum(-1, keepdim=True)
        is_kept &= torch.rand(*U.shape[:2], 1) >= modules
        groups.append((U * is_kept[..., None, :], V * is_kept[..., None, :]))
    return Pairs(tuple(groups), is_canonical=True)
