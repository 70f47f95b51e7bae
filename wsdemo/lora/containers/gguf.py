"""GGUF, in which llama.cpp keeps adapters: texts, tensors' places, tensors.

Read within bounds; types F32, F16, BF16 and Q8_0, which are those that its converter writes. Sides
stand in the file from the innermost out; here they are as in every other program, (r, in) for
``lora_a`` and (out, r) for ``lora_b``.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_HEADER_BYTES, MAX_TENSORS
from wsdemo.lora.containers.container import Container, cut_short
from wsdemo.safetensors_header import TYPES, Header

MAGIC = b"GGUF"
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
            11: "<q", 12: "<d"}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_TENSOR_TYPES = {0: "F32", 1: "F16", 8: "Q8_0", 30: "BF16", 28: "F64"}
_Q8_NUMBERS, _Q8_BYTES = 32, 34
"""A block of Q8_0: a half-precision scale and 32 whole numbers."""
_ALIGNMENT = 32


def _refuse(message: str) -> WsdemoError:
    return WsdemoError(
        "Not a readable GGUF file",
        message,
        "Give the adapter as .safetensors, or convert it again.",
    )


class _Reader:
    """Reads numbers and texts from the head of a file, of which it is known how long it may be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MAX_HEADER_BYTES

    def bytes(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise _refuse(f"Its head is longer than the {MAX_HEADER_BYTES:,} bytes allowed.")
        content = self._file.read(count)
        if len(content) != count:
            raise _refuse("Its head is cut off.")
        return content

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.bytes(min(self.number("<Q"), 2**40)).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY and depth < 2:
            inner, count = self.number("<I"), self.number("<Q")
            if count > MAX_HEADER_BYTES:
                raise _refuse(f"A list in it has {count:,} entries.")
            return [self.value(inner, depth + 1) for _ in range(count)]
        if kind not in _SCALARS:
            raise _refuse(f"It has a value of the unknown kind {kind}.")
        return self.number(_SCALARS[kind])


class GgufFile:
    """The tensors of an opened GGUF file."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file, self._header = file, header

    def raw(self, keys: Sequence[str]) -> Tensor:
        """Tensors of one type and shape, (k, …); those of Q8_0 as float32."""
        return torch.stack([self._one(key) for key in keys])

    def _one(self, key: str) -> Tensor:
        dtype, shape = self._header.tensors[key]
        start, stop = self._header.places[key]
        content = bytearray(stop - start)
        self._file.seek(start)
        if self._file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise cut_short(key)
        if not content:
            return torch.empty(shape, dtype=TYPES.get(dtype, torch.float32))
        if dtype != "Q8_0":
            return torch.frombuffer(content, dtype=TYPES[dtype]).view(shape)
        blocks = torch.frombuffer(content, dtype=torch.uint8).view(-1, _Q8_BYTES)
        scales = blocks[:, :2].contiguous().view(torch.float16).float()
        return (blocks[:, 2:].contiguous().view(torch.int8).float() * scales).view(shape)


def _count_bytes(dtype: str, numbers: int) -> int:
    if dtype == "Q8_0":
        return numbers // _Q8_NUMBERS * _Q8_BYTES
    return numbers * TYPES[dtype].itemsize


def _parse(file: BinaryIO, size: int) -> tuple[Header, dict[str, Any]]:
    reader = _Reader(file)
    if reader.bytes(4) != MAGIC:
        raise _refuse("It does not begin with GGUF.")
    version, tensor_count, value_count = (reader.number(f) for f in ("<I", "<Q", "<Q"))
    if version not in (2, 3):
        raise _refuse(f"It has version {version} of GGUF; 2 and 3 are known.")
    if tensor_count > MAX_TENSORS or value_count > MAX_TENSORS:
        raise _refuse(f"It announces {tensor_count:,} tensors and {value_count:,} values.")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.text()
        values[key] = reader.value(reader.number("<I"))
    infos: list[tuple[str, tuple[int, ...], int, int]] = []
    for _ in range(tensor_count):
        name, sides = reader.text(), reader.number("<I")
        if sides > 4:
            raise _refuse(f"Tensor {name[:80]!r} has {sides} dimensions.")
        shape = tuple(reader.number("<Q") for _ in range(sides))[::-1]
        infos.append((name, shape, reader.number("<I"), reader.number("<Q")))
    align = values.get("general.alignment", _ALIGNMENT)
    align = align if isinstance(align, int) and 0 < align <= 2**16 else _ALIGNMENT
    first = -(-file.tell() // align) * align
    return _placed(infos, first, size), values


def _placed(
    infos: Sequence[tuple[str, tuple[int, ...], int, int]], first: int, size: int
) -> Header:
    tensors, places = {}, {}
    for name, shape, kind, offset in infos:
        shown, dtype = name[:80], _TENSOR_TYPES.get(kind, "")
        if name in tensors:
            raise _refuse(f"It names tensor {shown!r} twice.")
        if not dtype:
            raise _refuse(
                f"Tensor {shown!r} is quantised (type {kind}); F32, F16, BF16 and Q8_0 are read."
            )
        numbers = math.prod(shape)
        if dtype == "Q8_0" and (not shape or shape[-1] % _Q8_NUMBERS):
            raise _refuse(f"Tensor {shown!r} of Q8_0 has the shape {shape}.")
        start = first + offset
        stop = start + _count_bytes(dtype, numbers)
        if stop > size:
            raise _refuse(f"Tensor {shown!r} ends at byte {stop:,} of {size:,}: it is cut off.")
        tensors[name], places[name] = (dtype, shape), (start, stop)
    return Header(tensors, {}, places)


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """The tensors of a GGUF adapter, open as long as the context.

    Raises:
        WsdemoError: It is damaged, beyond limits, or a model and no adapter.
    """
    with path.open("rb") as file:
        header, values = _parse(file, path.stat().st_size)
        kind = values.get("general.type", "model")
        if kind != "adapter":
            raise WsdemoError(
                "No LoRA",
                f"The file is GGUF, of the type {str(kind)[:40]!r}: no adapter.",
                "Give the adapter alone, as convert_lora_to_gguf writes it.",
            )
        metadata = {k: str(v)[:4000] for k, v in values.items() if not isinstance(v, list)}
        config: dict[str, Any] = {}
        if tokens := values.get("adapter.alora.invocation_tokens"):
            config["alora_invocation_tokens"] = tokens
        full = Header(header.tensors, metadata, header.places)
        yield Container(full, {path: GgufFile(file, full)}, config=config, is_gguf=True)
