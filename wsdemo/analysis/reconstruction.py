"""How close a decoded picture is to its original."""

from skimage.metrics import structural_similarity
from torch import Tensor

from wsdemo.fields.fit import psnr_from_mse

MOST = 99.0
"""PSNR in dB of equal pictures."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """PSNR in dB of (…, 3, H, W) uint8 pictures, 10 log₁₀(255² / MSE) at most MOST: (…,)."""
    mse = (a.double() - b.double()).square().mean((-3, -2, -1))
    return psnr_from_mse(mse, peak=255.0).clamp(max=MOST)


def ssim(a: Tensor, b: Tensor) -> float:
    """SSIM of two (3, H, W) uint8 pictures: Wang et al.'s Gaussian window, σ = 1.5."""
    x, y = (t.permute(1, 2, 0).cpu().numpy() for t in (a, b))
    value = structural_similarity(
        x, y, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    return float(value)
