"""The face generator: a text-conditional diffusion transformer over the weights of faces.

It draws the principal coordinates of a face's adapter (generate/prior.py), given a caption:
tokens are groups of coordinates, blocks attend to themselves (attn1) and to CelebA-CLIP's
hidden states of the caption (attn2), and names are those of diffusers' transformers, so LoRAs
of its to_q and to_v look like LoRAs of Stable Diffusion. The coordinates decode to a field.

Noise is predicted as in generate/diffusion.py: what the Gaussian prior knows, plus R F.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.checkpoints import DIRECTORY, config_from, load_checkpoint
from wsdemo.errors import mismatch
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.base_files import shipped_base
from wsdemo.generate.captions import PAD, tokenise
from wsdemo.generate.clip import TEXT_WIDTH, FaceClip, shipped_clip
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion, prior_hash
from wsdemo.generate.prior import GaussianPrior
from wsdemo.generate.schedule import STEPS, add_noise, alphas_bar, ddim_times
from wsdemo.generate.transformer import LayerLinear, time_embedding


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of the network."""

    coordinates: int = 512
    """Principal coordinates drawn."""
    group: int = 32
    """Coordinates in a token."""
    width: int = 192
    """Width of the residual stream."""
    depth: int = 4
    """Transformer blocks."""
    heads: int = 6
    """Attention heads."""


class Attention(nn.Module):
    """Multi-head attention of (n, t, width) to a context (n, s, d), with diffusers' names."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor, visible: Tensor | None = None) -> Tensor:
        """``visible`` (n, 1, 1, s) bool: what may be attended to."""

        def heads(h: Tensor) -> Tensor:
            return h.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, t, d)

        q, k, v = heads(self.to_q(x)), heads(self.to_k(context)), heads(self.to_v(context))
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        out: Tensor = self.to_out[0](h.transpose(1, 2).flatten(2))
        return out


class TextBlock(nn.Module):
    """Self-attention, cross-attention, MLP; shifted, scaled and gated by the time.

    adaLN-single, as in generate/transformer.py: one map of the time for all blocks, and a table
    of each block's own.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.attn1 = Attention(width, width, config.heads)
        self.attn2 = Attention(width, TEXT_WIDTH, config.heads)
        self.ff = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.table = nn.Parameter(torch.zeros(9 * width))

    def forward(self, x: Tensor, modulation: Tensor, text: Tensor, visible: Tensor) -> Tensor:
        parts = (modulation + self.table)[:, None].chunk(9, dim=-1)

        def normed(i: int) -> Tensor:
            out: Tensor = self.norms[i](x) * (1 + parts[3 * i]) + parts[3 * i + 1]
            return out

        h = normed(0)
        x = x + parts[2] * self.attn1(h, h)
        # Gates start at zero; the text's gate at one, or prompts would be heard late.
        x = x + (1 + parts[5]) * self.attn2(normed(1), text, visible)
        out: Tensor = x + parts[8] * self.ff(normed(2))
        return out


