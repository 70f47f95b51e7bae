"""A start for each instance: the base's own modulation, written as mLoRA weights (ours).

While the base was trained, a latent z scaled the channels of every layer,
W → diag(s(z)) W. That is an mLoRA adapter: with B A = 1 at the shared start, scaling the
rows of B by s(z) / s(z̄) gives W ⊙ (B A) = diag(s(z)) W, exactly, and with a mask as well
unless it freezes a column of A in every rank (see Adapter.start). So an
encoder that guesses z puts an instance on the base's own manifold before the first step of
fitting and, what matters more, puts like instances in like places.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from wsdemo.checkpoints import config_from, load_checkpoint, save_checkpoint
from wsdemo.errors import mismatch
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.base import BaseField, FieldConfig

WIDTHS = {1: (1, 16, 32, 64, 128), 2: (3, 32, 64, 128, 192), 3: (1, 16, 32, 64, 128)}
"""Channels of the encoder, by the dimensions of what it reads; each step halves its sides."""
HALVED = 16
"""What the encoder divides each side by."""


class Encoder(nn.Module):
    """Proposes a posterior (mean, log σ) for pictures, distance grids or rows of values.

    Args:
        latent_dim: Size of the latent.
        dims: 1 reads rows (n, 1, side), 2 pictures (n, 3, side, side), 3 grids
            (n, 1, side, side, side), in [-1, 1].
        side: A multiple of HALVED; default: 64, of grids 32.
    """

    def __init__(self, latent_dim: int, dims: int = 2, side: int | None = None) -> None:
        super().__init__()
        convolution: type[nn.Module] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        widths = WIDTHS[dims]
        layers: list[nn.Module] = []
        for d_in, d_out in itertools.pairwise(widths):
            layers += [convolution(d_in, d_out, 4, 2, 1), nn.GroupNorm(8, d_out), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        cells = ((side or (32 if dims == 3 else 64)) // HALVED) ** dims
        self.head = nn.Linear(widths[-1] * cells, 2 * latent_dim)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels, …) → mean and log σ, each (n, latent_dim)."""
        mean, log_std = self.head(self.body(inputs)).chunk(2, dim=-1)
        return mean, log_std.clamp(-6, 2) - 1


class AmortisedStart:
    """Maps pictures or distance grids to the weights that fitting them starts from.

    Args:
        encoder: Guesses latents.
        field: The unfrozen base, for its mapping network.
        mean: (latent_dim,) the latent whose scales were folded into the frozen base.
    """

    def __init__(self, encoder: Encoder, field: BaseField, mean: Tensor) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.field = field.eval().requires_grad_(False)
        self.mean = mean

    @torch.no_grad()
    def __call__(self, adapter: Adapter, inputs: Tensor) -> Tensor:
        """Starts (n, D) for what the encoder reads (n, channels, …); mLoRA(-Asym) only."""
        if adapter.config.kind != "mlora":
            raise ValueError(f"only mLoRA can hold the base's scales, not {adapter.config.kind}")
        z, _ = self.encoder(inputs.to(self.mean.device))
        relative = self._relative_scales(z)
        tensors = dict(adapter.tensors(adapter.start.expand(len(inputs), -1)))
        for (name, _, _), s in zip(adapter.field_config.layer_shapes(), relative, strict=True):
            tensors[f"{name}.B"] = tensors[f"{name}.B"] * s.to(adapter.device)[:, :, None]
        return adapter.flatten(tensors)

    def _relative_scales(self, z: Tensor) -> Sequence[Tensor]:
        scales, folded = self.field.scales(z), self.field.scales(self.mean[None])
        return [a / b for a, b in zip(scales, folded, strict=True)]


def save_start(path: Path, start: AmortisedStart, base_hash: str) -> None:
    """Writes encoder, mapping network and mean latent, in half precision."""
    tensors = {f"encoder.{k}": v.half() for k, v in start.encoder.state_dict().items()}
    tensors |= {f"field.{k}": v.half() for k, v in start.field.state_dict().items()}
    config = dataclasses.asdict(start.field.config)
    meta = {"name": path.stem, "kind": "encoder", "config": config, "base_hash": base_hash}
    save_checkpoint(path, {**tensors, "mean": start.mean}, meta)


def load_start(
    path: Path, device: torch.device | str = "cpu", base_hash: str | None = None
) -> AmortisedStart:
    """Reads what save_start wrote.

    Raises:
        WsdemoError: It was made for a base of another hash than the given one.
    """
    tensors, meta = load_checkpoint(path)
    if base_hash is not None and meta["base_hash"] != base_hash:
        raise mismatch(f"{path.name} was trained with another version of its base.")
    config = config_from(FieldConfig, meta["config"])
    cells = tensors["encoder.head.weight"].shape[1] // WIDTHS[config.in_dim][-1]
    side = HALVED * round(cells ** (1 / config.in_dim))
    encoder = Encoder(config.latent_dim, config.in_dim, side)
    field = BaseField(config, torch.Generator())
    for prefix, module in (("encoder.", encoder), ("field.", field)):
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict({k: v.float() for k, v in state.items()})
    return AmortisedStart(encoder.to(device), field.to(device), tensors["mean"].to(device))
