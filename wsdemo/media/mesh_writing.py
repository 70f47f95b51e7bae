"""Meshes out: GLB, OBJ, PLY and STL, by trimesh."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import trimesh

from wsdemo.media.formats.raw import refuse
from wsdemo.media.meshes import Floats, Mesh, vertex_normals

WRITABLE = ("glb", "obj", "ply", "stl")


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
