"""Principal directions of many vectors: of the weights' prior, of maps, and for telling classes."""

import torch
from torch import Tensor

LEAST = 1e-9
"""Sums of squares along a direction are at least this, so that none is divided by zero."""


def principal_directions(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The leading directions of (n, D) vectors of mean zero, by the smaller of their two Grams.

    Args:
        centred: Less their mean; float32, or float64 for a Gram in that.
        count: Directions wished for; there are at most min(n − 1, D).

    Returns:
        Sums of squares along each, (K,) falling, and the directions, (D, K) orthonormal, float64.
    """
    n, D = centred.shape
    K = min(count, n - 1, D)
    if n > D:
        values, vectors = torch.linalg.eigh((centred.T @ centred).double())
        return values.flip(0)[:K].clamp(min=LEAST), vectors.flip(1)[:, :K]
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())
    squares = values.flip(0)[:K].clamp(min=LEAST)
    return squares, centred.T.double() @ (vectors.flip(1)[:, :K] / squares.sqrt())
