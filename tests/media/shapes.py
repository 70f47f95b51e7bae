"""Meshes and fields that the tests of shapes share, made on the spot."""

import numpy as np
import trimesh

from wsdemo.media.meshes import Mesh


def from_trimesh(mesh: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(mesh.vertices, dtype=float), np.asarray(mesh.faces, dtype=np.int64))


def ball(radius: float = 0.6, subdivisions: int = 3) -> Mesh:
    return from_trimesh(trimesh.creation.icosphere(subdivisions, radius))


def box(x: float = 1.0, y: float = 0.6, z: float = 0.4) -> Mesh:
    return from_trimesh(trimesh.creation.box((x, y, z)))


def torus(major: float = 0.55, minor: float = 0.18) -> Mesh:
    return from_trimesh(trimesh.creation.torus(major, minor))


def torus_field(points: np.ndarray, major: float = 0.55, minor: float = 0.18) -> np.ndarray:
    """Exact signed distance of a torus around z."""
    p = points.astype(np.float64)
    ring = np.hypot(p[:, 0], p[:, 1]) - major
    return (np.hypot(ring, p[:, 2]) - minor).astype(np.float32)
