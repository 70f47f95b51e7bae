"""Checkpoints: safetensors whose metadata carries the recipe that decodes them."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole

DIRECTORY = Path(__file__).resolve().parent.parent / "checkpoints"
"""Where the shipped checkpoints lie."""

_KEY = "wsdemo"
T = TypeVar("T")


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes tensors and one JSON object of metadata to a safetensors file, whole or not at all."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(flat, metadata={_KEY: json.dumps(meta, sort_keys=True)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file that save_checkpoint wrote.

    Raises:
        WsdemoError: The file is missing, or is not such a file.
    """
    if not path.is_file():
        raise WsdemoError(
            "Checkpoint missing",
            f"{path.name} is not in {path.parent}.",
            "Clone the repository whole, or train it with the recipe in wsdemo/train.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise WsdemoError(
            "Checkpoint damaged",
            f"{path.name} is no complete safetensors file ({type(error).__name__}).",
            "If it is a Git LFS pointer, run git lfs pull; else download it again.",
        ) from error
    if not isinstance(meta, dict):
        raise WsdemoError(
            "Not a wsdemo checkpoint",
            f"{path.name} carries no wsdemo metadata.",
            "Use a file from checkpoints/ or one that a recipe wrote.",
        )
    return tensors, meta


_PACKED_FROM = 4096
"""Matrices of fewer entries are not worth packing."""


def pack(name: str, value: Tensor) -> dict[str, Tensor]:
    """A parameter as it is stored: a large matrix in a byte an entry, anything else in fp16.

    A row w (all but the last dimension) is stored as round(w / s) with s = max|w| / 127 beside
    it, as ``NAME.step``: wrong by at most s / 2.
    """
    if value.dim() < 2 or value.numel() < _PACKED_FROM:
        return {name: value.half()}
    step = value.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return {name: (value / step).round().to(torch.int8), f"{name}.step": step}


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors by name, from what ``pack`` made of them.

    Raises:
        ValueError: A step is not one a row, and the product would have another shape.
    """
    for name, value in tensors.items():
        step = tensors.get(f"{name}.step")
        if step is not None and step.shape != (*value.shape[:-1], 1):
            raise ValueError(f"the step of {name} has the shape {tuple(step.shape)}")
    return {
        name: value.float() * tensors[f"{name}.step"] if f"{name}.step" in tensors
        else value.float()
        for name, value in tensors.items() if not name.endswith(".step")
    }  # fmt: skip


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes: the identity of a set of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def config_from(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds a config dataclass from JSON; an unknown key is an error."""
    assert dataclasses.is_dataclass(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise WsdemoError(
            "Unknown configuration",
            f"{cls.__name__} has no field {', '.join(unknown)}.",
            "The file was written by a newer wsdemo: update this one.",
        )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
