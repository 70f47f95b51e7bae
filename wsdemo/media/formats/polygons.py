"""Polygons → triangles: convex ones by a fan, others by ear clipping in their own plane."""

import mapbox_earcut
import numpy as np

from wsdemo.media.formats.raw import Raw, check_size, refuse
from wsdemo.media.meshes import Floats, Ints

TOLERANCE = 1e-9
"""Sine of the angle by which a corner may turn inwards and still count as straight."""


def triangulate(vertices: Floats, corners: Ints, counts: Ints, notes: tuple[str, ...] = ()) -> Raw:
    """Splits polygons into triangles, in order.

    Args:
        vertices: (V, 3).
        corners: (C,) vertices of all polygons, one after another.
        counts: (P,) how many of them each polygon has; those below 3 are left out, and noted.
        notes: What is known already.

    Raises:
        WsdemoError: A corner names a vertex that is not there, or there are too many faces.
    """
    check_size(int(np.maximum(counts - 2, 0).sum()))
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        bad = int(corners[(corners < 0) | (corners >= len(vertices))][0])
        raise refuse(
            "Mesh unreadable",
            f"A face names vertex {bad} (counted from 0), which is not there: the file has"
            f" {len(vertices):,}.",
        )
    starts = np.cumsum(counts) - counts
    owners, pieces, crossing = [], [], 0
    for sides in np.unique(counts[counts >= 3]).tolist():
        which = np.flatnonzero(counts == sides)
        polygons = corners[starts[which, None] + np.arange(sides)]
        convex = _is_convex(vertices[polygons]) if sides > 3 else np.ones(len(which), dtype=bool)
        owners.append(np.repeat(which[convex], sides - 2))
        pieces.append(polygons[convex][:, _fan(sides)].reshape(-1, 3))
        for place, polygon in zip(which[~convex].tolist(), polygons[~convex], strict=True):
            triangles = _clip_ears(vertices[polygon])
            if triangles is None:
                triangles, crossing = _fan(sides), crossing + 1
            owners.append(np.full(len(triangles), place))
            pieces.append(polygon[triangles])
    faces = np.concatenate(pieces) if pieces else np.zeros((0, 3), np.int64)
    if owners:
        faces = faces[np.argsort(np.concatenate(owners), kind="stable")]
    few = int((counts < 3).sum())
    if few:
        notes += (f"Faces of fewer than three corners were left out: {few:,}.",)
    if crossing:
        notes += (f"Polygons that cross themselves were cut into fans: {crossing:,}.",)
    return Raw(vertices, faces.astype(np.int64), notes)


def _fan(sides: int) -> Ints:
    """(sides − 2, 3) corners of the triangles around corner 0."""
    first = np.arange(1, sides - 1)
    return np.stack([np.zeros_like(first), first, first + 1], 1)


def _normals(points: Floats) -> Floats:
    """(P, 3) Newell normals, of twice the area's length, of (P, n, 3) polygons."""
    return np.asarray(np.cross(points, np.roll(points, -1, axis=1)).sum(1))


def _is_convex(points: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(P,) whether (P, n, 3) polygons turn one way at every corner, and once around."""
    local = points - points[:, :1]
    normal = _normals(local)
    length = np.linalg.norm(normal, axis=1)
    normal = normal / np.maximum(length, 1e-300)[:, None]
    edge = np.roll(local, -1, axis=1) - local
    before = np.roll(edge, 1, axis=1)
    sine = np.einsum("pnk,pk->pn", np.cross(before, edge), normal)
    size = np.linalg.norm(before, axis=2) * np.linalg.norm(edge, axis=2)
    cosine = (before * edge).sum(2)
    turns = np.arctan2(sine, cosine).sum(1) / (2 * np.pi)
    return np.asarray((sine >= -TOLERANCE * size).all(1) & (np.abs(turns - 1) < 0.25))


def _clip_ears(points: Floats) -> Ints | None:
    """(n − 2, 3) corners of triangles that fill an (n, 3) polygon; None if it crosses itself."""
    local = points - points.mean(0)
    normal = _normals(local[None])[0]
    area = float(np.linalg.norm(normal))
    if not area > 0:
        return None
    u, v = _plane(normal / area)
    flat = np.ascontiguousarray(np.stack([local @ u, local @ v], 1))
    corners = mapbox_earcut.triangulate_float64(flat, np.array([len(points)], dtype=np.uint32))
    triangles = np.asarray(corners, dtype=np.int64).reshape(-1, 3)
    a, b, c = (flat[triangles[:, i]] for i in range(3))
    signed = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[signed < 0] = triangles[signed < 0][:, ::-1]
    if abs(float(np.abs(signed).sum()) - area) > 1e-6 * area:
        return None
    return triangles


def _plane(normal: Floats) -> tuple[Floats, Floats]:
    """Two unit vectors u, v with u × v = normal."""
    helper = np.eye(3)[np.abs(normal).argmin()]
    u = np.cross(helper, normal)
    u = u / np.linalg.norm(u)
    return u, np.cross(normal, u)
