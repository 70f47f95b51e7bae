"""How close a decoded picture is to its original."""

import numpy as np
from skimage.metrics import structural_similarity
from torch import Tensor


def psnr(a: Tensor, b: Tensor) -> float:
    """PSNR in dB of two (3, H, W) uint8 pictures, 10 log₁₀(255² / MSE); 99 if equal."""
    mse = float((a.double() - b.double()).square().mean())
    return 99.0 if mse == 0 else 10 * float(np.log10(255.0**2 / mse))


def ssim(a: Tensor, b: Tensor) -> float:
    """SSIM of two (3, H, W) uint8 pictures: Wang et al.'s Gaussian window, σ = 1.5."""
    x, y = (t.permute(1, 2, 0).cpu().numpy() for t in (a, b))
    value = structural_similarity(
        x, y, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    return float(value)
