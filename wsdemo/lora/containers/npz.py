"""NumPy's .npz, in which MLX kept adapters until 2024: a zip of arrays, never a pickle.

Judged by its directory before anything is unpacked; arrays of objects, which would be pickles,
are refused.
"""

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_LORA_BYTES, MAX_TENSORS
from wsdemo.lora.containers.container import Container, cut_short
from wsdemo.safetensors_header import TYPES, Header

_TYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8",
    "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL", "V2": "BF16",
}  # fmt: skip
"""NumPy's kinds with their bytes → safetensors' names. bfloat16, which NumPy lacks, is V2."""
_DAMAGES = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError,
            KeyError, struct.error, zlib.error, lzma.LZMAError)  # fmt: skip
_HEAD_BYTES = 2**16
"""Of an array's own header."""


def _refuse(message: str) -> WsdemoError:
    return WsdemoError("Not a readable .npz", message, "Save the adapter again as .safetensors.")


def is_npz(path: Path) -> bool:
    """Whether a zip holds NumPy arrays and nothing else (torch's pickles are zips too)."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _DAMAGES:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


class NpzFile:
    """The arrays of an opened .npz."""

    def __init__(self, archive: zipfile.ZipFile, header: Header) -> None:
        self._archive, self._header = archive, header

    def raw(self, keys: Sequence[str]) -> Tensor:
        """Arrays of one type and shape as they are stored, (k, …)."""
        return torch.stack([self._one(key) for key in keys])

    def _one(self, key: str) -> Tensor:
        dtype, shape = self._header.tensors[key]
        with _member(self._archive, f"{key}.npy") as file:
            _, is_fortran, _ = _head(file, key)
            size = math.prod(shape) * TYPES[dtype].itemsize
            content = file.read(size + 1)
        if len(content) != size:
            raise cut_short(key)
        if not size:
            return torch.empty(shape, dtype=TYPES[dtype])
        flat = torch.frombuffer(bytearray(content), dtype=TYPES[dtype])
        if is_fortran:
            return flat.view(shape[::-1]).permute(*range(len(shape) - 1, -1, -1)).contiguous()
        return flat.view(shape)


def _head(file: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array; the file then stands at its content."""
    start = io.BytesIO(file.read(6 + 2))
    try:
        version = np.lib.format.read_magic(start)
        width = 2 if version == (1, 0) else 4
        length = file.read(width)
        size = int.from_bytes(length, "little")
        if size > _HEAD_BYTES:
            raise _refuse(f"The header of {key[:80]!r} has {size:,} bytes.")
        text = io.BytesIO(length + file.read(size))
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        return read(text, max_header_size=_HEAD_BYTES)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise _refuse(f"{key[:80]!r} is no NumPy array, or is damaged.") from error


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """A file of the archive; what zipfile and its decompressors complain of is a refusal."""
    try:
        with archive.open(name) as file:
            yield file
    except _DAMAGES as error:
        raise _refuse(f"{name[:80]!r} is damaged, or encrypted.") from error


def _header(archive: zipfile.ZipFile) -> Header:
    members = archive.infolist()
    if len(members) > MAX_TENSORS:
        raise _refuse(f"It holds {len(members):,} arrays; {MAX_TENSORS:,} are allowed.")
    total = sum(m.file_size for m in members)
    if total > MAX_LORA_BYTES:
        raise _refuse(f"It unpacks to {total / 2**30:.1f} GB.")
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for member in members:
        key = member.filename.removesuffix(".npy")
        if key in tensors:
            raise _refuse(f"It names {key[:80]!r} twice.")
        with _member(archive, member.filename) as file:
            shape, _, dtype = _head(file, key)
        name = _TYPES.get(dtype.str[1:]) if dtype.str[0] in "<|" and not dtype.hasobject else None
        if name is None:
            raise _refuse(f"{key[:80]!r} has the type {str(dtype)[:40]}; numbers are expected.")
        if len(shape) > 8 or math.prod(shape) * dtype.itemsize > member.file_size:
            raise _refuse(f"{key[:80]!r} has another number of bytes than its shape needs.")
        tensors[key] = (name, tuple(int(side) for side in shape))
    return Header(tensors, {})


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """The arrays of a file, open as long as the context.

    Raises:
        WsdemoError: It is damaged, beyond limits, or holds objects.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGES as error:
        raise _refuse("It is no zip, or a damaged one.") from error
    with archive:
        header = _header(archive)
        yield Container(header, {path: NpzFile(archive, header)})
