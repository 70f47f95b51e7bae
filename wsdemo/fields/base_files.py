"""The files of base fields: frozen weights, and the hash that instances name them by."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from wsdemo.checkpoints import (
    DIRECTORY,
    config_from,
    load_checkpoint,
    save_checkpoint,
    tensors_hash,
)
from wsdemo.fields.base import FieldConfig, FrozenBase


def base_tensors(base: FrozenBase) -> dict[str, Tensor]:
    """Names the tensors of a frozen base."""
    tensors = {"frequencies": base.frequencies}
    for (name, _, _), W, b in zip(
        base.config.layer_shapes(), base.weights, base.biases, strict=True
    ):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = W, b
    return tensors


def save_base(path: Path, base: FrozenBase, meta: Mapping[str, Any]) -> None:
    """Writes a frozen base; its hash goes into the metadata of every instance."""
    tensors = base_tensors(base)
    config = dataclasses.asdict(base.config)
    save_checkpoint(
        path, tensors, {**meta, "kind": "base", "config": config, "hash": tensors_hash(tensors)}
    )


def load_base(path: Path) -> tuple[FrozenBase, dict[str, Any]]:
    """Reads a frozen base and its metadata."""
    tensors, meta = load_checkpoint(path)
    config = config_from(FieldConfig, meta["config"])
    names = [name for name, _, _ in config.layer_shapes()]
    base = FrozenBase(
        config,
        tensors["frequencies"],
        tuple(tensors[f"{n}.weight"] for n in names),
        tuple(tensors[f"{n}.bias"] for n in names),
    )
    return base, meta


@cache
def base_at(path: Path) -> tuple[FrozenBase, dict[str, Any]]:
    """A base and its metadata, loaded once a process."""
    return load_base(path)


def shipped_base(name: str) -> tuple[FrozenBase, dict[str, Any]]:
    """The base ``checkpoints/NAME.safetensors``, loaded once a process."""
    return base_at(DIRECTORY / f"{name}.safetensors")
