"""The header guard: what the stock reader lets through is refused with a reason."""

import contextlib
import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_HEADER_BYTES, MAX_TENSORS
from wsdemo.safetensors_header import read_header


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


GOOD = save({"a": torch.zeros(2, 3), "b": torch.zeros(4).half()}, metadata={"k": "v"})

BAD = {
    "empty": (b"", "0 bytes"),
    "short": (b"abc", "3 bytes"),
    "header beyond the file": (struct.pack("<Q", 10**6) + b"{}", "announces a header"),
    "header beyond the limit": (
        struct.pack("<Q", MAX_HEADER_BYTES + 1) + b" " * (MAX_HEADER_BYTES + 1),
        "announces a header",
    ),
    "no json": (raw(b"{not json"), "no JSON"),
    "no utf-8": (raw(b"\xff\xfe{}"), "no JSON"),
    "deep json": (raw(b"[" * 100_000), "no JSON"),
    "a list": (raw([1]), "no JSON object"),
    "duplicate keys": (raw(b'{"a": {}, "a": {}}'), "twice"),
    "metadata not texts": (raw({"__metadata__": {"a": 1}}), "metadata"),
    "too many tensors": (raw({str(i): {} for i in range(MAX_TENSORS + 1)}), "tensors"),
    "entry not an object": (raw({"a": 5}), "malformed"),
    "unknown type": (raw({"a": entry(dtype="Q7")}, bytes(4)), "unknown type"),
    "type not a text": (raw({"a": entry(dtype=["F32"])}, bytes(4)), "unknown type"),
    "negative side": (raw({"a": entry(shape=(-1,))}, bytes(4)), "malformed"),
    "fractional side": (raw({"a": entry(shape=(1.5,))}, bytes(4)), "malformed"),
    "huge side": (raw({"a": entry(shape=(2**60,))}, bytes(4)), "malformed"),
    "a hundred thousand sides": (raw({"a": entry(shape=[2**47] * 100_000)}, bytes(4)), "shape"),
    "three offsets": (raw({"a": entry(offsets=(0, 4, 8))}, bytes(8)), "malformed"),
    "cut off": (raw({"a": entry(shape=(100,), offsets=(0, 400))}, bytes(50)), "cut off"),
    "bytes disagree": (raw({"a": entry(shape=(3,), offsets=(0, 4))}, bytes(4)), "bytes"),
    "hole": (raw({"a": entry(offsets=(4, 8))}, bytes(8)), "hole or overlap"),
    "overlap": (raw({"a": entry(), "b": entry()}, bytes(4)), "hole or overlap"),
    "trailing bytes": (raw({"a": entry()}, bytes(9)), "5 bytes follow"),
    "number of 5,000 digits": (raw(b'{"a": ' + b"1" * 5000 + b"}"), "no JSON"),
    "pickle in a zip": (b"PK\x03\x04" + bytes(40), "pickle"),
    "bare pickle": (b"\x80\x02}q\x00(X\x05abcdefgh", "pickle"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "web page": (b"<!DOCTYPE html><html></html>", "web page"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(30), "JPEG picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_its_reason(name, tmp_path):
    content, match = BAD[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WsdemoError, match=match):
        read_header(path)


@pytest.mark.parametrize("length", [ord("<"), 0x280])
def test_header_lengths_that_look_like_other_formats_are_read(tmp_path, length):
    """60 bytes begin like a web page, 640 like a pickle."""
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + text + bytes(4))
    assert read_header(path).tensors == {"a": ("F32", (1,))}


def test_good_file_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD)
    header = read_header(path)
    assert header.tensors == {"a": ("F32", (2, 3)), "b": ("F16", (4,))}
    assert header.metadata == {"k": "v"}


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), cut=st.integers(0, 200))
def test_a_damaged_file_is_read_or_refused_but_never_crashes(
    tmp_path_factory, position, value, cut
):
    damaged = bytearray(GOOD)
    damaged[position] = value
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    path.write_bytes(bytes(damaged[: len(damaged) - cut]))
    with contextlib.suppress(WsdemoError):
        read_header(path)