class GeneratorNetwork(nn.Module):
    """F(y_t, t, caption): (n, K) whitened coordinates → (n, K) residual noise along them."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        tokens, width = config.coordinates // config.group, config.width
        last = nn.Linear(width, 9 * width)
        nn.init.zeros_(last.weight)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), last)
        self.read = LayerLinear(tokens, config.group, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.transformer_blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.write = LayerLinear(tokens, width, config.group)
        nn.init.zeros_(self.write.weight)

    def forward(self, y: Tensor, t: Tensor, text: Tensor, visible: Tensor) -> Tensor:
        """(n, K), (n,) times, (n, s, TEXT_WIDTH) hidden states, (n, s) bool → (n, K)."""
        modulation = self.time(time_embedding(t, 256))
        groups = y.view(len(y), -1, 1, self.config.group)
        h = self.read(groups).squeeze(2) + self.positions
        for block in self.transformer_blocks:
            h = block(h, modulation, text, visible[:, None, None])
        return self.write(self.norm(h)[:, :, None]).flatten(1)


class FaceGenerator:
    """Network, prior of the coordinates and text tower: captions → faces' coordinates.

    Attributes:
        network: The trained part; LoRAs adapt its attention.
        prior: Of the coordinates: mean 0, variances of the faces' weights.
        clip: Its text tower reads captions. Frozen.
    """

    def __init__(self, network: GeneratorNetwork, variances: Tensor, clip: FaceClip) -> None:
        K = network.config.coordinates
        device = next(network.parameters()).device
        prior = GaussianPrior.of_coordinates(variances[:K].float().cpu())
        self.network, self.prior, self.clip = network, prior.to(device), clip
        self.device = device
        self.alphas_bar = alphas_bar().to(device)

    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Captions → (n, s, TEXT_WIDTH) hidden states and (n, s) which of them are words."""
        tokens = tokenise(texts)
        with torch.no_grad():
            hidden = self.clip.hidden(tokens)
        return hidden.to(self.device), (tokens != PAD).to(self.device)

    def predict_noise(self, y_t: Tensor, t: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        """ε̂(y_t, t, caption) of (n, K) noisy coordinates at (n,) times."""
        a = self.alphas_bar[t]
        output = self.network(self.prior.whitened(y_t, a), t, *text)
        return self.prior.noise(self.prior.split(y_t), a, self.prior.split(None, output))

    def loss(self, y: Tensor, text: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        """(n,) ‖ε − ε̂‖² as a share of what the prior leaves open; the prior alone scores 1."""
        t = torch.randint(STEPS, (len(y),), generator=generator).to(self.device)
        noise = torch.randn(y.shape, generator=generator).to(self.device)
        a = self.alphas_bar[t]
        error = self.predict_noise(add_noise(y, noise, a), t, text) - noise
        return error.square().sum(1) / self.prior.expected_error(a)

    @torch.no_grad()
    def sample(
        self, texts: Sequence[str], seed: int, steps: int = 20, guidance: float = 2.0
    ) -> Tensor:
        """DDIM (η = 0) with classifier-free guidance: one face a caption, (n, K) coordinates.

        Args:
            texts: n captions; "" is unconditional.
            seed: Of the noise; face i does not depend on the others.
            steps: Denoising steps.
            guidance: w in ε̂ = ε̂(∅) + w (ε̂(c) − ε̂(∅)).
        """
        count, K = len(texts), self.network.config.coordinates
        noise = [
            torch.randn(K, generator=torch.Generator().manual_seed(seed * 4096 + i))
            for i in range(count)
        ]
        y = torch.stack(noise).to(self.device)
        guided = guidance != 1.0
        words = self.read([*texts, *([""] * count if guided else [])])
        times = ddim_times(steps)
        for i, t in enumerate(times):
            time = torch.full((count,), t, device=self.device)
            if guided:
                noises = self.predict_noise(y.repeat(2, 1), time.repeat(2), words)
                eps = noises[count:] + guidance * (noises[:count] - noises[count:])
            else:
                eps = self.predict_noise(y, time, words)
            a = self.alphas_bar[t]
            y0 = (y - (1 - a).sqrt() * eps) / a.sqrt()
            if i + 1 < len(times):
                a_next = self.alphas_bar[times[i + 1]]
                y = a_next.sqrt() * y0 + (1 - a_next).sqrt() * eps
        return y0


# ---- the shipped generator ---------------------------------------------------------


@cache
def shipped_decoder() -> WeightDiffusion:
    """The faces' weight diffusion model, whose prior says what the coordinates mean."""
    base, _ = shipped_base("faces-base")
    return load_diffusion(DIRECTORY / "faces-diffusion.safetensors", base)[0]


def decode_coordinates(y: Tensor, size: int = 64) -> Tensor:
    """(n, K) coordinates → (n, 3, size, size) uint8 faces."""
    model = shipped_decoder()
    K = y.shape[1]
    weights = model.prior.restore(y.cpu() @ model.prior.basis[:, :K].T)
    grid = pixel_grid(size, size)
    values = torch.cat([model.adapter.decode_points(w, grid) for w in weights.split(16)])
    pixels = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.transpose(1, 2).reshape(len(y), 3, size, size)


@cache
def shipped_generator() -> FaceGenerator:
    """The shipped face generator. Its network is shared: adapt a copy.

    Raises:
        WsdemoError: It belongs to another version of the faces' weight diffusion model.
    """
    tensors, meta = load_checkpoint(DIRECTORY / "faces-generator.safetensors")
    prior = shipped_decoder().prior
    if meta["prior"] != prior_hash(prior):
        raise mismatch(
            "faces-generator belongs to another version of faces-diffusion.",
            "train the generator again",
        )
    network = GeneratorNetwork(config_from(GeneratorConfig, meta["network"]))
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    network.eval().requires_grad_(False)
    return FaceGenerator(network, prior.variances, shipped_clip())
