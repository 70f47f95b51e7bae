"""From the tensors of one module to U and V, per family.

Each function names its formula. ΔW is never multiplied out, except by LoKr's small singular
value decompositions, a full difference's, and that of a LoHa of many ranks. What is built is
bounded before it is built.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.limits import (
    MAX_EXACT_SIDE,
    MAX_EXPANDED_RANK,
    MAX_FACTOR_NUMBERS,
    MAX_LOHA_PRODUCTS,
    MAX_MODULE_NUMBERS,
    MAX_RANK,
)

OVERSAMPLING = 16
"""Columns beyond those wished for, with which subspace iteration finds them well."""
KEPT_ENERGY = 0.999
"""Share of ‖ΔW‖² that a truncated decomposition keeps."""


@dataclass(frozen=True)
class Factors:
    """U (n, r) and V (m, r) before scaling; what r counts in the file; how they came about.

    Of k modules together, U (k, n, r) and V (k, m, r). ``kept`` is the share of ‖ΔW‖² that U Vᵀ
    holds, below 1 where columns were cut.
    """

    U: Tensor
    V: Tensor
    stored_rank: int
    shape: tuple[int, ...]
    note: str = ""
    kept: float = 1.0
    is_embedding: bool = False


class Unusable(Exception):
    """The tensors of a module do not fit together; the text says how."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise Unusable(text)


def _within(numbers: int, limit: int, what: str) -> None:
    _require(numbers <= limit, f"{what} has {numbers:,} numbers, of {limit:,} allowed")


def _sides(*tensors: Tensor) -> str:
    return " and ".join("x".join(map(str, t.shape)) for t in tensors)


def pairs(down: Tensor, up: Tensor) -> Factors:
    """ΔW = up · down of k modules at once; convolutions flattened to (out, in · kernel).

    Args:
        down: (k, r, m) or (k, r, in, kernel …).
        up: (k, n, r), with sides of 1 after it or not.
    """
    r = down.shape[1]
    _require(
        down.dim() > 2 and up.dim() > 2 and up[0].numel() == up.shape[1] * r,
        f"the factors {_sides(down[0], up[0])} have no rank in common",
    )
    U, V = up.view(*up.shape[:2], r), down.view(*down.shape[:2], -1).mT
    return Factors(U, V, r, (up.shape[1], *down.shape[2:]))


