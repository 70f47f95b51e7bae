"""Tensors with names and texts, wherever they lie: what every kind of file is to the reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.safetensors_header import Header


class Tensors(Protocol):
    """An opened file of tensors."""

    def raw(self, keys: Sequence[str]) -> Tensor:
        """Tensors of one type and shape as they are stored, (k, …)."""


@dataclass(frozen=True)
class Container:
    """What was found at a path, opened.

    Attributes:
        header: Names, types and shapes of all tensors, and the texts.
        parts: Each file that holds tensors, opened.
        places: Key → the file that holds it; empty if there is one file only.
        config: The adapter's configuration, if the container has one itself.
        notes: What is to be said of it.
        is_whole: Whether no shard is missing.
        is_gguf: Whether llama.cpp's converter wrote it.
    """

    header: Header
    parts: Mapping[Path, Tensors]
    places: Mapping[str, Path] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_whole: bool = True
    is_gguf: bool = False

    def path_of(self, key: str) -> Path:
        """The file that holds a tensor."""
        return self.places[key] if self.places else next(iter(self.parts))

    def raw(self, keys: Sequence[str]) -> Tensor:
        """Tensors of one type and shape as they are stored, (k, …)."""
        if len(self.parts) == 1:
            return next(iter(self.parts.values())).raw(keys)
        return torch.cat([self.parts[self.places[key]].raw([key]) for key in keys])

    def read(self, keys: Sequence[str]) -> Tensor:
        """Tensors of one type and shape as float32, (k, …)."""
        return self.raw(keys).float()


def cut_short(key: str) -> WsdemoError:
    """A tensor that ends before its time: the file has changed since its header was read."""
    return WsdemoError(
        "Not a readable file", f"Tensor {key[:80]!r} cannot be read.", "Download it again."
    )
