"""OFF and its kin (COFF, NOFF, STOFF, 4OFF): polygons with any number of corners."""

import re

import numpy as np

from wsdemo.media.formats.obj import plain_text
from wsdemo.media.formats.polygons import triangulate
from wsdemo.media.formats.raw import Raw, cut_off, refuse

_HEAD = re.compile(r"\s*((?:ST)?C?N?(4?)(n?)(?:OFF|off|Off))(?=[\s\d]|$)")


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
    points, faces, lines = _counts(lines)
    width = 4 if head and head.group(2) else 3
    try:
        if len(lines) >= points + faces and all(len(x.split()) >= width for x in lines[:points]):
            values = [[float(word) for word in x.split()[:width]] for x in lines[:points]]
            rows = [[int(w) for w in _corners(x.split())] for x in lines[points : points + faces]]
        else:
            values, rows = _from_words(" ".join(lines).split(), points, faces, width)
    except (ValueError, IndexError) as error:
        raise refuse("Mesh unreadable", f"A line of the OFF is malformed ({error}).") from error
    vertices = np.array(values, dtype=np.float64).reshape(-1, width)
    if width == 4:
        vertices = vertices[:, :3] / vertices[:, 3:]
    counts = np.array([len(row) for row in rows], np.int64)
    corners = np.array([i for row in rows for i in row], np.int64)
    return triangulate(vertices, corners, counts)


def _counts(lines: list[str]) -> tuple[int, int, list[str]]:
    """How many vertices and faces there are, and the lines after; the count of edges may lack, and
    the three may stand on lines of their own."""
    numbers: list[int] = []
    place = 0
    words = lines[0].split() if lines else []
    if len(words) > 3:  # all in one line
        lines = [" ".join(words[:3]), " ".join(words[3:]), *lines[1:]]
    try:
        while len(numbers) < 2 or (len(numbers) == 2 and place < len(lines)):
            words = lines[place].split()
            if numbers and len(words) > 1:
                break
            numbers += [int(word) for word in words]
            place += 1
    except (ValueError, IndexError):
        numbers = numbers if len(numbers) == 2 else []
    if len(numbers) < 2 or min(numbers[:2]) < 0:
        first = lines[0][:40] if lines else ""
        raise refuse(
            "Mesh unreadable",
            f"Found {first!r} where OFF has its counts of vertices, faces and edges.",
        )
    return numbers[0], numbers[1], lines[place:]


def _corners(words: list[str]) -> list[str]:
    """The corners of a face; colours may follow them."""
    count = int(words[0])
    if not 0 <= count < len(words):
        raise cut_off("a face has fewer corners than it says")
    return words[1 : 1 + count]


def _from_words(
    words: list[str], points: int, faces: int, width: int
) -> tuple[list[list[float]], list[list[int]]]:
    """Vertices and faces of a file that has not one of them a line: all its words in a row."""
    place = points * width
    if place > len(words):
        raise cut_off(
            f"it promises {points:,} vertices and {faces:,} faces, and has numbers for"
            f" {len(words) // width:,} vertices"
        )
    values = [[float(w) for w in words[i : i + width]] for i in range(0, place, width)]
    rows: list[list[int]] = []
    while len(rows) < faces and place < len(words):
        rows.append([int(w) for w in _corners(words[place : place + 1 + int(words[place])])])
        place += 1 + len(rows[-1])
    if len(rows) < faces:
        raise cut_off(
            f"it promises {points:,} vertices and {faces:,} faces, and has {len(rows):,} faces"
        )
    return values, rows
