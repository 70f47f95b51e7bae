"""Triangle meshes: what they are here, their pose, areas, and points on their surface."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXTENT = 0.9
"""Half the longest side of a normalised mesh: the field lives in [-1, 1]³ with a margin."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64, counter-clockwise seen from outside.
    """

    vertices: Floats
    faces: Ints

    @property
    def hash(self) -> str:
        """SHA-256 of vertices and faces."""
        digest = hashlib.sha256(np.ascontiguousarray(self.vertices).tobytes())
        digest.update(np.ascontiguousarray(self.faces).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Pose:
    """Where a mesh stood before it was normalised: original = turn(scale · normalised + centre).

    Attributes:
        centre: Of its bounding box, after it was turned upright, in its units.
        scale: Its units a unit of the normalised mesh.
        up: Its own vertical axis: ``y``, or ``z`` if it was turned.
    """

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    up: str = "y"

    def undo(self, mesh: Mesh) -> Mesh:
        """A normalised mesh back in the place, units and direction that it came from."""
        vertices = mesh.vertices * self.scale + np.asarray(self.centre)
        if self.up == "z":
            vertices = vertices @ STAND  # its inverse, of row vectors
        return Mesh(vertices, mesh.faces)


STAND = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Turns a z-up column vector upright: (x, y, z) → (x, z, −y)."""


def used_vertices(count: int, faces: Ints) -> Ints:
    """Those of ``count`` vertices that (F, 3) faces name, in order."""
    named = np.zeros(count, dtype=bool)
    named[faces.ravel()] = True
    return np.flatnonzero(named)


def used_part(vertices: Floats, faces: Ints) -> Mesh:
    """The mesh of (F, 3) faces and only those of (V, 3) vertices that they name, in order."""
    used = used_vertices(len(vertices), faces)
    place = np.zeros(len(vertices), dtype=np.int64)
    place[used] = np.arange(len(used))
    return Mesh(vertices[used], place[faces])


def unique_rows(rows: Any) -> tuple[Ints, Ints]:
    """First index of each distinct row of (n, 3), and (n,) which of them each row is.

    Column by column, since numpy compares whole rows ten times more slowly.
    """
    key = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        _, place = np.unique(column, return_inverse=True)
        _, key = np.unique(key * (int(place.max()) + 1) + place, return_inverse=True)
    _, first = np.unique(key, return_index=True)
    return first, key


def normalise(mesh: Mesh) -> tuple[Mesh, Pose]:
    """Centres the bounding box and scales its longest side to 2 · EXTENT."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    centre = (low + high) / 2
    scale = float((high - low).max() / 2 / EXTENT)
    pose = Pose((float(centre[0]), float(centre[1]), float(centre[2])), scale)
    return Mesh((mesh.vertices - centre) / scale, mesh.faces), pose


def face_normals(mesh: Mesh) -> tuple[Floats, Floats]:
    """Unit normals (F, 3), zero for slivers, and areas (F,)."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(length, 1e-30)[:, None], length / 2


def surface_points(mesh: Mesh, count: int, seed: int) -> tuple[Floats, Ints]:
    """Draws points uniformly on the surface.

    Returns:
        (count, 3) points, and the (count,) faces that they lie on.
    """
    rng = np.random.default_rng(seed)
    _, areas = face_normals(mesh)
    cumulative = np.cumsum(areas)
    chosen = np.searchsorted(cumulative, rng.random(count) * cumulative[-1])
    face = np.minimum(chosen, len(areas) - 1).astype(np.int64)
    # A uniform point of a triangle: fold the unit square along its diagonal.
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = (mesh.vertices[mesh.faces[face, i]] for i in range(3))
    return a + u * (b - a) + v * (c - a), face


def edge_uses(faces: Ints) -> tuple[Ints, Ints]:
    """(3 F,) how many faces the edges 0-1, 1-2 and 2-0 of all faces have, in three blocks, and
    which edge each of them is."""
    ends = np.sort(np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    key = ends[:, 0] * (int(ends.max(initial=0)) + 1) + ends[:, 1]
    _, edge, uses = np.unique(key, return_inverse=True, return_counts=True)
    return np.asarray(uses[edge], dtype=np.int64), np.asarray(edge, dtype=np.int64)


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge joins exactly two faces."""
    return bool((edge_uses(mesh.faces)[0] == 2).all())


def closed_parts(mesh: Mesh) -> Ints:
    """(V,) number from 1 of the closed part that a vertex belongs to, by the faces' own indices;
    0 for vertices of parts that have a border."""
    if len(mesh.vertices) >= 3 * len(mesh.faces) or len(mesh.faces) == 0:
        return np.zeros(len(mesh.vertices), np.int64)  # a soup: no two faces share a vertex
    label = vertex_components(mesh)
    uses, _ = edge_uses(mesh.faces)
    is_open = np.zeros(int(label.max()) + 1, dtype=bool)
    is_open[label[np.tile(mesh.faces[:, 0], 3)[uses != 2]]] = True
    return np.where(is_open[label], 0, label + 1)


def vertex_components(mesh: Mesh) -> Ints:
    """(V,) number of the connected piece that each vertex belongs to."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    count = len(mesh.vertices)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def vertex_normals(mesh: Mesh) -> Floats:
    """(V, 3) unit normals, the mean of the faces around each vertex, weighted by area."""
    normals, areas = face_normals(mesh)
    weighted = normals * areas[:, None]
    total = np.zeros_like(mesh.vertices)
    for axis in range(3):
        for corner in range(3):
            total[:, axis] += np.bincount(
                mesh.faces[:, corner], weighted[:, axis], minlength=len(total)
            )
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)


def statistics(mesh: Mesh) -> dict[str, float]:
    """Counts, area, volume (by the divergence theorem) and the sides of the bounding box."""
    _, areas = face_normals(mesh)
    local = mesh.vertices - mesh.vertices.mean(0)  # far from the origin, products lose the volume
    a, b, c = (local[mesh.faces[:, i]] for i in range(3))
    size = np.ptp(mesh.vertices, axis=0)
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "parts": int(vertex_components(mesh).max()) + 1,
        "area": float(areas.sum()),
        "volume": float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6),
        "width": float(size[0]),
        "height": float(size[1]),
        "depth": float(size[2]),
    }
