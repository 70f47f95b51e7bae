"""Updates that the file holds dense or sparse: as U Vᵀ by their singular values."""

import torch
from torch import Tensor

from wsdemo.limits import MAX_EXPANDED_RANK, MAX_MODULE_NUMBERS
from wsdemo.lora.decomposition import KEPT_ENERGY, decompose, expanded_rank
from wsdemo.lora.factors import Factors, require, sides, within


def _factored(W: Tensor, shape: tuple[int, ...], rank: int, what: str) -> Factors:
    """All of a small matrix; of a large one KEPT_ENERGY of it, if that many columns do."""
    energy = 1.0 if min(W.shape) <= MAX_EXPANDED_RANK else KEPT_ENERGY
    U, V, kept = decompose(W, energy, expanded_rank(*W.shape))
    note = f"{what}; {U.shape[1]} singular values keep {kept:.2%} of its energy"
    return Factors(U, V, rank or U.shape[1], shape, note, kept)


def difference(W: Tensor) -> Factors:
    """A whole difference ΔW (n, m) or (n, m, kernel …)."""
    matrix = W.reshape(W.shape[0], -1)
    return _factored(matrix, tuple(W.shape), min(matrix.shape), "full difference")


def c3a(kernel: Tensor) -> Factors:
    """C3A: ΔW in circulant blocks, ΔW[i·b + p, j·b + q] = kernel[i, j, (q − p) mod b] / m.

    Args:
        kernel: (n / b, m / b, b).
    """
    require(kernel.dim() == 3, f"a kernel of {sides(kernel)}")
    rows, columns, b = kernel.shape
    n, m = rows * b, columns * b
    within(n * m, MAX_MODULE_NUMBERS, "its update")
    steps = torch.arange(b)
    turned = kernel[:, :, (steps[None, :] - steps[:, None]) % b]  # (rows, columns, p, q)
    W = turned.permute(0, 2, 1, 3).reshape(n, m) / m
    return _factored(W, (n, m), 0, f"circulant blocks of {b}")


def shira(values: Tensor, places: Tensor) -> Factors:
    """SHiRA: ΔW is zero but at given places, ΔW[places[0, t], places[1, t]] = values[t].

    The size of the layer is not in the file; what lies beyond the last place is zero.
    """
    values, places = values.flatten(), places.round().long()
    require(places.shape == (2, len(values)), sides(values, places))
    require(bool((places >= 0).all()), "a place is negative")
    n, m = (int(x) + 1 for x in places.max(dim=1).values)
    within(n * m, MAX_MODULE_NUMBERS, "its update")
    W = torch.zeros(n, m).index_put_((places[0], places[1]), values, accumulate=True)
    return _factored(W, (n, m), 0, f"{len(values):,} single entries")
