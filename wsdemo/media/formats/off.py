"""OFF and its kin (COFF, NOFF, STOFF, 4OFF): polygons with any number of corners."""

import re

import numpy as np

from wsdemo.media.formats.obj import plain_text
from wsdemo.media.formats.polygons import triangulate
from wsdemo.media.formats.raw import Raw, cut_off, refuse
from wsdemo.media.meshes import Floats

_HEAD = re.compile(r"\s*((?:ST)?C?N?(4?)(n?)OFF)(?=[\s\d]|$)")


def read_off(data: bytes) -> Raw:
    """Reads an OFF file; colours, normals and texture coordinates are passed over.

    Raises:
        WsdemoError: Binary, of another dimension, malformed or cut off.
    """
    lines = [line.partition("#")[0].strip() for line in plain_text(data).split("\n")]
    lines = [line for line in lines if line]
    head = _HEAD.match(lines[0]) if lines else None
    if head:
        rest = lines[0][head.end() :].strip()
        if "BINARY" in rest.upper() or head.group(3):
            raise refuse(
                "Mesh unreadable",
                f"Found {lines[0][:20]!r}: binary and n-dimensional OFF are not read here.",
            )
        lines = ([rest] if rest else []) + lines[1:]
    try:
        points, faces = (int(word) for word in lines[0].split()[:2])
    except (ValueError, IndexError) as error:
        found = lines[0][:40] if lines else ""
        raise refuse(
            "Mesh unreadable",
            f"Found {found!r} where OFF has its counts of vertices, faces and edges.",
        ) from error
    if points < 0 or faces < 0 or len(lines) - 1 < points + faces:
        raise cut_off(
            f"it promises {points:,} vertices and {faces:,} faces, and has"
            f" {len(lines) - 1:,} lines of them"
        )
    try:
        vertices = _vertices(lines[1 : 1 + points], is_homogeneous=bool(head and head.group(2)))
        rows = [line.split() for line in lines[1 + points : 1 + points + faces]]
        counts = [int(row[0]) for row in rows]
        corners = [int(i) for n, row in zip(counts, rows, strict=True) for i in row[1 : 1 + n]]
    except (ValueError, IndexError) as error:
        raise refuse("Mesh unreadable", f"A line of the OFF is malformed ({error}).") from error
    if len(corners) != sum(counts):
        raise cut_off("a face has fewer corners than it says")
    return triangulate(vertices, np.array(corners, np.int64), np.array(counts, np.int64))


def _vertices(lines: list[str], is_homogeneous: bool) -> Floats:
    width = 4 if is_homogeneous else 3
    values = [[float(word) for word in line.split()[:width]] for line in lines]
    points = np.array(values, dtype=np.float64).reshape(-1, width)
    return points[:, :3] / points[:, 3:] if is_homogeneous else points
