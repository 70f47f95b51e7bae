"""Mesh files in and out, by trimesh: nothing outside the one file is ever read."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from wsdemo.errors import WsdemoError
from wsdemo.limits import KEPT_MESH_FACES, MAX_MESH_BYTES, MIN_MESH_FACES
from wsdemo.media.mesh_headers import check_3mf, check_size, prepare_gltf, refuse
from wsdemo.media.meshes import (
    Floats,
    Ints,
    Mesh,
    face_normals,
    used_part,
    used_vertices,
    vertex_components,
    vertex_normals,
)

READABLE = ("glb", "gltf", "obj", "ply", "stl", "off", "3mf")
WRITABLE = ("glb", "obj", "ply", "stl")


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


def _parse(data: bytes, kind: str) -> tuple[Floats, Any]:
    """Vertices and faces of the whole scene, as the library reads them."""
    try:
        # resolver None: a material file or buffer that the mesh names is not looked for.
        loaded = trimesh.load(
            io.BytesIO(data), file_type=kind, resolver=None, process=False, skip_materials=True
        )
        return _flatten(loaded)
    except WsdemoError:
        raise
    except Exception as error:  # every parser has errors of its own
        raise refuse(
            "Mesh unreadable",
            f"Reading it as {kind.upper()} failed ({type(error).__name__}).",
        ) from error


def _flatten(loaded: Any) -> tuple[Floats, Any]:
    if isinstance(loaded, trimesh.Scene):
        if not loaded.geometry:
            raise refuse("Empty mesh", "The scene holds no geometry.")
        names = [loaded.graph[node][1] for node in loaded.graph.nodes_geometry]
        sizes = [len(getattr(loaded.geometry[name], "faces", ())) for name in names]
        check_size(sum(sizes), len(sizes))  # before each place becomes a copy
        loaded = loaded.to_mesh()
    if isinstance(loaded, trimesh.PointCloud) or not hasattr(loaded, "faces"):
        raise refuse("No faces", "This is a point cloud or a set of lines, not a surface.")
    return np.asarray(loaded.vertices, dtype=np.float64), np.asarray(loaded.faces, dtype=np.int64)


def open_mesh(path: Path) -> tuple[Mesh, MeshReport]:
    """Reads a mesh file, whole scenes as one mesh.

    Raises:
        WsdemoError: Another format, too large, damaged, empty, a point cloud, not finite, or
            with its geometry in other files.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in READABLE:
        raise refuse("Not a mesh", f"Found {path.suffix[:12]!r}; expected {', '.join(READABLE)}.")
    size = path.stat().st_size
    if size > MAX_MESH_BYTES:
        raise refuse(
            "Mesh too large",
            f"The file has {size / 2**20:,.0f} MB; {MAX_MESH_BYTES / 2**20:.0f} are allowed.",
            "Export a simpler model.",
        )
    data = path.read_bytes()
    if kind == "3mf":
        check_3mf(data)
    if kind in ("glb", "gltf"):
        data = prepare_gltf(data, kind)
    return check_mesh(*_parse(data, kind), kind)


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
    tight = _is_watertight(merged)  # flat faces included: they close seams
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


def _check_count(mesh: Mesh, found: str) -> None:
    if len(mesh.faces) < MIN_MESH_FACES:
        raise refuse(
            "Too few faces",
            f"{found.format(len(mesh.faces))}; a solid has at least {MIN_MESH_FACES}.",
            "Give a mesh of a whole object, without stray points far away from it.",
        )


