"""Mesh files in and out, by trimesh: nothing outside the one file is ever read."""

import io
import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from wsdemo.errors import WsdemoError
from wsdemo.limits import (
    KEPT_MESH_FACES,
    MAX_MESH_BYTES,
    MAX_MESH_FACES,
    MAX_UNPACKED_BYTES,
    MIN_MESH_FACES,
)
from wsdemo.media.meshes import Floats, Ints, Mesh, vertex_components, vertex_normals

READABLE = ("glb", "gltf", "obj", "ply", "stl", "off", "3mf")
WRITABLE = ("glb", "obj", "ply", "stl")
_HINT = "Export the model again, as GLB, OBJ, PLY or STL."


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


def _refuse(title: str, message: str, hint: str = _HINT) -> WsdemoError:
    return WsdemoError(title, message, hint)


def _check_zip(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise _refuse("Mesh unreadable", "The 3MF file is no intact zip archive.") from error
    if unpacked > MAX_UNPACKED_BYTES:
        raise _refuse(
            "Mesh too large",
            f"The archive unpacks to {unpacked / 2**20:,.0f} MB;"
            f" {MAX_UNPACKED_BYTES / 2**20:.0f} are allowed.",
            "Export a simpler model.",
        )


def _without_pictures(data: bytes, kind: str) -> tuple[bytes, str]:
    """A glTF's own JSON, freed of textures; refuses one whose geometry lies in other files."""
    text, rest = data, b""
    if kind == "glb":
        if len(data) < 20 or data[:4] != b"glTF":
            raise _refuse("Mesh unreadable", "The file does not begin like a GLB.")
        (length,) = struct.unpack("<I", data[12:16])
        text, rest = data[20 : 20 + length], data[20 + length :]
    try:
        tree: Any = json.loads(text)
        buffers = [b.get("uri", "") for b in tree.get("buffers", [])]
        views = len(tree.get("bufferViews", []))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _refuse("Mesh unreadable", "Its glTF description is malformed.") from error
    outside = [str(uri)[:60] for uri in buffers if uri and not str(uri).startswith("data:")]
    if outside:
        raise _refuse(
            "Mesh incomplete",
            f"It keeps its geometry in another file, {outside[0]!r}, which is not here.",
            "Export as a single GLB file.",
        )
    if not views:
        raise _refuse("Empty mesh", "The scene holds no geometry.")
    for key in ("images", "textures", "materials", "samplers", "animations"):
        tree.pop(key, None)
    for mesh in tree.get("meshes", []):
        for primitive in mesh.get("primitives", []):
            primitive.pop("material", None)
    packed = json.dumps(tree).encode()
    if kind == "gltf":
        return packed, kind
    packed += b" " * (-len(packed) % 4)
    body = struct.pack("<I4s", len(packed), b"JSON") + packed + rest
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body, kind


def _parse(data: bytes, kind: str) -> Any:
    try:
        # resolver None: a material file or buffer that the mesh names is not looked for.
        return trimesh.load(
            io.BytesIO(data), file_type=kind, resolver=None, process=False, skip_materials=True
        )
    except WsdemoError:
        raise
    except Exception as error:  # every parser has errors of its own
        raise _refuse(
            "Mesh unreadable",
            f"Reading it as {kind.upper()} failed ({type(error).__name__}).",
        ) from error


def _flatten(loaded: Any) -> tuple[Floats, Any]:
    if isinstance(loaded, trimesh.Scene):
        if not loaded.geometry:
            raise _refuse("Empty mesh", "The scene holds no geometry.")
        loaded = loaded.to_mesh()
    if isinstance(loaded, trimesh.PointCloud) or not hasattr(loaded, "faces"):
        raise _refuse("No faces", "This is a point cloud or a set of lines, not a surface.")
    return np.asarray(loaded.vertices, dtype=np.float64), np.asarray(loaded.faces, dtype=np.int64)


def open_mesh(path: Path) -> tuple[Mesh, MeshReport]:
    """Reads a mesh file, whole scenes as one mesh.

    Raises:
        WsdemoError: Another format, too large, damaged, empty, a point cloud, not finite, or
            with its geometry in other files.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in READABLE:
        raise _refuse("Not a mesh", f"Found {path.suffix[:12]!r}; expected {', '.join(READABLE)}.")
    size = path.stat().st_size
    if size > MAX_MESH_BYTES:
        raise _refuse(
            "Mesh too large",
            f"The file has {size / 2**20:,.0f} MB; {MAX_MESH_BYTES / 2**20:.0f} are allowed.",
            "Export a simpler model.",
        )
    data = path.read_bytes()
    if kind == "3mf":
        _check_zip(data)
    if kind in ("glb", "gltf"):
        data, kind = _without_pictures(data, kind)
    vertices, faces = _flatten(_parse(data, kind))
    return check_mesh(vertices, faces, kind)


def check_mesh(vertices: Floats, faces: Any, kind: str) -> tuple[Mesh, MeshReport]:
    """Cleans and bounds raw arrays, (V, 3) and (F, 3); see ``open_mesh``."""
    notes = []
    if len(faces) == 0 or len(vertices) == 0:
        raise _refuse("No faces", "The file holds no triangles: a point cloud, or nothing.")
    if len(faces) > MAX_MESH_FACES:
        raise _refuse(
            "Mesh too large",
            f"It has {len(faces):,} faces; {MAX_MESH_FACES:,} are allowed.",
            "Decimate it first.",
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise _refuse("Mesh unreadable", "Faces name vertices that are not there.")
    used = np.unique(faces)
    if not np.isfinite(vertices[used]).all():
        bad = int((~np.isfinite(vertices[used]).all(1)).sum())
        raise _refuse("Mesh not finite", f"{bad:,} of its vertices are NaN or infinite.")
    if np.abs(vertices[used]).max() > 1e30:
        raise _refuse("Mesh not finite", "Its coordinates are too large to compute with.")
    found = Mesh(vertices, faces)
    merged = _merge(found)
    if len(merged.faces) < MIN_MESH_FACES:
        raise _refuse(
            "Too few faces",
            f"It has {len(merged.faces)} proper faces; a solid has at least {MIN_MESH_FACES}.",
            "Give a mesh of a whole object.",
        )
    if len(merged.faces) > KEPT_MESH_FACES:
        mesh = reduce_mesh(merged)
        notes.append(f"Reduced from {len(merged.faces):,} to {len(mesh.faces):,} faces.")
        merged = mesh
    dropped = len(found.faces) - len(merged.faces)
    if dropped and not notes:
        notes.append(f"{dropped:,} faces without area, or twice the same, were left out.")
    parts = int(vertex_components(merged).max()) + 1
    tight = bool(trimesh.Trimesh(merged.vertices, merged.faces, process=False).is_watertight)
    return merged, MeshReport(kind, len(vertices), len(faces), parts, tight, tuple(notes))


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
    """Equal vertices made one; unused ones, and faces without area or doubled, dropped."""
    used = np.unique(mesh.faces)
    place = np.zeros(len(mesh.vertices), dtype=np.int64)
    first, inverse = _unique_rows(mesh.vertices[used])
    unique, place[used] = mesh.vertices[used][first], inverse
    faces = place[mesh.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    if len(faces) == 0:
        return Mesh(unique, faces)
    first, _ = _unique_rows(np.sort(faces, axis=1))
    return Mesh(unique, faces[np.sort(first)])


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
        kind: One of WRITABLE. GLB carries vertex normals and a neutral material.
        normals: (V, 3) unit normals; default: of the mesh.

    Raises:
        WsdemoError: Another format.
    """
    if kind not in WRITABLE:
        raise _refuse("Unknown format", f"Found {kind[:12]!r}.", f"Use {', '.join(WRITABLE)}.")
    material = trimesh.visual.material.PBRMaterial(
        name="clay",
        baseColorFactor=[118, 117, 114, 255],
        metallicFactor=0.0,
        roughnessFactor=0.9,
        doubleSided=True,
    )
    exported = trimesh.Trimesh(
        mesh.vertices.astype(np.float32),
        mesh.faces,
        vertex_normals=vertex_normals(mesh) if normals is None else normals,
        process=False,
        visual=trimesh.visual.TextureVisuals(material=material) if kind == "glb" else None,
    )
    options: dict[str, Any] = {}
    if kind == "glb":
        options["include_normals"] = True
    if kind == "obj":
        options = {"include_normals": True, "header": "wsdemo", "digits": 6}
    content = exported.export(file_type=kind, **options)
    return content.encode() if isinstance(content, str) else bytes(content)
