"""Other triangles of the same surface: long edges split, vertices that nearly coincide merged."""

import numpy as np

from wsdemo.limits import KEPT_MESH_FACES, MAX_NEAR_FACES, ORDINARY_NEAR_FACES
from wsdemo.media.meshes import Ints, Mesh, edge_uses, unique_rows, used_part
from wsdemo.media.sdf import near_faces

LONGEST = 0.2
"""Longest edge after splitting, in a box of side 1.8."""
CLUSTERS = (512, 256)
"""Cells a side of the clusterings that are tried: 0.2 and 0.4 % of the length."""


def eased(mesh: Mesh) -> tuple[Mesh, str | None]:
    """A normalised mesh whose winding numbers take less time, if they take long, and what was done.

    Long thin triangles, of a cylinder with a thousand sides for instance, reach far: a point near
    any of them is near hundreds. Splitting them helps where they are spread out, merging vertices
    that nearly coincide where they crowd; the field could not show the difference.
    """
    near = near_faces(mesh)
    if near <= ORDINARY_NEAR_FACES:
        return mesh, None
    best, note = mesh, None
    for cells in (None, *CLUSTERS):
        base = mesh if cells is None else cluster(mesh, cells)
        if len(base.faces) == 0:
            break
        for tried in (base, split_long_edges(base, LONGEST)):
            if (now := near_faces(tried)) < 0.7 * near:
                best, near = tried, now
                note = _note(mesh, tried, cells)
        if near <= MAX_NEAR_FACES / 2:
            break
    return best, note


def _note(mesh: Mesh, tried: Mesh, cells: int | None) -> str:
    note = f"Its long thin triangles were split: {len(mesh.faces):,} became {len(tried.faces):,}."
    if cells is not None:
        note = (
            f"Its many long thin triangles were simplified: vertices within {1 / cells:.1%} of its"
            f" length became one; {len(mesh.faces):,} faces became {len(tried.faces):,}."
        )
    return note


def split_long_edges(mesh: Mesh, longest: float, most: int = KEPT_MESH_FACES) -> Mesh:
    """Halves edges until none is longer than ``longest``; stops before there are too many faces.

    Both faces of an edge are split with it, so that a closed mesh stays closed.
    """
    while True:
        faces = mesh.faces
        corners = mesh.vertices[faces]
        length = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)  # 0-1, 1-2, 2-0
        is_long = length > longest
        if not is_long.any() or len(faces) + is_long.sum() > most:
            return mesh
        _, edge = edge_uses(faces)
        edge = edge.reshape(3, -1).T
        first = np.zeros(int(edge.max()) + 1, dtype=np.int64)
        marked, first_seen = np.unique(edge[is_long], return_index=True)
        first[marked] = len(mesh.vertices) + np.arange(len(marked))
        ends = np.stack([faces, np.roll(faces, -1, axis=1)], 2)[is_long][first_seen]
        middle = mesh.vertices[ends].mean(1)
        new = np.where(is_long, first[edge], -1)
        mesh = Mesh(np.concatenate([mesh.vertices, middle]), _cut(faces, new))


def _cut(faces: Ints, new: Ints) -> Ints:
    """(F', 3) triangles of (F, 3) faces with new vertices on some of their edges (−1: none)."""
    count = (new >= 0).sum(1)
    # Turned so that with one new vertex edge 0-1 has it, and with two edge 2-0 has none.
    turn = np.where(
        count == 1, (new >= 0).argmax(1), (np.where(count == 2, (new < 0).argmax(1), 2) + 1) % 3
    )
    column = (np.arange(3) + turn[:, None]) % 3
    f, n = np.take_along_axis(faces, column, 1), np.take_along_axis(new, column, 1)
    (a, b, c), (ab, bc, ca) = f.T, n.T
    one, two, three = (np.flatnonzero(count == k) for k in (1, 2, 3))

    def triangles(rows: Ints, *corners: tuple[Ints, Ints, Ints]) -> list[Ints]:
        return [np.stack([x[rows] for x in corner], 1) for corner in corners]

    pieces = [faces[count == 0]]
    pieces += triangles(one, (a, ab, c), (ab, b, c))
    pieces += triangles(two, (ab, b, bc), (a, ab, bc), (a, bc, c))
    pieces += triangles(three, (a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return np.concatenate(pieces)


def cluster(mesh: Mesh, cells: int) -> Mesh:
    """Makes the vertices of each cell, of so many along the longest side, one (Rossignac and Borrel
    1993): fast, bounded, blind to detail below a cell."""
    low, side = mesh.vertices.min(0), float(np.ptp(mesh.vertices, axis=0).max())
    cell = ((mesh.vertices - low) / max(side, 1e-30) * cells).astype(np.int64)
    _, inverse = unique_rows(cell)
    count = np.bincount(inverse)
    vertices = np.stack([np.bincount(inverse, mesh.vertices[:, i]) / count for i in range(3)], 1)
    return without_doubles(Mesh(vertices, inverse[mesh.faces]))


def reduce_mesh(mesh: Mesh, faces: int = KEPT_MESH_FACES) -> Mesh:
    """Merges the vertices of ever larger cells until at most ``faces`` are left."""
    cells = 512
    while True:
        reduced = cluster(mesh, cells)
        if len(reduced.faces) <= faces:
            return reduced
        cells = cells * 3 // 4


def without_doubles(mesh: Mesh) -> Mesh:
    """Without faces that name a vertex twice, or the same three vertices as an earlier one."""
    a, b, c = mesh.faces.T
    faces = mesh.faces[(a != b) & (b != c) & (c != a)]
    if len(faces) == 0:
        return Mesh(mesh.vertices[:0], faces)
    once, _ = unique_rows(np.sort(faces, axis=1))
    return used_part(mesh.vertices, faces[np.sort(once)])
