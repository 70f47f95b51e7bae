"""Where fits on a manifold's base start: the point of the manifold that its encoder proposes."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint, unpack
from wsdemo.errors import mismatch
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.encoder import Encoder
from wsdemo.fields.manifold import Manifold, load_manifold


class ManifoldStart:
    """Maps pictures to ε₀ + P z, of the z that the encoder proposes.

    Args:
        manifold: ε₀ and P.
        encoder: Trained with it.
    """

    def __init__(self, manifold: Manifold, encoder: Encoder) -> None:
        self.manifold = manifold.eval().requires_grad_(False)
        self.encoder = encoder.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, adapter: Adapter, inputs: Tensor) -> Tensor:
        """Starts (n, D) for what the encoder reads (n, channels, …).

        An adapter of another rank or seed has other weights, of which the manifold knows nothing:
        it starts where it always does.
        """
        if adapter.config != self.manifold.layout.config:
            return adapter.start.expand(len(inputs), -1).clone()
        z, _ = self.encoder(inputs.to(self.manifold.origin.device))
        return self.manifold.instances(z).to(adapter.device)


def second_part(path: Path) -> Path:
    """NAME-2.safetensors, where a manifold's encoder lies."""
    return path.with_name(f"{path.stem}-2.safetensors")


def load_encoder(path: Path, manifold: Manifold, hash_: str) -> tuple[Encoder, dict[str, Tensor]]:
    """The encoder beside a manifold, and everything else that is stored with it.

    Args:
        path: Of the manifold, NAME.safetensors.
        manifold: What it was trained with.
        hash_: Of the manifold's base.

    Raises:
        WsdemoError: It is missing or damaged, or was not written with the manifold.
    """
    tensors, meta = load_checkpoint(second_part(path))
    if meta.get("hash") != hash_:
        raise mismatch(
            f"The two parts of {path.name} were not written together.", "train the stage again"
        )
    values = unpack(tensors)
    encoder = Encoder(manifold.config.latent_dim, manifold.config.in_dim)
    encoder.load_state_dict(part_of(values, "encoder."))
    return encoder, values


def part_of(values: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that."""
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def load_manifold_start(path: Path, base_hash: str) -> ManifoldStart:
    """Reads manifold and encoder.

    Raises:
        WsdemoError: As ``load_encoder``; also a manifold of another base.
    """
    manifold, meta = load_manifold(path)
    if meta["hash"] != base_hash:
        raise mismatch(f"{path.name} was trained with another version of its base.")
    return ManifoldStart(manifold, load_encoder(path, manifold, base_hash)[0])
