"""Wavefront OBJ: vertices and polygons; indices may count from the end, lines may go on."""

import re

import numpy as np

from wsdemo.media.formats.polygons import triangulate
from wsdemo.media.formats.raw import Raw, refuse

_LINE_END = r"\\[ \t]*\n"
_CONTINUED = re.compile(
    rf"^[ \t]*(?:v|f|fo|p|l)[ \t](?:[^\n]*{_LINE_END})+", re.MULTILINE | re.IGNORECASE
)
"""A line of numbers that goes on in the next ones; names of files and comments may end like it."""
FREEFORM = {"curv", "curv2", "surf", "vp", "cstype"}


def plain_text(data: bytes) -> str:
    """Text of any line ending, with or without a byte order mark."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_obj(data: bytes) -> Raw:
    """Reads an OBJ file.

    Raises:
        WsdemoError: A line is malformed, or a face names a vertex that is not there.
    """
    text = plain_text(data)
    if "\\" in text:
        text = re.sub(r"\\\s*\Z", "", text)
        text = _CONTINUED.sub(lambda line: re.sub(_LINE_END, " ", line.group()), text)
    vertices: list[float] = []
    corners: list[int] = []
    counts: list[int] = []
    others = {"p": 0, "l": 0, "freeform": 0}
    for number, line in enumerate(text.split("\n"), 1):
        if "#" in line:
            line = line.partition("#")[0]
        words = line.split()
        if not words:
            continue
        kind = words[0].lower()
        try:
            if kind == "v":
                x, y, z = words[1:4]
                vertices += (float(x), float(y), float(z))
            elif kind in ("f", "fo"):
                named = [int(word.partition("/")[0]) for word in words[1:]]
                vertex_count = len(vertices) // 3
                corners += [i - 1 if i > 0 else vertex_count + i if i else -1 for i in named]
                counts.append(len(named))
            elif kind in ("p", "l"):
                others[kind] += 1
            elif kind in FREEFORM:
                others["freeform"] += 1
        except ValueError as error:
            raise refuse(
                "Mesh unreadable",
                f"Line {number:,} of the OBJ is malformed: {line.strip()[:60]!r}.",
            ) from error
    points = np.array(vertices, dtype=np.float64).reshape(-1, 3)
    return triangulate(
        points, np.array(corners, np.int64), np.array(counts, np.int64), _notes(others)
    )


def _notes(others: dict[str, int]) -> tuple[str, ...]:
    words = {
        "p": "Points were left out: {:,} lines.",
        "l": "Lines were left out: {:,}.",
        "freeform": "Free-form curves and surfaces were left out: {:,} lines.",
    }
    return tuple(words[kind].format(count) for kind, count in others.items() if count)
