"""Reads and judges a safetensors header before any library maps the file.

The stock reader lets through what a public drop zone must not: metadata of 95 MB,
half a million tensors, duplicate keys. Format: 8 bytes little-endian header
length, a JSON object, then the tensors' bytes.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_HEADER_BYTES, MAX_METADATA_BYTES, MAX_TENSORS

_ITEM_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64,
    "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""The format's names of types → torch's."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says it holds.

    Attributes:
        tensors: Name → (dtype, shape).
        metadata: The file's free texts.
        places: Name → first byte and the one after the last, in the file.
    """

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]
    places: dict[str, tuple[int, int]] = field(default_factory=dict)


def _refuse(message: str, hint: str = "Save the file again, or download it again.") -> WsdemoError:
    return WsdemoError("Not a readable safetensors file", message, hint)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _refuse("The header names a key twice.")
    return result


def _sniff(start: bytes) -> str | None:
    """Names what a file is when it is something else."""
    if start[3:8] == bytes(5):  # a header length within limits; some begin like other formats
        return None
    if start.startswith(b"GGUF"):
        return "The file is GGUF."
    if start.startswith(b"PK\x03\x04") and b".npy" in start:
        return "The file is a NumPy archive (.npz)."
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "The file is a pickle (.pt, .bin, .ckpt), which can run code when opened."
    if start.startswith(b"version https://git-lfs"):
        return "The file is a Git LFS pointer, not the file itself."
    if start.lstrip()[:1] == b"<":
        return "The file is a web page, not the file that its address promised."
    for magic, name in ((b"\x89PNG", "PNG picture"), (b"\xff\xd8\xff", "JPEG picture")):
        if start.startswith(magic):
            return f"The file is a {name}."
    return None


def read_header(path: Path) -> Header:
    """Reads a header within limits and checks it against the file's size.

    Raises:
        WsdemoError: Anything that is not a well-formed file within limits; the
            message says what was found.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(64), size)
        file.seek(8)
        return parse_header(file.read(length), size)


def header_length(start: bytes, size: int) -> int:
    """The header's length in bytes, from the first 64 bytes of a file of ``size`` bytes.

    Raises:
        WsdemoError: The file is something else, or the length is beyond limits.
    """
    known = _sniff(start)
    if known:
        raise _refuse(known, "Give a .safetensors file.")
    if size < 10:
        raise _refuse(f"The file has {size} bytes; the format needs at least 10.")
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER_BYTES or length > size - 8:
        raise _refuse(
            f"It announces a header of {length:,} bytes; the file has {size:,} and"
            f" {MAX_HEADER_BYTES:,} are allowed."
        )
    return length


def parse_header(raw: bytes, size: int) -> Header:
    """Parses a header's JSON and checks it against the size of its file.

    Raises:
        WsdemoError: It is malformed or beyond limits.
    """
    length = len(raw)
    announced = raw.count(b'"data_offsets"')  # before they become objects
    if announced > MAX_TENSORS:
        raise _refuse(f"It holds {announced:,} tensors; {MAX_TENSORS:,} are allowed.")
    try:
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise _refuse(f"The header is no JSON ({type(error).__name__}).") from error
    if not isinstance(parsed, dict):
        raise _refuse("The header is no JSON object.")
    metadata = parsed.pop("__metadata__", None) or {}  # MLX writes null
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _refuse("The metadata are not texts.")
    texts = sum(len(k) + len(v) for k, v in metadata.items())
    if texts > MAX_METADATA_BYTES:
        raise _refuse(f"Its metadata have {texts:,} letters; {MAX_METADATA_BYTES:,} are allowed.")
    if len(parsed) > MAX_TENSORS:
        raise _refuse(f"It holds {len(parsed):,} tensors; {MAX_TENSORS:,} are allowed.")
    tensors = {
        name: _check_tensor(name, entry, size - 8 - length) for name, entry in parsed.items()
    }
    _check_tiling([entry["data_offsets"] for entry in parsed.values()], size - 8 - length)
    first = 8 + length
    places = {
        name: (first + entry["data_offsets"][0], first + entry["data_offsets"][1])
        for name, entry in parsed.items()
    }
    return Header(tensors, metadata, places)


def _check_tiling(offsets: list[list[int]], data_bytes: int) -> None:
    """Refuses holes, overlaps and trailing bytes, as the format does."""
    end = 0
    for start, stop in sorted(offsets):
        if start != end:
            raise _refuse(f"The tensors leave a hole or overlap at byte {start:,} of the data.")
        end = stop
    if end != data_bytes:
        raise _refuse(f"{data_bytes - end:,} bytes follow the last tensor.")


def _check_tensor(name: str, entry: object, data_bytes: int) -> tuple[str, tuple[int, ...]]:
    shown = name[:80]
    if not isinstance(entry, dict):
        raise _refuse(f"The entry of tensor {shown!r} is malformed.")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BITS:
        raise _refuse(f"Tensor {shown!r} has the unknown type {dtype!r}.")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise _refuse(f"The shape or place of tensor {shown!r} is malformed.")
    for number in (*shape, *offsets):
        if type(number) is not int or not 0 <= number < 2**48:  # True is an int by isinstance
            raise _refuse(f"The shape or place of tensor {shown!r} is malformed.")
    if len(shape) > 8:
        raise _refuse(f"Tensor {shown!r} has the shape {tuple(shape)[:9]}.")
    if offsets[1] > data_bytes:
        raise _refuse(
            f"Tensor {shown!r} ends at byte {offsets[1]:,} of {data_bytes:,}: the file is cut off."
        )
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * _ITEM_BITS[dtype]:
        raise _refuse(f"Tensor {shown!r} has another number of bytes than its shape needs.")
    return dtype, tuple(shape)
