"""The checkpoint of a manifold in training: all that its next stage needs, but optimiser states.

NAME-manifold.safetensors has the manifold itself (fields/manifold.py), NAME-manifold-2.safetensors
encoder and discriminator, large matrices in a byte an entry. Its metadata lists the stages so far
with their cost and figures.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint, pack, save_checkpoint
from wsdemo.fields.manifold import load_manifold, save_manifold
from wsdemo.fields.manifold_start import load_encoder, part_of, second_part
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
    save_manifold(path, model.manifold, {**meta, "parts": 2})
    hash_ = load_checkpoint(path)[1]["hash"]
    save_checkpoint(second_part(path), second, {**meta, "kind": "manifold-encoder", "hash": hash_})


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
    model = Autoencoder(manifold.config, manifold.layout.config, torch.Generator())
    model.manifold.load_state_dict(manifold.state_dict())
    model.encoder, values = load_encoder(path, manifold, meta["hash"])
    known = part_of(values, "discriminator.")
    if discriminator is not None and known:
        discriminator.load_state_dict(known)
    return model, meta
