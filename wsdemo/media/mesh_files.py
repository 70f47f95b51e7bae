"""Mesh files in: bytes → raw arrays by the format's reader → a clean, bounded mesh."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsdemo.limits import KEPT_MESH_FACES, MIN_MESH_FACES
from wsdemo.media.formats.foreign import READABLE
from wsdemo.media.formats.gltf import read_gltf
from wsdemo.media.formats.obj import read_obj
from wsdemo.media.formats.off import read_off
from wsdemo.media.formats.ply import read_ply
from wsdemo.media.formats.raw import SIMPLER, Raw, check_size, refuse
from wsdemo.media.formats.stl import read_stl
from wsdemo.media.formats.threemf import read_3mf
from wsdemo.media.mesh_sources import Source, find_mesh
from wsdemo.media.mesh_writing import WRITABLE, mesh_bytes, precision_note
from wsdemo.media.meshes import (
    Floats,
    Ints,
    Mesh,
    closed_parts,
    face_normals,
    is_watertight,
    unique_rows,
    used_part,
    used_vertices,
    vertex_components,
)
from wsdemo.media.remesh import reduce_mesh, without_doubles

__all__ = [
    "READABLE", "WRITABLE", "MeshReport", "check_mesh", "mesh_bytes", "open_mesh",
    "precision_note", "reduce_mesh",
]  # fmt: skip


@dataclass(frozen=True)
class MeshReport:
    """What was found in a mesh file, and what was done to it.

    Attributes:
        kind: File format.
        vertices: As read.
        faces: As read.
        parts: Connected pieces.
        is_watertight: Whether every edge joins two faces.
        notes: What a person should know.
    """

    kind: str
    vertices: int
    faces: int
    parts: int
    is_watertight: bool
    notes: tuple[str, ...]


def open_mesh(path: Path | Sequence[Path]) -> tuple[Mesh, MeshReport]:
    """Reads a mesh file, whole scenes as one mesh.

    Args:
        path: The file, or several that belong together (a glTF and its buffers), or a zip of them.

    Raises:
        WsdemoError: Another format, too large, damaged, cut off, empty, a point cloud, not finite,
            or with its geometry in files that are not here.
    """
    source = find_mesh([path] if isinstance(path, Path) else list(path))
    try:
        raw = READERS[source.kind](source)
    except (MemoryError, RecursionError) as error:
        raise refuse(
            "Mesh too large", f"Reading it as {source.kind.upper()} takes too much memory.", SIMPLER
        ) from error
    if len(raw.faces) == 0:
        rest = "a point cloud" if len(raw.vertices) else "nothing that is read here"
        raise refuse("No faces", " ".join([f"The file holds no triangles: {rest}.", *raw.notes]))
    mesh, report = check_mesh(raw.vertices, raw.faces, source.kind)
    return mesh, replace(report, notes=(*source.notes, *raw.notes, *report.notes))


READERS: dict[str, Callable[[Source], Raw]] = {
    "glb": lambda source: read_gltf(source.data, "glb", source.beside),
    "gltf": lambda source: read_gltf(source.data, "gltf", source.beside),
    "obj": lambda source: read_obj(source.data),
    "ply": lambda source: read_ply(source.data),
    "stl": lambda source: read_stl(source.data),
    "off": lambda source: read_off(source.data),
    "3mf": lambda source: read_3mf(source.data),
}


def check_mesh(vertices: Floats, faces: Any, kind: str) -> tuple[Mesh, MeshReport]:
    """Cleans and bounds raw arrays, (V, 3) and (F, 3); see ``open_mesh``."""
    notes = []
    if len(faces) == 0 or len(vertices) == 0:
        raise refuse("No faces", "The file holds no triangles: a point cloud, or nothing.")
    check_size(len(faces))
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise refuse("Mesh unreadable", "Faces name vertices that are not there.")
    used = used_vertices(len(vertices), faces)
    if not np.isfinite(vertices[used]).all():
        bad = int((~np.isfinite(vertices[used]).all(1)).sum())
        raise refuse("Mesh not finite", f"{bad:,} of its vertices are NaN or infinite.")
    if np.abs(vertices[used]).max() > 1e30:
        raise refuse("Mesh not finite", "Its coordinates are too large to compute with.")
    merged = _merge(Mesh(vertices, faces))
    tight = is_watertight(merged)  # flat faces included: they close seams
    mesh = _without_flat_faces(merged)
    _check_count(mesh, "It has {} proper faces")
    if len(mesh.faces) < len(faces):
        left_out = len(faces) - len(mesh.faces)
        notes.append(f"Faces without area, or twice the same, were left out: {left_out:,}.")
    parts = int(vertex_components(mesh).max()) + 1
    if len(mesh.faces) > KEPT_MESH_FACES:
        whole, mesh = mesh, reduce_mesh(mesh)
        _check_count(mesh, f"Reducing its {len(whole.faces):,} faces leaves {{}}")
        notes.append(f"Reduced from {len(whole.faces):,} to {len(mesh.faces):,} faces.")
    return mesh, MeshReport(kind, len(vertices), len(faces), parts, tight, tuple(notes))


def _check_count(mesh: Mesh, form: str) -> None:
    if len(mesh.faces) < MIN_MESH_FACES:
        raise refuse(
            "Too few faces",
            f"{form.format(len(mesh.faces))}; a solid has at least {MIN_MESH_FACES}.",
            "Give a mesh of a whole object, without stray points far away from it.",
        )


def _merge(mesh: Mesh) -> Mesh:
    """Equal vertices made one, but not across parts that are closed by themselves.

    Faces that name a vertex twice, or are doubled, are dropped, and parts that are there twice.
    """
    mesh = used_part(mesh.vertices, mesh.faces)
    place, first = _welded(mesh.vertices)
    a, b, c = place[mesh.faces].T
    kept = (a != b) & (b != c) & (c != a)
    part = closed_parts(Mesh(mesh.vertices, mesh.faces[kept]))
    if part.any() and (part != part[0]).any():
        kept &= _first_of_each(part[mesh.faces[:, 0]], np.sort(place[mesh.faces], axis=1))
        place, first = _welded(np.column_stack([mesh.vertices, part]))
    return without_doubles(Mesh(mesh.vertices[first], place[mesh.faces[kept]]))


def _welded(rows: Any) -> tuple[Ints, Ints]:
    """(V,) which distinct row each row is, and where each distinct row is met first."""
    first, place = unique_rows(rows)
    return place, first


def _first_of_each(part: Ints, corners: Any) -> NDArray[np.bool_]:
    """(F,) whether a face belongs to no part (0), or to the first of all equal ones.

    Args:
        part: (F,) numbers of parts.
        corners: (F, 3) vertices, of all parts together, sorted in each face.
    """
    _, face = unique_rows(corners)
    sign = np.random.default_rng(0).integers(2**62, size=int(face.max()) + 1, dtype=np.int64)
    count = int(part.max()) + 1
    total = np.zeros(count, dtype=np.int64)  # equal for equal sets of faces; sums wrap around
    np.add.at(total, part, sign[face])
    sizes = np.bincount(part, minlength=count)
    first, which = unique_rows(np.stack([total, sizes], 1))
    return np.asarray((part == 0) | (first[which][part] == part))


FLAT = 1e-12
"""Area of a face, in squares of its longest side, that is none but for rounding."""


def _without_flat_faces(mesh: Mesh) -> Mesh:
    """Without faces whose corners lie on a line, and the vertices of only those."""
    corners = mesh.vertices[mesh.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    kept = face_normals(mesh)[1] > FLAT * sides.max(1, initial=0) ** 2
    return mesh if kept.all() else used_part(mesh.vertices, mesh.faces[kept])
