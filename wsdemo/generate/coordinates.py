"""A denoiser that reads and writes principal coordinates alone: a residual MLP.

Where instances are few, their weights are kept to the span of K principal directions. Rank-one
pairs would repeat what the coordinates say, and a transformer over a handful of coordinate
tokens learns the joint shape of so small a set far more slowly than one wide hidden layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsdemo.generate.mixture import Mixture
from wsdemo.generate.transformer import time_embedding


@dataclass(frozen=True)
class CoordinateConfig:
    """The shape of the network."""

    coordinates: int
    """Leading principal coordinates read and written; the prior alone draws the others."""
    attributes: int = 0
    """Entries of the condition, each −1, 0 (unknown) or 1."""
    width: int = 512
    """Width of the residual stream."""
    depth: int = 3
    """Residual blocks."""
    components: int = 0
    """Gaussians of the mixture beside it (mixture.py); 0: none."""
    mixed: int = 0
    """Leading coordinates that the mixture describes."""
    hears: bool = False
    """Whether the mixture hears the condition, of exclusive categories, and nothing else does."""

    @property
    def summary(self) -> int:
        """Coordinates read, by the name that the transformer gives them."""
        return self.coordinates


class CoordinateNetwork(nn.Module):
    """F(y_t, t, attributes): (n, K) whitened coordinates → the residual noise along them.

    h ← h + W₂ φ(W₁ (LN(h) · (1 + s(c)) + b(c))), with c the embedded time and condition, and
    F = W h. Beside a mixture it adds what the condition c changes, F(c) − F(∅); nothing, if the
    mixture hears the condition itself.

    Attributes:
        mixture: What is known in closed form beyond the Gaussian prior, and not to be learnt.
    """

    def __init__(self, config: CoordinateConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU())
        self.attributes = nn.Linear(max(1, config.attributes), width, bias=False)
        self.read = nn.Linear(config.coordinates, width)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width, elementwise_affine=False) for _ in range(config.depth)
        )
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(config.depth))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(config.depth)
        )
        self.write = nn.Linear(width, config.coordinates)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)
        self.mixture: Mixture | None = None
        if config.components:
            heard = config.attributes if config.hears else 0
            self.mixture = Mixture(config.components, config.mixed, heard)

    def forward(self, y: Tensor, t: Tensor, attributes: Tensor) -> Tensor:
        """(n, K) coordinates of unit variance, (n,) times, (n, a) condition → (n, K)."""
        if self.mixture is None:
            return self.learnt(y, t, attributes)
        known: Tensor = self.mixture(y, t, attributes)
        if self.config.hears or not bool(attributes.any()):
            return known
        nothing = self.learnt(y, t, torch.zeros_like(attributes))
        return known + (self.learnt(y, t, attributes) - nothing)

    def learnt(self, y: Tensor, t: Tensor, attributes: Tensor) -> Tensor:
        """What was learnt by gradients; shapes as in ``forward``."""
        condition = self.time(time_embedding(t, 256))
        if self.config.attributes:
            condition = condition + self.attributes(attributes)
        h = self.read(y)
        for norm, modulation, block in zip(self.norms, self.modulations, self.blocks, strict=True):
            scale, shift = modulation(condition).chunk(2, dim=-1)
            h = h + block(norm(h) * (1 + scale) + shift)
        out: Tensor = self.write(h)
        return out
