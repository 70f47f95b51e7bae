"""Tensors of a .safetensors file, read piece by piece; never the file as a whole."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from wsdemo.lora.containers.container import cut_short
from wsdemo.safetensors_header import TYPES, Header

SMALL_BYTES = 2**23
"""A file that is read at once: a system call a tensor costs more than its copy."""


class SafetensorsFile:
    """They are read and not mapped: a map of a file that shrinks meanwhile kills the process."""

    def __init__(self, file: BinaryIO | io.RawIOBase, header: Header) -> None:
        self._file, self._header = file, header

    def raw(self, keys: Sequence[str]) -> Tensor:
        """Tensors of one type and shape as they are stored, (k, …)."""
        header = self._header
        (dtype, shape), (start, stop) = header.tensors[keys[0]], header.places[keys[0]]
        content = torch.empty(len(keys), stop - start, dtype=torch.uint8)
        for key, row in zip(keys, content.numpy(), strict=True):
            self._file.seek(header.places[key][0])
            if self._file.readinto(row) != len(row):  # type: ignore[union-attr]
                raise cut_short(key)
        if not content.numel():
            return torch.empty(len(keys), *shape, dtype=TYPES[dtype])
        return content.view(TYPES[dtype]).view(len(keys), *shape)


@contextmanager
def opened(path: Path, header: Header) -> Iterator[SafetensorsFile]:
    """The tensors of a file, open as long as the context."""
    with path.open("rb", buffering=0) as file:
        is_small = path.stat().st_size <= SMALL_BYTES
        yield SafetensorsFile(io.BytesIO(file.read()) if is_small else file, header)
