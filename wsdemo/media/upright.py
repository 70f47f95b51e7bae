"""Which way is up: what a file's format says, else what the shape of a mesh makes likely."""

import math

import numpy as np

from wsdemo.errors import WsdemoError
from wsdemo.media.meshes import STAND, Floats, Mesh, surface_points

Z_UP = ("stl", "3mf")
"""Formats of printers and CAD, whose vertical axis is z."""
Y_UP = ("glb", "gltf")
"""Formats whose specification says y."""
ODDS = {"obj": 4.0, "ply": 4.0, "off": 1.5}
"""How much likelier y than z is of files of a format, before one looks: exporters of OBJ and PLY
mostly turn to y; of sets in OFF some stand (Princeton's), some lie (ModelNet's). An estimate."""
WEIGHTS = (-1.18, 1.18, 3.44)
"""Of ``stance``'s numbers: benchmarks/upright.py fits them, and says how often they are right."""
SURE = 1.0
"""Evidence, in log odds, from which on it is named as the reason."""
CELLS = 16
"""Cells along the longest side, in which a mesh and its mirror image are compared."""
POINTS = 3000
BOTTOM = 0.04
"""The lowest share of a mesh's height, which it stands on."""


def upright(mesh: Mesh, up: str, kind: str) -> tuple[Mesh, str, tuple[str, ...]]:
    """A mesh with y as its vertical axis.

    Args:
        mesh: As read.
        up: Its vertical axis, ``y`` or ``z``; ``auto``: z for STL and 3MF, y for glTF, else the
            likelier of both.
        kind: Its format.

    Returns:
        The mesh, its own axis, and what was guessed, for a person.

    Raises:
        WsdemoError: Another axis.
    """
    if up not in ("auto", "y", "z"):
        raise WsdemoError("Unknown axis", f"Found {up[:20]!r}.", "Choose auto, y or z.")
    axis, notes = up, tuple[str, ...]()
    if up == "auto":
        axis, why = guessed_axis(mesh, kind)
        if why:
            notes = (
                f"Taken as {axis}-up, {why}; --up, or the choice of the upward axis, says"
                " otherwise.",
            )
    if axis == "z":
        mesh = Mesh(mesh.vertices @ STAND.T, mesh.faces)
    return mesh, axis, notes


def guessed_axis(mesh: Mesh, kind: str) -> tuple[str, str]:
    """The likely vertical axis of a mesh of a format, and why; no reason where it is known."""
    if kind in Y_UP:
        return "y", ""
    if kind in Z_UP:
        return "z", f"as {kind.upper()} mostly is"
    evidence = likelier_y(mesh)
    axis = "y" if evidence + math.log(ODDS.get(kind, 1.0)) > 0 else "z"
    if abs(evidence) > SURE and (evidence > 0) == (axis == "y"):
        return axis, "by how it stands" if axis == "y" else "by how it lies"
    return axis, f"as {kind.upper()} mostly is"


def likelier_y(mesh: Mesh) -> float:
    """log of how much likelier it is that y is up than that z is, if both were as likely before."""
    points, _ = surface_points(mesh, POINTS, 0)
    difference = np.subtract(stance(points, 1, 2), stance(points, 2, 1))
    return float(difference @ np.array(WEIGHTS))


def stance(points: Floats, up: int, depth: int) -> tuple[float, float, float]:
    """What tells whether an axis of (P, 3) points of a surface is up.

    Returns:
        How alike they are to their mirror image from top to bottom, and from front to back (0 to
        1): things differ from top to bottom. And the share of the footprint's box that the box of
        the lowest BOTTOM of them covers: things stand on their feet.
    """
    low, size = points.min(0), float(np.ptp(points, axis=0).max())
    place = (points - low) / max(size, 1e-30)
    side = place.max(0)
    bottom = place[place[:, up] <= BOTTOM * side[up]]
    ground = [axis for axis in range(3) if axis != up]
    footprint = max(float(side[ground].prod()), 1e-9)
    return (
        _likeness(place, side, up),
        _likeness(place, side, depth),
        float(np.ptp(bottom[:, ground], axis=0).prod() / footprint),
    )


def _likeness(place: Floats, side: Floats, axis: int) -> float:
    """Share of points whose mirror image lies in a cell that has points too."""
    count = np.maximum(np.ceil(side * CELLS).astype(np.int64), 1)
    filled = np.zeros(count, dtype=bool)
    filled[tuple(np.minimum((place * CELLS).astype(np.int64), count - 1).T)] = True
    mirrored = place.copy()
    mirrored[:, axis] = side[axis] - mirrored[:, axis]
    return float(filled[tuple(np.clip((mirrored * CELLS).astype(np.int64), 0, count - 1).T)].mean())
