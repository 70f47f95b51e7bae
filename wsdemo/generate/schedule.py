"""The forward process of DDPM: linear β from 1e-4 to 2e-2 (Paper A, 3.5).

x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε,   ᾱ_t = Π_{s ≤ t} (1 − β_s)
"""

import torch
from torch import Tensor

STEPS = 1000


def alphas_bar(steps: int = STEPS) -> Tensor:
    """Returns (steps,) float32 ᾱ_t for t = 0 … steps − 1."""
    betas = torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0).float()


def add_noise(x: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t for (n, D) x_0 and noise at (n,) ᾱ."""
    a = alpha_bar[:, None]
    return a.sqrt() * x + (1 - a).sqrt() * noise


def ddim_times(count: int, steps: int = STEPS) -> list[int]:
    """``count`` times from steps − 1 down to 0, evenly spaced."""
    if count == 1:
        return [steps - 1]
    return [round((steps - 1) * (1 - i / (count - 1))) for i in range(count)]
