"""The checkpoint of a manifold in training: all that its next stage needs, but optimiser states.

NAME-manifold.safetensors has the manifold itself (fields/manifold.py), NAME-manifold-2.safetensors
encoder and discriminator, large matrices in a byte an entry. Its metadata lists the stages so far
with their cost and figures.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint, pack, save_checkpoint, unpack
from wsdemo.errors import WsdemoError
from wsdemo.fields.manifold import load_manifold, save_manifold
from wsdemo.generate.diffusion import part_paths
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.manifold.discriminator import Discriminator


def _packed(prefix: str, module: torch.nn.Module) -> dict[str, Tensor]:
    """Matrices as ``pack`` stores them; kernels, whose rows are short, in half precision."""
    tensors: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        key = f"{prefix}.{name}"
        tensors |= pack(key, value) if value.dim() == 2 else {key: value.half()}
    return tensors


def save_stage(
    path: Path, model: Autoencoder, discriminator: Discriminator | None, meta: dict[str, Any]
) -> None:
    """Writes a model, and the discriminator if there is one yet, in two parts."""
    second = _packed("encoder", model.encoder)
    if discriminator is not None:
        second |= _packed("discriminator", discriminator)
    first_path, second_path = part_paths(path, 2)
    save_manifold(first_path, model.manifold, {**meta, "parts": 2})
    hash_ = load_checkpoint(first_path)[1]["hash"]
    save_checkpoint(second_path, second, {**meta, "kind": "manifold-encoder", "hash": hash_})


def load_stage(
    path: Path, discriminator: Discriminator | None = None
) -> tuple[Autoencoder, dict[str, Any]]:
    """Reads what save_stage wrote, on the CPU.

    Args:
        path: NAME-manifold.safetensors; its second part lies beside it.
        discriminator: Is given the stored parameters, if there are any.

    Raises:
        WsdemoError: A part is missing or damaged, or the two are of different stages.
    """
    manifold, meta = load_manifold(path)
    tensors, second = load_checkpoint(part_paths(path, 2)[1])
    if second.get("hash") != meta["hash"]:
        raise WsdemoError(
            "Checkpoints do not match",
            f"The two parts of {path.name} were not written together.",
            "Take both from the same revision, or train the stage again.",
        )
    model = Autoencoder(manifold.config, manifold.layout.config, torch.Generator())
    model.manifold.load_state_dict(manifold.state_dict())
    values = unpack(tensors)
    model.encoder.load_state_dict(_part(values, "encoder."))
    known = _part(values, "discriminator.")
    if discriminator is not None and known:
        discriminator.load_state_dict(known)
    return model, meta


def _part(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
