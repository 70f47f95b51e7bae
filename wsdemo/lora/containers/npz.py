"""NumPy's .npz, in which MLX kept adapters until 2024: a zip of arrays, never a pickle.

Judged by its directory before anything is unpacked; arrays of objects, which would be pickles,
are refused.
"""

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
_HEAD_BYTES = 2**16
"""Of an array's own header."""


def _refuse(message: str) -> WsdemoError:
    return WsdemoError("Not a readable .npz", message, "Save the adapter again as .safetensors.")


def is_npz(path: Path) -> bool:
    """Whether a zip holds NumPy arrays and nothing else (torch's pickles are zips too)."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
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
        with self._archive.open(f"{key}.npy") as file:
            _, is_fortran, _ = _head(file, key)
            size = math.prod(shape) * TYPES[dtype].itemsize
            try:
                content = file.read(size + 1)
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise _refuse(f"{key[:80]!r} is damaged.") from error
        if len(content) != size:
            raise cut_short(key)
        if not size:
            return torch.empty(shape, dtype=TYPES[dtype])
        flat = torch.frombuffer(bytearray(content), dtype=TYPES[dtype])
        if is_fortran:
            return flat.view(shape[::-1]).permute(*range(len(shape) - 1, -1, -1)).contiguous()
        return flat.view(shape)


def _head(file: zipfile.ZipExtFile, key: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array; the file then stands at its content."""
    try:
        start = io.BytesIO(file.read(6 + 2))
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
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _refuse(f"{key[:80]!r} is no NumPy array, or is damaged.") from error
    except (RuntimeError, SyntaxError, RecursionError, MemoryError) as error:  # encrypted, odd
        raise _refuse(f"{key[:80]!r} cannot be read.") from error


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
        with archive.open(member) as file:
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
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _refuse("It is no zip, or a damaged one.") from error
    with archive:
        header = _header(archive)
        yield Container(header, {path: NpzFile(archive, header)})
