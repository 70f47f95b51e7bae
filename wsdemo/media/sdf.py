"""Signed distance of points to a mesh: negative inside, even where the mesh has holes.

Inside and outside come from the generalised winding number (Jacobson et al. 2013), by
libigl's fast summation: a hole or a patch of flipped faces moves it a little, where a ray
would count wrong.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import igl
import numpy as np
from numpy.typing import NDArray

from wsdemo.errors import WsdemoError
from wsdemo.files import whole
from wsdemo.limits import (
    MAX_DISTANCES_BYTES,
    MAX_JUDGING_SECONDS,
    MAX_NEAR_FACES,
    ORDINARY_NEAR_FACES,
)
from wsdemo.media.meshes import Floats, Ints, Mesh, face_normals, surface_points

GRID = 32
"""Nodes a side of the coarse grid that an encoder reads."""


@dataclass(frozen=True)
class SdfSamples:
    """Signed distances of one normalised mesh.

    Attributes:
        grid: (GRID, GRID, GRID) float16, distances at ``grid_points``; axes x, y, z.
        points: (P, 3) float16, near the surface.
        distances: (P,) float16, at ``points``.
    """

    grid: NDArray[np.float16]
    points: NDArray[np.float16]
    distances: NDArray[np.float16]


def grid_points(nodes: int) -> Floats:
    """(nodes³, 3) points of a regular grid from -1 to 1, z fastest."""
    axis = np.linspace(-1, 1, nodes)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def near_faces(mesh: Mesh, points: int = 64, seed: int = 0) -> float:
    """How many triangles of a normalised mesh reach a point, on average: the cost of a distance.

    A triangle is far, and summed with others, beyond twice its radius. Fast summation visits all
    nearer ones, which are a few dozen on a surface, and nearly all in a heap of large triangles.
    Asked of ``points`` points on the surface and as many around it.
    """
    corners = mesh.vertices[mesh.faces]
    centre = corners.mean(1)
    reach = 4 * ((corners - centre[:, None]) ** 2).sum(2).max(1)
    around = np.random.default_rng(seed).uniform(-1, 1, (points, 3))
    samples = np.concatenate([surface_points(mesh, points, seed)[0], around])
    size = (centre**2).sum(1)
    counts = [((size - 2 * centre @ p + p @ p) < reach).sum() for p in samples]
    return float(np.mean(counts))


def winding_numbers(mesh: Mesh, points: Floats) -> Floats:
    """(P,) generalised winding numbers of (P, 3) points: about 1 inside, 0 outside."""
    return np.asarray(igl.fast_winding_number(mesh.vertices, mesh.faces, points))


def winding_seconds(mesh: Mesh, probes: int = 512) -> float:
    """Seconds that a winding number takes here, building the tree aside, from a few probes."""
    points = surface_points(mesh, probes, 1)[0]
    spent = []
    for batch in (points[:1], points):
        started = time.monotonic()
        winding_numbers(mesh, batch)
        spent.append(time.monotonic() - started)
    return max(0.0, spent[1] - spent[0]) / (probes - 1)


def check_work(mesh: Mesh) -> None:
    """Refuses a normalised mesh that ``solidity`` and a fit would take minutes for.

    Raises:
        WsdemoError: Too many large triangles lie across each other.
    """
    near = near_faces(mesh)
    if near <= ORDINARY_NEAR_FACES:
        return
    message = (
        f"{near:,.0f} of its triangles reach an average point of space; {ORDINARY_NEAR_FACES} are"
        f" usual, {MAX_NEAR_FACES:,} allowed."
    )
    if near <= MAX_NEAR_FACES:
        seconds = 4 * JUDGED * winding_seconds(mesh)
        if seconds <= MAX_JUDGING_SECONDS:
            return
        message = (
            f"{near:,.0f} of its triangles reach an average point of space, so that to find its"
            f" inside would take {seconds:.0f} s; {MAX_JUDGING_SECONDS:.0f} are allowed."
        )
    raise WsdemoError(
        "Mesh too tangled",
        message,
        "Remesh it to small, even triangles first (in Blender: the Remesh modifier, Voxel).",
    )


def nearest_on_surface(mesh: Mesh, points: Floats) -> tuple[Floats, Ints]:
    """(P,) distances of (P, 3) points to the surface, without a sign, and the nearest faces."""
    squared, face, _ = igl.point_mesh_squared_distance(points, mesh.vertices, mesh.faces)
    return np.sqrt(np.asarray(squared)), np.asarray(face, dtype=np.int64).reshape(-1)


def surface_distance(mesh: Mesh, points: Floats) -> Floats:
    """(P,) distances of (P, 3) points to the surface, without a sign."""
    return nearest_on_surface(mesh, points)[0]


def is_inside(mesh: Mesh, points: Floats) -> NDArray[np.bool_]:
    """(P,) whether |winding| > 1/2; the magnitude makes an inside-out mesh the same solid."""
    return np.asarray(np.abs(winding_numbers(mesh, points)) > 0.5)


def signed_distance(mesh: Mesh, points: Floats, shell: float = 0.0) -> Floats:
    """(P,) distances of (P, 3) points to the surface, negative inside.

    Args:
        mesh: The mesh.
        points: Where to measure.
        shell: If positive, the solid is what lies within this distance of the surface.
    """
    distances = surface_distance(mesh, points)
    return distances - shell if shell > 0 else np.where(is_inside(mesh, points), -1, 1) * distances


@dataclass(frozen=True)
class Solidity:
    """What kind of solid a normalised mesh bounds.

    Attributes:
        shell: 0 if the mesh bounds a solid; else the thickness to give each side of a sheet.
        thin_share: Share of the surface where the solid is thinner than THIN.
    """

    shell: float
    thin_share: float


THIN = 0.03
"""In normalised units: two cells of a 128³ grid."""
SHELL = 0.015
"""Sheets that enclose nothing become this thick to each side."""
JUDGED = 4096
"""Points of the surface that ``solidity`` looks at, from both sides and twice."""


def solidity(mesh: Mesh, seed: int = 0) -> Solidity:
    """Looks a little way in from the surface, on both sides, for an inside.

    A closed mesh, even with holes or flipped faces, has one on one side nearly everywhere. If
    even at a tenth of THIN that fails for most of the surface, the mesh is a sheet: close to a
    sheet the winding number is about one half on either side, inside a solid about one.
    """
    points, face = surface_points(mesh, JUDGED, seed)
    normals = face_normals(mesh)[0][face]

    def without_inside(depth: float, level: float) -> float:
        sides = np.concatenate([points - depth * normals, points + depth * normals])
        inside = (np.abs(winding_numbers(mesh, sides)) > level).reshape(2, -1)
        return float((~inside.any(0)).mean())

    is_sheet = without_inside(THIN / 10, 0.75) > 0.5
    return Solidity(SHELL if is_sheet else 0.0, without_inside(THIN, 0.5))


def sample_sdf(
    mesh: Mesh,
    near: int = 32_768,
    seed: int = 0,
    cache: Path | None = None,
    shell: float = 0.0,
    most: float = MAX_DISTANCES_BYTES,
) -> SdfSamples:
    """Samples the signed distance of a normalised mesh, on a grid and near the surface.

    Near points are surface points plus Gaussian noise, half of σ = 0.01 and half of σ = 0.05.

    Args:
        mesh: Normalised mesh.
        near: Points near the surface, P.
        seed: Of the points.
        cache: Folder of results, keyed by the mesh's content.
        shell: See ``signed_distance``.
        most: Bytes of that folder beyond which the oldest results are deleted.
    """
    path = (
        None
        if cache is None
        else cache / f"{mesh.hash[:32]}-{near}-{seed}{f'-{shell}' if shell else ''}.npz"
    )
    if path is not None and path.exists():
        with np.load(path) as stored:
            return SdfSamples(stored["grid"], stored["points"], stored["distances"])
    points, _ = surface_points(mesh, near, seed)
    rng = np.random.default_rng(seed + 1)
    spread = np.where(np.arange(near) < near // 2, 0.01, 0.05)[:, None]
    # Rounded first: the stored distance belongs to the stored point.
    moved = np.clip(points + spread * rng.standard_normal((near, 3)), -1, 1)
    stored_points = moved.astype(np.float16)
    every = np.concatenate([grid_points(GRID), stored_points.astype(np.float64)])
    values = signed_distance(mesh, every, shell)
    grid = values[: GRID**3].reshape(GRID, GRID, GRID).astype(np.float16)
    samples = SdfSamples(grid, stored_points, values[GRID**3 :].astype(np.float16))
    if path is not None:
        with whole(path) as file:
            np.savez(file, **vars(samples))
        _trim(path.parent, most)
    return samples


def _trim(cache: Path, most: float) -> None:
    """Deletes the oldest results beyond so many bytes."""
    files = []
    for path in cache.glob("*.npz"):
        with contextlib.suppress(OSError):  # another process deletes too
            files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size
