"""A matrix, or a product of two, as U Vᵀ with few columns: by singular values, within bounds."""

import math

import torch
from torch import Tensor

from wsdemo.limits import MAX_EXACT_SIDE, MAX_EXPANDED_RANK, MAX_FACTOR_NUMBERS, MAX_RANK
from wsdemo.lora.factors import within

OVERSAMPLING = 16
"""Columns beyond those wished for, with which subspace iteration finds them well."""
KEPT_ENERGY = 0.999
"""Share of ‖ΔW‖² that a truncated decomposition keeps."""


def expanded_rank(n: int, m: int) -> int:
    """How many columns a product of factors may take: what it costs in memory is bounded."""
    within(n + m, MAX_FACTOR_NUMBERS, "a column of its factors")
    return max(1, min(MAX_EXPANDED_RANK, MAX_FACTOR_NUMBERS // (n + m), n, m))


def alive_svd(W: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
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
    kept = float(s.double().square().sum())
    return Q @ left, s, right, whole if kept < whole * (1 - 4e-6) else kept  # to rounding: all


def _kept(s: Tensor, energy: float, limit: int, whole: float) -> tuple[int, float]:
    """How many of the singular values s are needed, and the share of the whole they hold."""
    if whole == 0:
        return 1, 1.0
    share = s.double().square().cumsum(0) / whole
    # Values below rounding are noise whatever the wish.
    real = int((s > s[0] * 1e-7 * math.sqrt(len(s))).sum())
    r = min(int((share < energy).sum()) + 1, max(1, real), limit)
    return r, float(share[r - 1])


def factored(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U Vᵀ = P diag(σ) Qᵀ by thin QRs and the SVD of an (r, r) matrix, O((n + m) r²).

    Args:
        U: (…, n, r) float32 or float64, in which all is computed.
        V: (…, m, r).

    Returns:
        P (…, n, k) and Q (…, m, k) with orthonormal columns, σ (…, k) falling, k = min(n, m, r).
    """
    Qu, Ru = torch.linalg.qr(U)
    Qv, Rv = torch.linalg.qr(V)
    left, s, right = torch.linalg.svd(Ru @ Rv.mT, full_matrices=False)
    return Qu @ left, s, Qv @ right.mT


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
