"""The container of a glTF: its description, its buffers, and the numbers in them.

Buffers come from the file itself, from data URIs, or from files beside it; nothing else is read.
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from wsdemo.media.formats.raw import cut_off, refuse

Tree = dict[str, Any]
DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
"""glTF's numbers of component types."""
STEPS = {5120: 127, 5121: 255, 5122: 32767, 5123: 65535}
"""What a normalised integer is divided by."""
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")


def compressed(how: str, extension: str) -> Exception:
    """The error of geometry that only a decoder would unpack."""
    return refuse(
        "Mesh compressed",
        f"Its geometry is compressed by {how} ({extension}), which is not read here.",
        "Export it without compression, or as OBJ, PLY or STL.",
    )


class Gltf:
    """A glTF file.

    Attributes:
        tree: The JSON description.
    """

    def __init__(self, data: bytes, kind: str, beside: Mapping[str, bytes]) -> None:
        """Parses the description; buffers are looked for when something asks for them.

        Args:
            data: The file.
            kind: ``glb`` or ``gltf``.
            beside: Name → content of the files that lie beside it.

        Raises:
            WsdemoError: Malformed or cut off.
        """
        text, self._chunk = _chunks(data) if kind == "glb" else (data, b"")
        tree = json.loads(text.decode("utf-8-sig"))
        if not isinstance(tree, dict):
            raise refuse("Mesh unreadable", "Its glTF description is no JSON object.")
        self.tree: Tree = tree
        self._beside = beside
        self._buffers: dict[int, bytes] = {}

    def list_of(self, key: str) -> list[Any]:
        """One of the description's lists; empty if it is not there."""
        entries = self.tree.get(key, [])
        if not isinstance(entries, list):
            raise refuse("Mesh unreadable", f"Its glTF description is malformed: {key} is no list.")
        return entries

    def buffer(self, index: int) -> bytes:
        """The content of a buffer."""
        if index not in self._buffers:
            entry = self.list_of("buffers")[index]
            uri = entry.get("uri")
            self._buffers[index] = self._chunk if uri is None else self._named(str(uri))
        return self._buffers[index]

    def _named(self, uri: str) -> bytes:
        if uri[:5].lower() == "data:":
            text = "".join(unquote(uri.partition(",")[2]).split())
            try:
                return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            except binascii.Error as error:
                raise refuse("Mesh unreadable", "A buffer of the glTF is no base64.") from error
        name = unquote(uri).replace("\\", "/").removeprefix("./")
        if name in self._beside:
            return self._beside[name]
        raise refuse(
            "Mesh incomplete",
            f"It keeps its geometry in another file, {uri[:60]!r}, which is not here.",
            "Give both files together or in one zip, or export as a single GLB file.",
        )

    def view(self, index: int) -> tuple[bytes, int]:
        """A buffer view's bytes, and its stride (0: none)."""
        view = self.list_of("bufferViews")[index]
        for name in MESHOPT:
            extension = view.get("extensions", {}).get(name)
            buffer = self.list_of("buffers")[view["buffer"]]
            is_empty = "uri" not in buffer and (view["buffer"] > 0 or not self._chunk)
            if extension is not None and is_empty:
                raise compressed("meshopt", name)
        content = self.buffer(view["buffer"])
        start = int(view.get("byteOffset", 0))
        end = start + int(view["byteLength"])
        if not 0 <= start <= end <= len(content):
            raise cut_off(
                f"a part of its geometry lies at bytes {start:,} to {end:,} of a buffer, which has"
                f" {len(content):,}"
            )
        return content[start:end], int(view.get("byteStride", 0))

    def _block(self, view: int, offset: int, dtype: str, count: int, width: int) -> NDArray[Any]:
        """(count, width) numbers of a buffer view."""
        data, stride = self.view(view)
        kind = np.dtype(dtype)
        stride = stride or kind.itemsize * width
        last = offset + stride * (count - 1) + kind.itemsize * width if count else offset
        if offset < 0 or stride < kind.itemsize * width or last > len(data):
            raise cut_off(f"{count:,} entries need {last:,} bytes where {len(data):,} are")
        return np.ndarray((count, width), kind, data, offset, (stride, kind.itemsize))

    def numbers(self, index: int) -> NDArray[np.float64]:
        """(n, width) values of an accessor: sparse ones filled in, normalised ones as fractions."""
        entry = self.list_of("accessors")[index]
        code, count = int(entry["componentType"]), int(entry["count"])
        width = WIDTHS.get(str(entry["type"]))
        if width is None or code not in DTYPES or count < 0:
            raise refuse(
                "Mesh unreadable",
                f"An accessor of the glTF has type {str(entry['type'])[:12]!r} of"
                f" {str(code)[:8]}, which geometry does not have.",
            )
        if "bufferView" in entry:
            offset = int(entry.get("byteOffset", 0))
            values = self._block(entry["bufferView"], offset, DTYPES[code], count, width)
        else:
            values = np.zeros((count, width), DTYPES[code])
        if sparse := entry.get("sparse"):
            values = values.copy()
            n, where, what = int(sparse["count"]), sparse["indices"], sparse["values"]
            kind = DTYPES[int(where["componentType"])]
            at = self._block(where["bufferView"], int(where.get("byteOffset", 0)), kind, n, 1)
            values[at[:, 0].astype(np.int64)] = self._block(
                what["bufferView"], int(what.get("byteOffset", 0)), DTYPES[code], n, width
            )
        return self.as_fractions(index, values.astype(np.float64))

    def as_fractions(self, index: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of an accessor; those of a normalised one divided by their greatest."""
        entry = self.list_of("accessors")[index]
        code = int(entry["componentType"])
        if entry.get("normalized") and code in STEPS:
            return np.asarray(np.maximum(values / STEPS[code], -1.0))
        return values


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """The JSON and the binary chunk of a GLB."""
    if len(data) < 20 or data[:4] != b"glTF":
        raise refuse("Mesh unreadable", "The file does not begin like a GLB.")
    version, length = struct.unpack("<II", data[4:12])
    if version != 2:
        raise refuse("Mesh unreadable", f"It is glTF {version}; expected 2.", "Export it as GLB 2.")
    if length > len(data):
        raise cut_off(f"a GLB that says {length:,} bytes has {len(data):,}")
    chunks: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= length:
        size, name = struct.unpack("<I4s", data[place : place + 8])
        if place + 8 + size > length:
            raise cut_off(f"a part of the GLB says {size:,} bytes, {length - place - 8:,} are left")
        chunks.setdefault(name, data[place + 8 : place + 8 + size])
        place += 8 + size
    if b"JSON" not in chunks:
        raise refuse("Mesh unreadable", "The GLB holds no description.")
    return chunks[b"JSON"], chunks.get(b"BIN\0", b"")
