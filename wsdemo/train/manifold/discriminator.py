"""The second opinion of the adversarial stages: a small convolutional discriminator.

    D     min  E softplus(−D(x)) + E softplus(D(x̂)) + γ/2 E‖∇D(x)‖²     (R1, Mescheder et al., 2018)
    field min  L + a E softplus(−D(x̂)) + m Σ_l mean|D_l(x̂) − D_l(x)|    (feature matching)

x are data, x̂ decoded fields. Both go through the same random changes before D sees them (Zhao et
al., 2020, *DiffAugment*), by which a few thousand instances last longer.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (48, 96, 192, 192)
R1_EVERY = 4
"""Steps between two penalties, which then weigh so many times more."""
LEAK = 0.1
"""Slope outside [-1, 1] of what D sees: a hard bound has no gradient there, and leaves patches."""


class Discriminator(nn.Module):
    """Real or decoded? Halves the grid with every layer.

    Args:
        channels: Of what it sees.
        dims: 2 for pictures, 3 for grids of distances.
        size: Cells a side.
        widths: Channels of its layers.
    """

    def __init__(
        self, channels: int, dims: int, size: int, widths: tuple[int, ...] = WIDTHS
    ) -> None:
        super().__init__()
        convolution: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        pairs = itertools.pairwise((channels, *widths))
        self.layers = nn.ModuleList(convolution(a, b, 4, 2, 1) for a, b in pairs)
        cells = (size // 2 ** len(widths)) ** dims
        self.head = nn.Linear(widths[-1] * cells, 1)
        for layer in (*self.layers, self.head):
            nn.init.kaiming_normal_(layer.weight, 0.2)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(n, channels, …) → logits (n,), positive for data, and the features of every layer."""
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x.flatten(1)).squeeze(1), features


def leaky_bound(x: Tensor) -> Tensor:
    """x inside [-1, 1]; beyond, the bound and a tenth of what is beyond it."""
    inside = x.clamp(-1, 1)
    return inside + LEAK * (x - inside)


def outside(x: Tensor) -> Tensor:
    """Mean square of what lies outside [-1, 1], summed over channels: (n, P, c) → ()."""
    return (x - x.clamp(-1, 1)).square().sum(-1).mean()


def matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Σ_l mean |D_l(x̂) − D_l(x)|."""
    return torch.stack([(a - b).abs().mean() for a, b in zip(fake, real, strict=True)]).sum()


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """½ E‖∇D(x)‖² at data (n, channels, …)."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real)[0].sum(), real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def discriminator_loss(
    discriminator: Discriminator, real: Tensor, fakes: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss without R1, fakes of several kinds counting alike, and the share told apart."""
    sizes = [len(real), *(len(fake) for fake in fakes)]
    logits = discriminator(torch.cat([real, *fakes]))[0].split(sizes)
    fake_loss = torch.stack([F.softplus(fake).mean() for fake in logits[1:]]).mean()
    accuracy = (logits[0] > 0).float().mean() + (torch.cat(logits[1:]) < 0).float().mean()
    return F.softplus(-logits[0]).mean() + fake_loss, 0.5 * accuracy.detach()
