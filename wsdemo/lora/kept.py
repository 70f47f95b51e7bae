"""The tensors of a file beside its updates: read as they are stored, when they are written on."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lora.modules import KeptTensor
from wsdemo.safetensors_header import TYPES, read_header


def read_kept(tensors: Iterable[KeptTensor]) -> dict[str, Tensor]:
    """Key → tensor, in its stored type and shape.

    Raises:
        WsdemoError: A file is gone, damaged, or no longer what it was.
    """
    found: dict[str, Tensor] = {}
    by_path: dict[Path, list[KeptTensor]] = {}
    for tensor in tensors:
        by_path.setdefault(tensor.path, []).append(tensor)
    for path, own in by_path.items():
        found |= _read(path, own)
    return found


def _read(path: Path, tensors: Iterable[KeptTensor]) -> dict[str, Tensor]:
    found = {}
    header = read_header(path)
    with path.open("rb") as file:
        for tensor in tensors:
            if header.tensors.get(tensor.key) != (tensor.dtype, tensor.shape):
                raise WsdemoError(
                    "The file has changed",
                    f"{path.name} no longer holds {tensor.key[:80]!r} as it did.",
                    "Read it again.",
                )
            start, stop = header.places[tensor.key]
            content = torch.empty(stop - start, dtype=torch.uint8)
            file.seek(start)
            file.readinto(content.numpy())
            found[tensor.key] = content.view(TYPES[tensor.dtype]).view(tensor.shape)
    return found
