"""Other factors of the same product: U Vᵀ = (U R)(V R⁻ᵀ)ᵀ for any invertible R.

LoRAs, batches of them and fields are re-gauged by these two functions; each draws the singular
values of R in a range of its own, and what a mask leaves free there is none of this.
"""

import torch
from torch import Tensor


def rotations(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Two random orthogonal (…, r, r) in float64, of Gaussian matrices drawn in ``dtype``."""
    left, right = (
        torch.linalg.qr(torch.randn(*shape, generator=generator, dtype=dtype).double())[0]
        for _ in range(2)
    )
    return left, right


def turned(U: Tensor, V: Tensor, left: Tensor, s: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """(U R, V R⁻ᵀ) with R = left diag(s) right, computed in float64.

    Args:
        U: (…, n, r) float.
        V: (…, m, r) float.
        left: (…, r, r) orthogonal.
        s: (…, r) positive; the condition of R is their ratio.
        right: (…, r, r) orthogonal.
    """
    s = s[..., None, :]
    return (U.double() @ (left * s) @ right).to(U), (V.double() @ (left / s) @ right).to(V)