def tucker(down: Tensor, up: Tensor, mid: Tensor) -> Factors:
    """A pair with a Tucker core: ΔW[o, i, k] = Σ_ab up[o, a] mid[a, b, k] down[b, i]."""
    r = down.shape[0]
    _require(
        mid.dim() >= 3 and mid.shape[1] == r and mid.shape[0] * up.shape[0] == up.numel(),
        f"the Tucker core {_sides(mid)} does not fit the factors {_sides(down, up)}",
    )
    _within(mid.numel() // r * (down.numel() // r), MAX_MODULE_NUMBERS // 4, "its Tucker core")
    core = torch.einsum("abk,bi->ika", mid.flatten(2), down.reshape(r, -1))
    shape = (up.shape[0], down.reshape(r, -1).shape[1], *mid.shape[2:])
    return Factors(
        up.reshape(up.shape[0], -1), core.reshape(-1, mid.shape[0]), r, shape, "Tucker core"
    )


def embedding(A: Tensor, B: Tensor) -> Factors:
    """PEFT's embedding: ΔW (entries, width) = (B A)ᵀ with A (k, r, entries), B (k, width, r)."""
    _require(A.dim() == B.dim() == 3 and A.shape[1] == B.shape[2], _sides(A[0], B[0]))
    shape = (A.shape[2], B.shape[1])
    return Factors(A.mT, B, A.shape[1], shape, "embedding", is_embedding=True)


def mlx(a: Tensor, b: Tensor) -> Factors:
    """MLX: y = x a b, so ΔW = (a b)ᵀ with a (k, m, r), b (k, r, n)."""
    _require(a.dim() == b.dim() == 3 and a.shape[2] == b.shape[1], _sides(a[0], b[0]))
    return Factors(b.mT, a, a.shape[2], (b.shape[2], a.shape[1]))


def adalora(A: Tensor, B: Tensor, E: Tensor) -> Factors:
    """AdaLoRA: ΔW = B diag(E) A."""
    _require(A.dim() == B.dim() == 2 and A.shape[0] == B.shape[1] == E.numel(), _sides(A, B, E))
    return Factors(B * E.flatten(), A.T, A.shape[0], (B.shape[0], A.shape[1]), "AdaLoRA")


def _tucker_factors(a: Tensor, b: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """One half of a LoHa: (n, r) and (m, r) of a b, or of the Tucker form with core t."""
    if t is None:
        return a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1).T
    # LyCORIS: rebuilt[i, j, k] = Σ_pq t[p, q, k] a[p, i] b[q, j].
    _require(b.dim() == 2 and t.dim() > 2, _sides(a, b, t))
    _within(t.numel() // t.shape[1] * b.shape[1], MAX_MODULE_NUMBERS // 4, "its Tucker core")
    return a.T, torch.einsum("pqk,qj->jkp", t.flatten(2), b).reshape(-1, t.shape[0])


def loha(parts: dict[str, Tensor]) -> Factors:
    """LoHa: ΔW = (a₁ b₁) ⊙ (a₂ b₂) = Σ_ij (a₁ᵢ ⊙ a₂ⱼ)(b₁ᵢ ⊙ b₂ⱼ)ᵀ, of rank r² at most."""
    needed = [parts.get(f"hada_{k}") for k in ("w1_a", "w1_b", "w2_a", "w2_b")]
    _require(all(t is not None for t in needed), "a LoHa needs w1_a, w1_b, w2_a and w2_b")
    a1, b1, a2, b2 = (t for t in needed if t is not None)
    t1, t2 = parts.get("hada_t1"), parts.get("hada_t2")
    (U1, V1), (U2, V2) = _tucker_factors(a1, b1, t1), _tucker_factors(a2, b2, t2)
    _require(U1.shape == U2.shape and V1.shape == V2.shape, _sides(a1, b1, a2, b2))
    (n, r), m = U1.shape, len(V1)
    shape = (n, *b1.shape[1:]) if t1 is None else (n, b1.shape[1], *t1.shape[2:])
    note = f"product of two rank-{r} factors"
    limit = expanded_rank(n, m)
    if r * r > limit:
        _require(r <= MAX_RANK, f"rank {r}, of {MAX_RANK} allowed")
        _within(n * m, MAX_MODULE_NUMBERS, "its update")
        _require(n * m * r <= MAX_LOHA_PRODUCTS, f"rank {r} takes too long for its size {n}x{m}")
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


def expanded_rank(n: int, m: int) -> int:
    """How many columns a product of factors may take: what it costs in memory is bounded."""
    _within(n + m, MAX_FACTOR_NUMBERS, "a column of its factors")
    return max(1, min(MAX_EXPANDED_RANK, MAX_FACTOR_NUMBERS // (n + m), n, m))


def _half(parts: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """One factor of a LoKr: as _svd, and its rank in the file.

    The rank is 0 if the factor is stored whole.
    """
    whole, a, b = (parts.get(f"lokr_{name}{k}") for k in ("", "_a", "_b"))
    core = parts.get("lokr_t2") if name == "w2" else None
    if a is not None and b is not None:
        U, V = _tucker_factors(a, b, core)
        _require(U.shape[1] == V.shape[1], _sides(a, b))
        r = b.shape[0]
        if min(len(U), len(V)) < U.shape[1]:
            return *_svd(U @ V.T), r
        Qu, Ru = torch.linalg.qr(U)
        Qv, Rv = torch.linalg.qr(V)
        left, s, right, whole_energy = _svd(Ru @ Rv.T)
        return Qu @ left, s, Qv @ right, whole_energy, r
    _require(whole is not None, f"a LoKr needs {name}, or {name}_a and {name}_b")
    assert whole is not None
    return *_svd(whole.reshape(whole.shape[0], -1)), 0


def _svd(W: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Left vectors (n, k), singular values (k,), right vectors (m, k), and ‖W‖².

    Without the dead ones, and of a large W without those that no product of MAX_EXPANDED_RANK
    columns can use.
    """
    left, s, right, whole = _singular(W.float(), MAX_EXPANDED_RANK)
    alive = max(1, int((s > s[0] * 1e-7 * math.sqrt(len(s))).sum()))
    return left[:, :alive], s[:alive], right[:alive].T, whole


def decompose(
    W: Tensor, energy: float = KEPT_ENERGY, limit: int = MAX_RANK
) -> tuple[Tensor, Tensor, float]:
    """U, V with U Vᵀ ≈ W (n, m) by singular values, and the share of ‖W‖² kept."""
    left, s, right, total = _singular(W.float(), limit)
    r, kept = _kept(s, energy, limit, total)
    root = s[:r].sqrt()
    return left[:, :r] * root, right[:r].T * root, kept


def _singular(W: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Left vectors, singular values, right vectors in rows, and ‖W‖² = Σ σ² of all of them.

    Of a large matrix only about ``limit`` of them, by subspace iteration (Halko, Martinsson and
    Tropp 2011, algorithm 4.4): what it keeps is measured, and close to the most that can be kept.
    """
    if min(W.shape) <= max(MAX_EXACT_SIDE, limit + OVERSAMPLING):
        left, s, right = torch.linalg.svd(W, full_matrices=False)
        return left, s, right, float(s.double().square().sum())
    whole = sum(float(rows.double().square().sum()) for rows in W.split(512))
    start = torch.randn(
        W.shape[1], limit + OVERSAMPLING, generator=torch.Generator().manual_seed(0)
    )
    Q, _ = torch.linalg.qr(W @ start)
    for _ in range(2):
        Q, _ = torch.linalg.qr(W.T @ Q)
        Q, _ = torch.linalg.qr(W @ Q)
    left, s, right = torch.linalg.svd(Q.T @ W, full_matrices=False)
    found = float(s.double().square().sum())
    return Q @ left, s, right, whole if found < whole * (1 - 4e-6) else found  # to rounding: all


def _kept(s: Tensor, energy: float, limit: int, whole: float) -> tuple[int, float]:
    """How many of the singular values s are needed, and the share of the whole they hold."""
    if whole == 0:
        return 1, 1.0
    share = s.double().square().cumsum(0) / whole
    # Values below rounding are noise whatever the wish.
    real = int((s > s[0] * 1e-7 * math.sqrt(len(s))).sum())
    r = min(int((share < energy).sum()) + 1, max(1, real), limit)
    return r, float(share[r - 1])


def truncated(
    U: Tensor, V: Tensor, energy: float = 1.0, limit: int = MAX_RANK
) -> tuple[Tensor, Tensor, float]:
    """The same product U Vᵀ with fewer columns: thin QRs and the SVD of an (r, r) matrix.

    Returns:
        U (n, k), V (m, k), and the share of ‖U Vᵀ‖² kept, at least ``energy`` (but k is at
        most ``limit``).
    """
    Qu, Ru = torch.linalg.qr(U.float())
    Qv, Rv = torch.linalg.qr(V.float())
    a, b, kept = decompose(Ru @ Rv.T, energy, limit)
    return Qu @ a, Qv @ b, kept


def difference(W: Tensor) -> Factors:
    """A full difference ΔW by its leading singular values, KEPT_ENERGY of it."""
    matrix = W.reshape(W.shape[0], -1)
    U, V, kept = decompose(matrix, limit=expanded_rank(*matrix.shape))
    note = f"full difference; {U.shape[1]} singular values keep {kept:.2%} of its energy"
    return Factors(U, V, min(matrix.shape), tuple(W.shape), note, kept)
