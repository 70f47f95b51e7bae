"""PLY, text or binary of either byte order: polygons of any size, and triangle strips."""

import re
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wsdemo.media.formats.polygons import triangulate
from wsdemo.media.formats.raw import Raw, cut_off, joined, refuse
from wsdemo.media.formats.strips import strip_triangles
from wsdemo.media.meshes import Floats, Ints

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "int64": "i8", "uint64": "u8", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
         "f4": "f", "f8": "d"}  # fmt: skip
_END = re.compile(rb"(?<=[\r\n])[ \t]*end_header[ \t]*(?:\r\n|\r|\n|\Z)")
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass
class Element:
    """A table of the file.

    Attributes:
        name: What its rows are: ``vertex``, ``face`` or another.
        count: Rows.
        columns: Name, type, and type of the length of a list (None for a single value).
    """

    name: str
    count: int
    columns: list[tuple[str, str, str | None]] = field(default_factory=list)


def read_ply(data: bytes) -> Raw:
    """Reads a PLY file.

    Raises:
        WsdemoError: Malformed, cut off, or without vertices or faces.
    """
    order, elements, start = _head(data)
    rows = _text_rows(data, elements, start) if not order else _rows(data, order, elements, start)
    vertices = np.zeros((0, 3))
    notes: tuple[str, ...] = ()
    parts: list[tuple[Floats, Ints]] = []
    for element, table in zip(elements, rows, strict=True):
        name = element.name.lower()
        if name in ("vertex", "vertices", "point", "points"):
            vertices = _points(element, table)
    for element, table in zip(elements, rows, strict=True):
        name = element.name.lower()
        lists = _index_lists(element, table)
        if lists is None:
            continue
        if name.startswith("tristrip"):
            parts.append((vertices, _strips(vertices, *lists)))
        elif name in ("face", "faces", "polygon", "polygons"):
            raw = triangulate(vertices, *lists)
            parts.append((vertices, raw.faces))
            notes += raw.notes
    if not parts:
        return Raw(vertices, np.zeros((0, 3), np.int64), notes)
    if len(parts) == 1:
        return Raw(*parts[0], notes)
    return joined(parts, notes)


