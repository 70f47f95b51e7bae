"""Plain pairs and their kin: ΔW = B A with what stands between, beside or around the two."""

import torch
from torch import Tensor

from wsdemo.limits import MAX_MODULE_NUMBERS
from wsdemo.lora.factors import Factors, require, sides, within


def pairs(down: Tensor, up: Tensor) -> Factors:
    """ΔW = up · down of k modules at once; convolutions flattened to (out, in · kernel).

    Args:
        down: (k, r, m) or (k, r, in, kernel …).
        up: (k, n, r), with sides of 1 after it or not.
    """
    r = down.shape[1]
    require(
        down.dim() > 2 and up.dim() > 2 and up[0].numel() == up.shape[1] * r,
        f"the factors {sides(down[0], up[0])} have no rank in common",
    )
    U, V = up.view(*up.shape[:2], r), down.view(*down.shape[:2], -1).mT
    return Factors(U, V, r, (up.shape[1], *down.shape[2:]))


def tucker(down: Tensor, up: Tensor, mid: Tensor) -> Factors:
    """A pair with a Tucker core: ΔW[o, i, k] = Σ_ab up[o, a] mid[a, b, k] down[b, i]."""
    r = down.shape[0]
    require(
        mid.dim() >= 3 and mid.shape[1] == r and mid.shape[0] * up.shape[0] == up.numel(),
        f"the Tucker core {sides(mid)} does not fit the factors {sides(down, up)}",
    )
    within(mid.numel() // r * (down.numel() // r), MAX_MODULE_NUMBERS // 4, "its Tucker core")
    core = torch.einsum("abk,bi->ika", mid.flatten(2), down.reshape(r, -1))
    shape = (up.shape[0], down.reshape(r, -1).shape[1], *mid.shape[2:])
    return Factors(
        up.reshape(up.shape[0], -1), core.reshape(-1, mid.shape[0]), r, shape, "Tucker core"
    )


def embedding(A: Tensor, B: Tensor) -> Factors:
    """PEFT's embedding: ΔW (entries, width) = (B A)ᵀ with A (k, r, entries), B (k, width, r)."""
    require(A.dim() == B.dim() == 3 and A.shape[1] == B.shape[2], sides(A[0], B[0]))
    shape = (A.shape[2], B.shape[1])
    return Factors(A.mT, B, A.shape[1], shape, "embedding", is_embedding=True)


def mlx(a: Tensor, b: Tensor) -> Factors:
    """MLX: y = x a b, so ΔW = (a b)ᵀ with a (k, m, r), b (k, r, n)."""
    require(a.dim() == b.dim() == 3 and a.shape[2] == b.shape[1], sides(a[0], b[0]))
    return Factors(b.mT, a, a.shape[2], (b.shape[2], a.shape[1]))


def adalora(A: Tensor, B: Tensor, E: Tensor) -> Factors:
    """AdaLoRA: ΔW = B diag(E) A."""
    require(A.dim() == B.dim() == 2 and A.shape[0] == B.shape[1] == E.numel(), sides(A, B, E))
    return Factors(B * E.flatten(), A.T, A.shape[0], (B.shape[0], A.shape[1]), "AdaLoRA")


def kasa(A: Tensor, B: Tensor, diagonal: Tensor) -> Factors:
    """KaSA: ΔW = B diag(d) A, beside a base whose smallest singular values are cut away."""
    require(A.dim() == B.dim() == 3 and A.shape[1] == B.shape[2], sides(A[0], B[0]))
    require(diagonal[0].numel() == A.shape[1], sides(A[0], diagonal[0]))
    U = B * diagonal.reshape(len(B), 1, -1)
    shape = (B.shape[1], A.shape[2])
    return Factors(U, A.mT, A.shape[1], shape, "KaSA", doubt="KaSA also truncates the base")


def mlx_embedding(a: Tensor, b: Tensor) -> Factors:
    """MLX's embedding: ΔW (entries, width) = a b with a (k, entries, r), b (k, r, width)."""
    require(a.dim() == b.dim() == 3 and a.shape[2] == b.shape[1], sides(a[0], b[0]))
    shape = (a.shape[1], b.shape[2])
    return Factors(a, b.mT, a.shape[2], shape, "embedding", is_embedding=True)


def gguf_embedding(a: Tensor, b: Tensor) -> Factors:
    """llama.cpp's embedding: ΔW (entries, width) = a bᵀ with a (k, entries, r), b (k, width, r)."""
    require(a.dim() == b.dim() == 3 and a.shape[2] == b.shape[2], sides(a[0], b[0]))
    shape = (a.shape[1], b.shape[1])
    return Factors(a, b, a.shape[2], shape, "embedding", is_embedding=True)


def split(parts: dict[str, Tensor]) -> Factors:
    """kohya's split layers: rows i of ΔW are up_i down_i, one pair for each fused part.

    Args:
        parts: ``down.0``, ``up.0``, ``down.1`` …: (r, m) and (n_i, r).
    """
    count = sum(role.startswith("down.") and role[5:].isdigit() for role in parts)
    stored = [(parts.get(f"down.{i}"), parts.get(f"up.{i}")) for i in range(count)]
    pairs_ = [(down, up) for down, up in stored if down is not None and up is not None]
    require(2 * len(pairs_) == sum(r[:3] in ("dow", "up.") for r in parts), "a part has no pair")
    for down, up in pairs_:
        fits = down.dim() == up.dim() == 2 and up.shape[1] == down.shape[0]
        require(fits and down.shape[1] == pairs_[0][0].shape[1], sides(down, up))
    rank = sum(len(down) for down, _ in pairs_)
    rows = sum(len(up) for _, up in pairs_)
    within(rows * rank, MAX_MODULE_NUMBERS // 2, "its split pairs")
    U = torch.block_diag(*(up for _, up in pairs_))
    V = torch.cat([down for down, _ in pairs_]).T
    # The scale is α over the rank of one part, which all have.
    shape = (rows, len(V))
    return Factors(U, V, len(pairs_[0][0]), shape, f"{count} pairs for its parts")
