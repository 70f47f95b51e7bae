"""The weight diffusion transformer: hierarchical LoRA layer encoder and DiT backbone.

Paper A, 3.5. Tokens of one layer attend to each other first (rank positions), are
aggregated to one vector a layer (layer positions), and the backbone with adaLN runs
across layers. Ours: the noise has to be told per token, so the backbone's vector is
handed back to its layer's tokens, which keep a skip connection from the encoder; and the
backbone reads and writes the first principal coordinates of all weights together, in
summary tokens, as the directions that decide a face run across all layers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the network."""

    layers: int
    """Groups of tokens: layers of the field."""
    per_layer: int
    """Tokens per group: the rank."""
    token_dim: int
    """Entries of a token."""
    attributes: int = 0
    """Entries of the condition, each −1, 0 (unknown) or 1."""
    token_width: int = 128
    """Width inside a layer."""
    width: int = 256
    """Width of the backbone."""
    depth: int = 6
    """Blocks of the backbone."""
    heads: int = 8
    """Attention heads of the backbone."""
    summary: int = 0
    """Principal coordinates read and written by the backbone, a multiple of SUMMARY_TOKEN."""
    flat: bool = False
    """As in HyperDiffusion: no hierarchy, every token enters the backbone."""


SUMMARY_TOKEN = 32
"""Principal coordinates in a summary token."""


# ---- building blocks ---------------------------------------------------------


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of (n,) times → (n, dim)."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(dim // 2).to(t.device) / (dim // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention: (n, tokens, width) → the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, w))


class Block(nn.Module):
    """A DiT block: attention and MLP, each shifted, scaled and gated by the condition.

    adaLN-single: one map from the condition serves all blocks of a width, and each block
    adds its own table; a third of the parameters of one map a block.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.table = nn.Parameter(torch.zeros(6 * width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        s1, b1, g1, s2, b2, g2 = (modulation + self.table)[:, None].chunk(6, dim=-1)
        x = x + g1 * self.attention(self.norm1(x) * (1 + s1) + b1)
        return x + g2 * self.mlp(self.norm2(x) * (1 + s2) + b2)


def _zero_linear(d_in: int, d_out: int) -> nn.Linear:
    """A linear map that starts at zero, so that blocks start as the identity."""
    linear = nn.Linear(d_in, d_out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class LayerLinear(nn.Module):
    """One linear map per layer of the field: (n, layers, …, d_in) → (n, layers, …, d_out)."""

    def __init__(self, layers: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(layers, d_in, d_out) / math.sqrt(d_in))
        self.bias = nn.Parameter(torch.zeros(layers, 1, d_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nltd,ldw->nltw", x, self.weight) + self.bias


# ---- the model -----------------------------------------------------------------


class WeightTransformer(nn.Module):
    """F(x_t, t, attributes) on tokens (n, layers, per_layer, token_dim) → the same."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = c = config
        tw = c.width if c.flat else c.token_width
        self.embed = LayerLinear(c.layers, c.token_dim, tw)
        self.rank_position = nn.Parameter(0.02 * torch.randn(c.per_layer, tw))
        self.layer_position = nn.Parameter(0.02 * torch.randn(c.layers, c.width))
        self.time = nn.Sequential(
            nn.Linear(256, c.width), nn.SiLU(), nn.Linear(c.width, c.width), nn.SiLU()
        )
        self.attributes = nn.Linear(max(1, c.attributes), c.width, bias=False)
        if not c.flat:
            rank_heads = max(h for h in range(1, c.per_layer + 1) if tw % h == 0)
            self.token_modulation = _zero_linear(c.width, 6 * tw)
            self.encoder = Block(tw, rank_heads)
            self.aggregate = LayerLinear(c.layers, c.per_layer * tw, c.width)
            self.spread = LayerLinear(c.layers, c.width, c.per_layer * tw)
            self.decoder = Block(tw, rank_heads)
        self.modulation = _zero_linear(c.width, 6 * c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads) for _ in range(c.depth))
        if c.summary:
            groups = c.summary // SUMMARY_TOKEN
            self.summary_in = LayerLinear(groups, SUMMARY_TOKEN, c.width)
            self.summary_norm = nn.LayerNorm(c.width)
            self.summary_out = LayerLinear(groups, c.width, SUMMARY_TOKEN)
            self.summary_position = nn.Parameter(0.02 * torch.randn(groups, c.width))
            nn.init.zeros_(self.summary_out.weight)
        self.norm = nn.LayerNorm(tw)
        self.head = LayerLinear(c.layers, tw, c.token_dim)
        nn.init.zeros_(self.head.weight)

    def forward(
        self, tokens: Tensor, summary: Tensor, t: Tensor, attributes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Predicts the residual noise.

        Args:
            tokens: (n, layers, per_layer, token_dim) float.
            summary: (n, config.summary) principal coordinates of unit variance.
            t: (n,) times.
            attributes: (n, attributes) float in {−1, 0, 1}.

        Returns:
            Output per token, and along the principal directions (None without summary).
        """
        c = self.config
        condition = self.time(time_embedding(t, 256))
        if c.attributes:
            condition = condition + self.attributes(attributes)
        h = self.embed(tokens) + self.rank_position
        if c.flat:
            h = (h + self.layer_position[:, None]).flatten(1, 2)
            h, written = self._backbone(h, summary, condition)
            return self.head(self.norm(h).view(*tokens.shape[:3], -1)), written
        per_layer = self.token_modulation(condition).repeat_interleave(c.layers, dim=0)
        h = self.encoder(h.flatten(0, 1), per_layer).view(*tokens.shape[:3], -1)
        g = self.aggregate(h.flatten(2)[:, :, None]).squeeze(2) + self.layer_position
        g, written = self._backbone(g, summary, condition)
        h = h + self.spread(g[:, :, None]).view_as(h)
        h = self.decoder(h.flatten(0, 1), per_layer).view_as(h)
        return self.head(self.norm(h)), written

    def _backbone(
        self, g: Tensor, summary: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Runs the blocks over (n, tokens, width) and the summary tokens."""
        modulation, count = self.modulation(condition), g.shape[1]
        if self.config.summary:
            groups = summary.view(len(g), -1, 1, SUMMARY_TOKEN)
            read = self.summary_in(groups).squeeze(2) + self.summary_position
            g = torch.cat([g, read], dim=1)
        for block in self.blocks:
            g = block(g, modulation)
        if not self.config.summary:
            return g, None
        written = self.summary_out(self.summary_norm(g[:, count:, None]))
        return g[:, :count], written.flatten(1)
