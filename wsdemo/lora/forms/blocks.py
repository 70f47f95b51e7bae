"""Updates made of blocks: rows, columns or tiles of ΔW with a pair each, exactly as U Vᵀ."""

from collections.abc import Callable

import torch
from torch import Tensor

from wsdemo.limits import MAX_MODULE_NUMBERS
from wsdemo.lora.factors import Factors, require, sides, within


def merged(enabled: tuple[bool, ...], doubt: str = "") -> Callable[[Tensor, Tensor], Factors]:
    """MergedLinear (loralib): some equal parts of a fused layer's rows have a pair each.

    Args:
        enabled: Of the parts, in order of rows; the others stay as they are.
        doubt: Why it is not sure which parts these are.

    Returns:
        A (k, g·r, m), B (k, g·n/parts, r[, 1]) → rows of the i-th enabled part:
        B[i] A[i·r : (i+1)·r].
    """
    places = [i for i, is_on in enumerate(enabled) if is_on]
    groups = len(places)

    def factors(A: Tensor, B: Tensor) -> Factors:
        k = len(A)
        B = B.flatten(2)
        r = B.shape[2]
        require(
            A.dim() == 3 and A.shape[1] == groups * r and B.shape[1] % groups == 0,
            f"the factors {sides(A[0], B[0])} are no {groups} groups of one rank",
        )
        rows = B.shape[1] // groups
        within(len(enabled) * rows * groups * r, MAX_MODULE_NUMBERS // 2, "its grouped factor")
        U = B.new_zeros(k, len(enabled), rows, groups, r)
        for group, place in enumerate(places):
            U[:, place, :, group] = B[:, group * rows : (group + 1) * rows]
        n = len(enabled) * rows
        note = f"{groups} pairs for {len(enabled)} parts of a fused layer"
        return Factors(U.view(k, n, groups * r), A.mT, r, (n, A.shape[2]), note, doubt=doubt)

    return factors


def qalora(group: int) -> Callable[[Tensor, Tensor], Factors]:
    """QALoRA: A sees the mean of each ``group`` inputs, times how many groups there are.

    Returns:
        A (k, r, p), B (k, n, r) → ΔW[:, j·group + t] = p / group · (B A)[:, j].
    """

    def factors(A: Tensor, B: Tensor) -> Factors:
        require(A.dim() == B.dim() == 3 and A.shape[1] == B.shape[2], sides(A[0], B[0]))
        pooled = A.shape[2]
        within(pooled * group * A.shape[1], MAX_MODULE_NUMBERS // 2, "its pooled factor")
        V = A.mT.repeat_interleave(group, dim=1) * (pooled / group)
        shape = (B.shape[1], pooled * group)
        return Factors(B, V, A.shape[1], shape, f"inputs pooled by {group}")

    return factors


def _block_diagonal(X: Tensor, blocks: int) -> Tensor:
    """(k, blocks · a, b), blocks one below the other → (k, blocks · a, blocks · b)."""
    k, rows, columns = X.shape
    require(rows % blocks == 0, f"{rows} rows are no {blocks} blocks")
    within(rows * columns * blocks, MAX_MODULE_NUMBERS // 2, "its block-diagonal factor")
    full = X.new_zeros(k, blocks, rows // blocks, blocks, columns)
    for i, block in enumerate(X.unflatten(1, (blocks, -1)).unbind(1)):
        full[:, i, :, i] = block
    return full.view(k, rows, blocks * columns)


def block_diagonal(side: str, blocks: int) -> Callable[[Tensor, Tensor], Factors]:
    """BD-LoRA: A or B is block-diagonal, its blocks stored one below the other.

    Args:
        side: ``A``, stored (r, m / blocks), or ``B``, stored (n, r / blocks).
        blocks: How many.
    """

    def factors(A: Tensor, B: Tensor) -> Factors:
        require(A.dim() == B.dim() == 3, sides(A[0], B[0]))
        if side == "A":
            A = _block_diagonal(A, blocks)
        else:
            B = _block_diagonal(B, blocks)
        require(A.shape[1] == B.shape[2], sides(A[0], B[0]))
        shape = (B.shape[1], A.shape[2])
        return Factors(B, A.mT, A.shape[1], shape, f"{side} of {blocks} diagonal blocks")

    return factors


def gralora(parts: dict[str, Tensor]) -> Factors:
    """GraLoRA: ΔW in g·g tiles, tile (j, i) = B[j, i]ᵀ A[i, j]ᵀ of rank r / g each.

    Args:
        parts: ``gralora_A`` (g, m/g, r) and ``gralora_B`` (g, r, n/g), where r is g slices of
            r/g for the other side's tiles; perhaps a plain pair for the whole beside them.
    """
    A, B = parts["gralora_A"], parts["gralora_B"]
    require(A.dim() == B.dim() == 3, sides(A, B))
    g, columns, r = A.shape
    require(B.shape[:2] == (g, r) and r % g == 0, f"the factors {sides(A, B)} are no tiles")
    rows, s = B.shape[2], r // g
    within(g * max(rows, columns) * g * r, MAX_MODULE_NUMBERS // 2, "its tiled factor")
    U, V = A.new_zeros(g, rows, g, g, s), A.new_zeros(g, columns, g, g, s)  # columns (j, i, s)
    for j in range(g):
        U[j, :, j] = B[j].view(g, s, rows).permute(2, 0, 1)
    for i in range(g):
        V[i, :, :, i] = A[i].view(columns, g, s)
    U, V = U.view(g * rows, -1), V.view(g * columns, -1)
    whole = [parts.get(f"gralora_{x}_general") for x in "AB"]
    hybrid = 0
    if whole[0] is not None and whole[1] is not None:
        a, b = whole[0], whole[1]
        hybrid = len(a)
        require(a.dim() == b.dim() == 2 and b.shape == (len(U), hybrid), sides(a, b))
        require(a.shape[1] == len(V), sides(a, b))
        U, V = torch.cat([U, b], 1), torch.cat([V, a.T], 1)
    require((whole[0] is None) == (whole[1] is None), "half of its plain pair is missing")
    return Factors(U, V, r + hybrid, (len(U), len(V)), f"{g}x{g} tiles")


def miss(n: int, m: int) -> Callable[[Tensor], Factors]:
    """MiSS and Bone: one block of r columns repeats over all inputs.

    Args:
        n: Rows of the layer, which the block's may divide.
        m: Its columns.

    Returns:
        block (k, r, n / c) → ΔW[i, j] = block[j mod r, i mod (n / c)].
    """

    def factors(block: Tensor) -> Factors:
        require(block.dim() == 3 and n % block.shape[2] == 0, f"a block of {sides(block[0])}")
        k, r, rows = block.shape
        within((n + m) * r, MAX_MODULE_NUMBERS // 2, "its repeated block")
        U = block.mT.repeat(1, n // rows, 1)
        V = torch.eye(r, dtype=block.dtype).repeat(-(-m // r), 1)[:m].expand(k, m, r)
        return Factors(U, V, r, (n, m), f"a block of {r} columns, repeated")

    return factors