def _is_watertight(mesh: Mesh) -> bool:
    """Whether every edge joins exactly two faces."""
    ends = np.sort(np.concatenate([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    edges = np.sort(ends[:, 0] * len(mesh.vertices) + ends[:, 1])
    if len(edges) % 2:
        return False
    first, second = edges[::2], edges[1::2]
    return bool((first == second).all() and (first[1:] != second[:-1]).all())


def _unique_rows(rows: Any) -> tuple[Ints, Ints]:
    """First index of each distinct row of (n, 3), and (n,) which of them each row is.

    Column by column, since numpy compares whole rows ten times more slowly.
    """
    key = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        _, place = np.unique(column, return_inverse=True)
        _, key = np.unique(key * (int(place.max()) + 1) + place, return_inverse=True)
    _, first = np.unique(key, return_index=True)
    return first, key


def _merge(mesh: Mesh) -> Mesh:
    """Equal vertices made one; faces that name one twice, or are doubled, dropped."""
    used = used_vertices(len(mesh.vertices), mesh.faces)
    place = np.zeros(len(mesh.vertices), dtype=np.int64)
    first, inverse = _unique_rows(mesh.vertices[used])
    unique, place[used] = mesh.vertices[used][first], inverse
    faces = place[mesh.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    if len(faces) == 0:
        return Mesh(unique[:0], faces)
    first, _ = _unique_rows(np.sort(faces, axis=1))
    return used_part(unique, faces[np.sort(first)])


FLAT = 1e-12
"""Area of a face, in squares of its longest side, that is none but for rounding."""


def _without_flat_faces(mesh: Mesh) -> Mesh:
    """Without faces whose corners lie on a line, and the vertices of only those."""
    corners = mesh.vertices[mesh.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    kept = face_normals(mesh)[1] > FLAT * sides.max(1, initial=0) ** 2
    return mesh if kept.all() else used_part(mesh.vertices, mesh.faces[kept])


def reduce_mesh(mesh: Mesh, faces: int = KEPT_MESH_FACES) -> Mesh:
    """Merges the vertices of ever larger cells until at most ``faces`` are left.

    Vertex clustering (Rossignac and Borrel 1993): fast, bounded, blind to detail below a cell.
    """
    low, side = mesh.vertices.min(0), float(np.ptp(mesh.vertices, axis=0).max())
    cells = 512
    while True:
        cell = ((mesh.vertices - low) / max(side, 1e-30) * cells).astype(np.int64)
        _, inverse = _unique_rows(cell)
        count = np.bincount(inverse)
        vertices = np.stack(
            [np.bincount(inverse, mesh.vertices[:, i]) / count for i in range(3)], 1
        )
        reduced = _merge(Mesh(vertices, inverse[mesh.faces]))
        if len(reduced.faces) <= faces:
            return reduced
        cells = cells * 3 // 4


def mesh_bytes(mesh: Mesh, kind: str, normals: Floats | None = None) -> bytes:
    """The content of a mesh file; equal meshes give equal bytes.

    Args:
        mesh: The mesh.
        kind: One of WRITABLE. GLB carries vertex normals and a neutral material. Far from the
            origin only GLB and OBJ are exact: see ``precision_note``.
        normals: (V, 3) unit normals; default: of the mesh.

    Raises:
        WsdemoError: Another format.
    """
    if kind not in WRITABLE:
        raise refuse("Unknown format", f"Found {kind[:12]!r}.", f"Use {', '.join(WRITABLE)}.")
    material = trimesh.visual.material.PBRMaterial(
        name="clay",
        baseColorFactor=[118, 117, 114, 255],
        metallicFactor=0.0,
        roughnessFactor=0.9,
        doubleSided=True,
    )
    far = is_far(mesh)
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2 if far else np.zeros(3)
    # In text, and with the place in a node of its own, nothing is lost far from the origin.
    local = mesh.vertices - middle if kind == "glb" else mesh.vertices
    exported: Any = trimesh.Trimesh(
        local if far and kind == "obj" else local.astype(np.float32),
        mesh.faces,
        vertex_normals=vertex_normals(mesh) if normals is None else normals,
        process=False,
        visual=trimesh.visual.TextureVisuals(material=material) if kind == "glb" else None,
    )
    options: dict[str, Any] = {}
    if kind == "glb":
        options["include_normals"] = True
        if far:
            placed = trimesh.transformations.translation_matrix(middle)
            exported = trimesh.Scene(exported, base_frame="world")
            exported.graph.update("geometry_0", matrix=placed)
    if kind == "obj":
        options = {"include_normals": True, "header": "wsdemo", "digits": _digits(mesh)}
    content = exported.export(file_type=kind, **options)
    return content.encode() if isinstance(content, str) else bytes(content)


FAR = 64
"""Sides of its box that a mesh may be away from the origin, to be stored in 32 bits as it is: its
vertices then move by less than 4 millionths of the side."""


def is_far(mesh: Mesh) -> bool:
    """Whether a mesh is so far from the origin that 32-bit coordinates would move its vertices."""
    return bool(np.abs(mesh.vertices).max() > FAR * np.ptp(mesh.vertices, axis=0).max())


def precision_note(mesh: Mesh, kinds: Sequence[str] = WRITABLE) -> str | None:
    """What a person should know about coordinates in files of those formats; None if nothing."""
    short = [kind.upper() for kind in kinds if kind in ("ply", "stl")]
    if not short or not is_far(mesh):
        return None
    step = float(np.spacing(np.float32(np.abs(mesh.vertices).max())))
    return (
        f"{' and '.join(short)} keep 7 digits: so far from the origin, coordinates go in steps of"
        f" {step:g}. GLB and OBJ are exact."
    )


def _digits(mesh: Mesh) -> int:
    """Decimals of an OBJ: 6, and for a mesh smaller than 0.1 so many more."""
    side = float(np.ptp(mesh.vertices, axis=0).max())
    return max(6, 5 + math.ceil(-math.log10(side))) if side > 0 else 6
