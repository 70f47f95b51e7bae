"""LoHa and LoKr: products of factors, written as U Vᵀ without multiplying them out."""

import math

import torch
from torch import Tensor

from wsdemo.limits import MAX_LOHA_PRODUCTS, MAX_MODULE_NUMBERS, MAX_RANK
from wsdemo.lora.decomposition import alive_svd, decompose, expanded_rank
from wsdemo.lora.factors import Factors, require, sides, within


def _tucker_factors(a: Tensor, b: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """One half of a LoHa: (n, r) and (m, r) of a b, or of the Tucker form with core t."""
    if t is None:
        return a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1).T
    # LyCORIS: rebuilt[i, j, k] = Σ_pq t[p, q, k] a[p, i] b[q, j].
    require(b.dim() == 2 and t.dim() > 2, sides(a, b, t))
    within(t.numel() // t.shape[1] * b.shape[1], MAX_MODULE_NUMBERS // 4, "its Tucker core")
    return a.T, torch.einsum("pqk,qj->jkp", t.flatten(2), b).reshape(-1, t.shape[0])


def loha(parts: dict[str, Tensor]) -> Factors:
    """LoHa: ΔW = (a₁ b₁) ⊙ (a₂ b₂) = Σ_ij (a₁ᵢ ⊙ a₂ⱼ)(b₁ᵢ ⊙ b₂ⱼ)ᵀ, of rank r² at most."""
    needed = [parts.get(f"hada_{k}") for k in ("w1_a", "w1_b", "w2_a", "w2_b")]
    require(all(t is not None for t in needed), "a LoHa needs w1_a, w1_b, w2_a and w2_b")
    a1, b1, a2, b2 = (t for t in needed if t is not None)
    t1, t2 = parts.get("hada_t1"), parts.get("hada_t2")
    (U1, V1), (U2, V2) = _tucker_factors(a1, b1, t1), _tucker_factors(a2, b2, t2)
    require(U1.shape == U2.shape and V1.shape == V2.shape, sides(a1, b1, a2, b2))
    (n, r), m = U1.shape, len(V1)
    shape = (n, *b1.shape[1:]) if t1 is None else (n, b1.shape[1], *t1.shape[2:])
    note = f"product of two rank-{r} factors"
    limit = expanded_rank(n, m)
    if r * r > limit:
        require(r <= MAX_RANK, f"rank {r}, of {MAX_RANK} allowed")
        within(n * m, MAX_MODULE_NUMBERS, "its update")
        require(n * m * r <= MAX_LOHA_PRODUCTS, f"rank {r} takes too long for its size {n}x{m}")
        W = torch.empty(n, m)
        for rows in torch.arange(n).split(512):
            torch.mul(U1[rows] @ V1.T, U2[rows] @ V2.T, out=W[rows[0] : rows[-1] + 1])
        U, V, kept = decompose(W, energy=1.0, limit=limit)
        return Factors(U, V, r, shape, f"{note}; kept {kept:.2%} of its energy", kept)
    U = (U1[:, :, None] * U2[:, None, :]).reshape(n, r * r)
    V = (V1[:, :, None] * V2[:, None, :]).reshape(m, r * r)
    return Factors(U, V, r, shape, note)


def lokr(parts: dict[str, Tensor]) -> Factors:
    """LoKr: ΔW = w₁ ⊗ w₂, whose singular vectors are the products of those of w₁ and w₂."""
    U1, s1, V1, whole1, r1 = _half(parts, "w1")
    U2, s2, V2, whole2, r2 = _half(parts, "w2")
    n, m = len(U1) * len(U2), len(V1) * len(V2)
    limit = expanded_rank(n, m)
    products = torch.outer(s1, s2)
    order = products.flatten().argsort(descending=True)
    total = whole1 * whole2
    rank = max(1, int((products > 0).sum()))
    kept = order[: min(rank, limit)]
    first, second = kept // len(s2), kept % len(s2)
    root = products.flatten()[kept].sqrt()
    U = (U1[:, None, first] * U2[None, :, second]).reshape(n, -1) * root
    V = (V1[:, None, first] * V2[None, :, second]).reshape(m, -1) * root
    share = min(1.0, float(root.double().pow(4).sum()) / total) if total > 0 else 1.0
    note = f"Kronecker product of ranks {len(s1)} and {len(s2)}"
    if len(kept) < rank:
        note += f"; kept {share:.2%} of its energy"
    # Only a second factor that is stored whole or with a core says what the kernel is.
    core = parts.get("lokr_t2" if {"lokr_w2_a", "lokr_w2_b"} <= set(parts) else "lokr_w2")
    kernel = tuple(core.shape[2:]) if core is not None else ()
    shape = (n, m // math.prod(kernel), *kernel)
    return Factors(U, V, r1 or r2 or len(kept), shape, note, share)


def _half(parts: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """One factor of a LoKr: as _svd, and its rank in the file.

    The rank is 0 if the factor is stored whole.
    """
    whole, a, b = (parts.get(f"lokr_{name}{k}") for k in ("", "_a", "_b"))
    core = parts.get("lokr_t2") if name == "w2" else None
    if a is not None and b is not None:
        U, V = _tucker_factors(a, b, core)
        require(U.shape[1] == V.shape[1], sides(a, b))
        r = b.shape[0]
        if min(len(U), len(V)) < U.shape[1]:
            return *alive_svd(U @ V.T), r
        Qu, Ru = torch.linalg.qr(U)
        Qv, Rv = torch.linalg.qr(V)
        left, s, right, whole_energy = alive_svd(Ru @ Rv.T)
        return Qu @ left, s, Qv @ right, whole_energy, r
    require(whole is not None, f"a LoKr needs {name}, or {name}_a and {name}_b")
    assert whole is not None
    return *alive_svd(whole.reshape(whole.shape[0], -1)), 0
