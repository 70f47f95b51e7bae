"""STL, binary or text, told apart by the length that a binary one announces."""

import re
import struct
from dataclasses import replace

import numpy as np

from wsdemo.media.formats.obj import plain_text
from wsdemo.media.formats.polygons import triangulate
from wsdemo.media.formats.raw import Raw, check_size, cut_off, refuse
from wsdemo.media.meshes import Floats

RECORD = 50
"""Bytes of a triangle: normal and three corners as float32, and two of attributes."""
HEAD = 84
"""Bytes before them: 80 of comment, and the count."""
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)


def read_stl(data: bytes) -> Raw:
    """Reads an STL file.

    Raises:
        WsdemoError: Neither binary nor text STL, malformed or cut off.
    """
    count = struct.unpack("<I", data[80:HEAD])[0] if len(data) >= HEAD else -1
    if len(data) == HEAD + RECORD * count:
        return _soup(_binary(data, count), ())
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = plain_text(data).encode()
    start = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    is_text = start.startswith(b"solid") or re.search(rb"^\s*facet\b", start, re.MULTILINE)
    if is_text and b"\0" not in start:
        return _text(data)
    if count < 0:
        raise refuse(
            "Mesh unreadable",
            f"Neither text nor binary STL: it does not begin with 'solid', and {len(data)} bytes"
            f" are fewer than the {HEAD} of a binary head.",
        )
    whole, rest = divmod(len(data) - HEAD, RECORD)
    if 0 < count <= whole:
        extra = len(data) - HEAD - RECORD * count
        return _soup(_binary(data, count), (f"{extra:,} bytes behind its end were ignored.",))
    if rest == 0 and whole and (count == 0 or count > 10 * whole):
        says = f"Its head says {count:,} triangles; all {whole:,} that are there were read."
        return _soup(_binary(data, whole), (says,))
    if count == 0:
        raise refuse("No faces", f"Its head says 0 triangles, and {len(data) - HEAD} bytes follow.")
    raise cut_off(f"a binary STL that says {count:,} triangles has {whole:,} whole ones")


def _binary(data: bytes, count: int) -> Floats:
    """(3 count, 3) corners."""
    check_size(count)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
    corners = np.frombuffer(data, record, count, HEAD)["corners"]
    return corners.reshape(-1, 3).astype(np.float64)


def _text(data: bytes) -> Raw:
    vertices = _VERTEX.findall(data)
    check_size(len(vertices) // 3)
    try:
        corners = np.array([[float(x) for x in row] for row in vertices]).reshape(-1, 3)
    except ValueError as error:
        raise refuse(
            "Mesh unreadable", f"A vertex of the text STL is no number: {str(error)[:60]}."
        ) from error
    words = data.lower()
    facets = len(re.findall(rb"\bendfacet\b", words))
    notes: tuple[str, ...] = ()
    if not re.search(rb"\bend\s*solid\b", words[-4096:]):
        if len(vertices) < 3 * facets or facets == 0 or not words.rstrip().endswith(b"endfacet"):
            raise cut_off(f"a text STL whose {facets + 1:,}. facet does not end")
        notes = ("The last line, 'endsolid', is missing.",)
    sides = np.array([len(_VERTEX.findall(loop)) for loop in re.split(rb"\bendloop\b", words)])
    if (sides[:-1] == 3).all() and sides[-1] == 0:
        return _soup(corners, notes)
    if sides[-1]:
        raise refuse("Mesh unreadable", f"Its {len(vertices):,} vertices do not make loops.")
    polygons = triangulate(corners, np.arange(len(corners)), sides[:-1], notes)
    return replace(polygons, notes=(*polygons.notes, "Facets of more than three corners were cut."))


def _soup(corners: Floats, notes: tuple[str, ...]) -> Raw:
    return Raw(corners, np.arange(len(corners), dtype=np.int64).reshape(-1, 3), notes)