def _head(data: bytes) -> tuple[str, list[Element], int]:
    """Byte order (empty: text), the elements, and where their rows begin."""
    last = _END.search(data)
    if not data.removeprefix(b"\xef\xbb\xbf").startswith(b"ply") or last is None:
        raise refuse("Mesh unreadable", "The file does not begin like a PLY.")
    end, start = last.span()
    order, elements = None, list[Element]()
    try:
        for line in data[:end].decode("latin-1").replace("\r", "\n").split("\n"):
            words = line.split()
            if words[:1] == ["format"]:
                order = ORDERS[words[1]]
            elif words[:1] == ["element"]:
                elements.append(Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                elements[-1].columns.append((words[4], TYPES[words[3]], TYPES[words[2]]))
            elif words[:1] == ["property"]:
                elements[-1].columns.append((words[2], TYPES[words[1]], None))
        if order is None or any(element.count < 0 for element in elements):
            raise ValueError
    except (KeyError, IndexError, ValueError) as error:
        raise refuse("Mesh unreadable", f"The head of the PLY is malformed ({error}).") from error
    return order, elements, start


Table = dict[str, Any]
"""Column → (n,) values; of a list: all values, and (n,) lengths."""


def _rows(data: bytes, order: str, elements: list[Element], start: int) -> list[Table]:
    tables = []
    for element in elements:
        try:
            table, start = _table(data, order, element, start)
        except (ValueError, struct.error) as error:
            raise cut_off(
                f"a PLY that says {element.count:,} rows of {element.name[:20]!r} ends within them"
            ) from error
        tables.append(table)
    return tables


def _table(data: bytes, order: str, element: Element, start: int) -> tuple[Table, int]:
    """All rows of one element; as one block if all its lists are as long as the first."""
    if element.count == 0:
        return {}, start
    place = start
    kinds: list[Any] = []
    for name, kind, length in element.columns:
        if length is None:
            kinds.append((name, order + kind))
            place += int(kind[1])
        else:
            (n,) = struct.unpack_from(order + CODES[length], data, place)
            kinds += [(f"{name} length", order + length), (name, order + kind, (int(n),))]
            place += int(length[1]) + int(n) * int(kind[1])
    size = (place - start) * element.count
    lists = [name for name, _, length in element.columns if length]
    if start + size <= len(data):
        block = np.frombuffer(data, np.dtype(kinds), element.count, start)
        lengths = [block[f"{name} length"] for name in lists]
        if all((n == n[0]).all() for n in lengths):
            return {name: block[name] if name not in lists
                    else (block[name].reshape(-1), block[f"{name} length"].astype(np.int64))
                    for name, _, _ in element.columns}, start + size  # fmt: skip
    if not lists:
        raise ValueError
    return _row_by_row(data, order, element, start)


def _row_by_row(data: bytes, order: str, element: Element, start: int) -> tuple[Table, int]:
    values: dict[str, list[Any]] = {name: [] for name, _, _ in element.columns}
    lengths: dict[str, list[int]] = {name: [] for name, _, n in element.columns if n}
    unpack = struct.unpack_from
    for _ in range(element.count):
        for name, kind, length in element.columns:
            n = 1
            if length is not None:
                n = int(unpack(order + CODES[length], data, start)[0])
                start += int(length[1])
                lengths[name].append(n)
            values[name] += unpack(f"{order}{n}{CODES[kind]}", data, start)
            start += n * int(kind[1])
    return _as_arrays(values, lengths), start


def _text_rows(data: bytes, elements: list[Element], start: int) -> list[Table]:
    words, place, tables = data[start:].split(), 0, []
    for element in elements:
        values: dict[str, list[Any]] = {name: [] for name, _, _ in element.columns}
        lengths: dict[str, list[int]] = {name: [] for name, _, n in element.columns if n}
        try:
            for _ in range(element.count):
                for name, _, length in element.columns:
                    n = 1
                    if length is not None:
                        n = int(words[place])
                        place += 1
                        lengths[name].append(n)
                    if n < 0 or place + n > len(words):
                        raise IndexError
                    values[name] += map(float, words[place : place + n])
                    place += n
        except IndexError as error:
            raise cut_off(
                f"a PLY that says {element.count:,} rows of {element.name[:20]!r} ends within them"
            ) from error
        except ValueError as error:
            raise refuse("Mesh unreadable", f"A row of the PLY is malformed ({error}).") from error
        tables.append(_as_arrays(values, lengths))
    return tables


def _as_arrays(values: dict[str, list[Any]], lengths: dict[str, list[int]]) -> Table:
    return {
        name: (np.array(v), np.array(lengths[name], np.int64)) if name in lengths else np.array(v)
        for name, v in values.items()
    }


def _points(element: Element, table: Table) -> Floats:
    """(V, 3) coordinates: the columns x, y and z, whatever their case."""
    names = {name.lower(): name for name in table}
    if not {"x", "y", "z"} <= set(names):
        if not element.count:
            return np.zeros((0, 3))
        columns = ", ".join(name for name, _, _ in element.columns)[:80]
        raise refuse("Mesh unreadable", f"Its vertices have {columns}; expected x, y and z.")
    return np.stack([table[names[axis]].astype(np.float64) for axis in "xyz"], 1)


def _index_lists(element: Element, table: Table) -> Any:
    """Values and lengths of the list of vertices, whatever it is called; None if there is none."""
    lists = [(n, kind) for n, kind, length in element.columns if length is not None and n in table]
    lists.sort(key=lambda column: (not column[0].lower().startswith("vert"), column[1][0] == "f"))
    if not lists:
        return None
    values, lengths = table[lists[0][0]]
    return values.astype(np.int64), lengths


def _strips(vertices: Floats, values: Ints, lengths: Ints) -> Ints:
    """(F, 3) triangles of strips, which end with their row or with a −1 within it."""
    if len(values) and values.max() >= len(vertices):
        raise refuse("Mesh unreadable", "A strip names a vertex that is not there.")
    pieces = [np.zeros((0, 3), np.int64)]
    for row in np.split(values, np.cumsum(lengths)[:-1]):
        for strip in np.split(row, np.flatnonzero(row < 0)):
            pieces.append(strip_triangles(strip[strip >= 0]))
    return np.concatenate(pieces)
