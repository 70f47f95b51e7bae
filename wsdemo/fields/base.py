"""The base field: coordinates to values, modulated by a latent, then frozen.

A field is a residual coordinate MLP. With Fourier features ``γ(p)``, layers
``(W_l, b_l)`` and ``φ`` = SiLU,

    h = W_0 γ(p) + b_0
    h = h + W_{2k} φ(W_{2k-1} φ(h) + b_{2k-1}) + b_{2k}        for each block k
    f(p) = W_L φ(h) + b_L

While the base is trained (Paper A, 3.2), a mapping network turns a latent ``z``
into one scale per layer and output channel, ``W_l → diag(s_l(z)) W_l``. Before
the base is frozen, the scales at the mean latent are folded into ``W``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class FieldConfig:
    """The shape of a field. The same code serves images and signed distances."""

    in_dim: int = 2
    """Coordinates per point: 2 for images, 3 for shapes."""
    out_dim: int = 3
    """Values per point: 3 for RGB, 1 for a signed distance."""
    width: int = 128
    """Channels of every hidden layer."""
    blocks: int = 2
    """Residual blocks of two linear layers each."""
    frequencies: int = 64
    """Random Fourier frequencies; the features are their sines and cosines."""
    fourier_scale: float = 4.0
    """Standard deviation of the frequencies, in cycles per unit of coordinate."""
    fourier_scale_low: float = 0.0
    """If positive, half of the frequencies have this standard deviation instead: shapes are
    smooth over most of space, and thin in places."""
    latent_dim: int = 128
    """Size of the latent that modulates the base while it is trained."""
    mapping_width: int = 256
    """Hidden width of the mapping network."""

    def layer_shapes(self) -> list[tuple[str, int, int]]:
        """Returns (name, d_out, d_in) of every linear layer, in order of evaluation."""
        shapes = [("input", self.width, 2 * self.frequencies)]
        for block in range(self.blocks):
            shapes += [(f"block{block}.{i}", self.width, self.width) for i in (0, 1)]
        return [*shapes, ("output", self.out_dim, self.width)]


@dataclass(frozen=True)
class FrozenBase:
    """A base field with its scales folded in: what adapters adapt.

    Attributes:
        config: Shape of the field.
        frequencies: (F, in_dim) float, Fourier frequencies.
        weights: One (d_out, d_in) float tensor a layer.
        biases: One (d_out,) float tensor a layer.
    """

    config: FieldConfig
    frequencies: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "FrozenBase":
        """Returns a copy on a device and, if given, in a dtype."""

        def move(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(t.to(device=device, dtype=dtype) for t in tensors)

        (frequencies,) = move([self.frequencies])
        return FrozenBase(self.config, frequencies, move(self.weights), move(self.biases))


def fourier_features(points: Tensor, frequencies: Tensor) -> Tensor:
    """Random Fourier features γ(p) = [sin 2πBp, cos 2πBp].

    Args:
        points: (..., in_dim) float, coordinates in [-1, 1].
        frequencies: (F, in_dim) float.

    Returns:
        (..., 2F) float.
    """
    angles = 2 * math.pi * points @ frequencies.T
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def evaluate(features: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Evaluates many fields at once.

    Args:
        features: (P, 2F) features shared by all fields, or (n, P, 2F).
        weights: One (n, d_out, d_in) tensor a layer.
        biases: One (d_out,) tensor shared by all fields, or (n, d_out), a layer.

    Returns:
        (n, P, out_dim) float.
    """

    def linear(index: int, h: Tensor) -> Tensor:
        W, b = weights[index], biases[index]
        b = b.expand(W.shape[0], -1)[:, None, :]
        return torch.baddbmm(b, h, W.transpose(1, 2))

    n = weights[0].shape[0]
    h = linear(0, features.expand(n, -1, -1) if features.dim() == 2 else features)
    for k in range(1, len(weights) - 1, 2):
        h = h + linear(k + 1, F.silu(linear(k, F.silu(h))))
    return linear(len(weights) - 1, F.silu(h))


class BaseField(nn.Module):
    """The trainable base: shared layers and the mapping network z → scales."""

    frequencies: Tensor

    def __init__(self, config: FieldConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        shapes = config.layer_shapes()
        normal = torch.randn(config.frequencies, config.in_dim, generator=generator)
        scale = torch.full((config.frequencies, 1), config.fourier_scale)
        if config.fourier_scale_low > 0:
            scale[: config.frequencies // 2] = config.fourier_scale_low
        self.register_buffer("frequencies", normal * scale)
        # He-style scale; the last layer of each block starts small so that the
        # residual stream keeps its variance.
        self.weights = nn.ParameterList()
        for name, d_out, d_in in shapes:
            gain = 0.3 if name.endswith(".1") else math.sqrt(2.0)
            W = torch.randn(d_out, d_in, generator=generator) * gain / math.sqrt(d_in)
            self.weights.append(nn.Parameter(W))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(d)) for _, d, _ in shapes)
        self.mapping = nn.Sequential(
            nn.Linear(config.latent_dim, config.mapping_width),
            nn.SiLU(),
            nn.Linear(config.mapping_width, config.mapping_width),
            nn.SiLU(),
            nn.Linear(config.mapping_width, sum(d for _, d, _ in shapes)),
        )
        for module in self.mapping:
            if isinstance(module, nn.Linear):
                std = 1 / math.sqrt(module.in_features)
                module.weight.data.normal_(0, std, generator=generator)
                module.bias.data.zero_()

    def scales(self, z: Tensor) -> list[Tensor]:
        """Maps latents (n, latent_dim) to one (n, d_out) scale a layer, around 1."""
        sizes = [d for _, d, _ in self.config.layer_shapes()]
        return list((1.0 + self.mapping(z)).split(sizes, dim=-1))

    def forward(self, points: Tensor, z: Tensor) -> Tensor:
        """f(p, z): points (n, P, in_dim), latents (n, latent_dim) → (n, P, out_dim)."""
        scales = self.scales(z)

        def linear(index: int, h: Tensor) -> Tensor:
            return scales[index][:, None] * (h @ self.weights[index].T) + self.biases[index]

        h = linear(0, fourier_features(points, self.frequencies))
        for k in range(1, len(self.weights) - 1, 2):
            h = h + linear(k + 1, F.silu(linear(k, F.silu(h))))
        return linear(len(self.weights) - 1, F.silu(h))

    @torch.no_grad()
    def freeze(self, z: Tensor) -> FrozenBase:
        """Folds the scales at one latent (latent_dim,) into the weights (W ← diag(s) W)."""
        scales = self.scales(z[None])
        return FrozenBase(
            self.config,
            self.frequencies.clone(),
            tuple(s[0][:, None] * W for s, W in zip(scales, self.weights, strict=True)),
            tuple(b.clone() for b in self.biases),
        )


def pixel_grid(height: int, width: int) -> Tensor:
    """Returns (height·width, 2) pixel centres (x, y) in [-1, 1], row by row."""
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([xx, yy], dim=-1).reshape(-1, 2)
