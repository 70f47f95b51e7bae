"""Meshes in: read and judged, sampled for a fit, compared with what came of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.fields.signal import TRUNCATION, sdf_to_signal
from wsdemo.media.camera import Camera, Pixels
from wsdemo.media.mesh_files import MeshReport, open_mesh
from wsdemo.media.meshes import Mesh, Pose, normalise
from wsdemo.media.render import render, shade
from wsdemo.media.sdf import (
    GRID,
    SdfSamples,
    Solidity,
    check_work,
    grid_points,
    signed_distance,
    solidity,
    surface_distance,
)
from wsdemo.media.surface import Values, extract, sparse_grid

FINE = 128
"""Cells a side of a result."""


@dataclass(frozen=True)
class MeshInput:
    """A mesh that is ready to be fitted.

    Attributes:
        mesh: Normalised.
        pose: Where it stood.
        report: What its file held.
        solid: Whether it bounds a solid, and how much of it is thin.
    """

    mesh: Mesh
    pose: Pose
    report: MeshReport
    solid: Solidity

    def describe(self) -> list[str]:
        """What a person should know about how the mesh was read."""
        r = self.report
        tight = "watertight" if r.is_watertight else "not watertight"
        lines = [f"{r.kind.upper()}: {r.faces:,} faces, {r.parts} parts, {tight}.", *r.notes]
        if self.solid.shell > 0:
            lines.append(
                "It is a sheet that encloses nothing: fitted as a shell"
                f" {2 * self.solid.shell / 1.8:.1%} of its length thick."
            )
        elif not r.is_watertight:
            lines.append("Holes and flipped faces are closed by the winding number.")
        if self.solid.shell == 0 and self.solid.thin_share > 0.02:
            lines.append(
                f"{self.solid.thin_share:.0%} of it is thinner than two cells of a 128³ grid"
                " and may break."
            )
        return lines


def load_mesh(path: Path) -> MeshInput:
    """Reads, normalises and judges a mesh file.

    Raises:
        WsdemoError: See ``open_mesh``; also a mesh without any extent, or of so many large
            triangles across each other that distances to it would take minutes.
    """
    raw, report = open_mesh(path)
    low, high = raw.vertices.min(0), raw.vertices.max(0)
    if not float((high - low).max()) > 0:
        raise WsdemoError("Empty mesh", "All its points coincide.", "Give another mesh.")
    mesh, pose = normalise(raw)
    check_work(mesh)
    return MeshInput(mesh, pose, report, solidity(mesh))


def reference_surface(source: MeshInput) -> Mesh:
    """What a fit is compared with: the mesh itself, or the shell around a sheet."""
    if source.solid.shell == 0:
        return source.mesh

    def field(points: Values) -> Values:
        exact = signed_distance(source.mesh, points.astype(np.float64), source.solid.shell)
        return exact.clip(-TRUNCATION, TRUNCATION).astype(np.float32)

    return extract(sparse_grid(field, FINE, TRUNCATION)[0])


def fit_points(samples: SdfSamples) -> tuple[Tensor, Tensor]:
    """(P, 3) points and their (1, P, 1) signals: those near the surface, and the whole grid.

    A region without points would be free, and grow specks.
    """
    grid = grid_points(GRID).astype(np.float32)
    points = torch.from_numpy(np.concatenate([samples.points.astype(np.float32), grid]))
    distances = np.concatenate([samples.distances, samples.grid.ravel()])
    return points, sdf_to_signal(torch.from_numpy(distances))[None, :, None]


FAR_OFF = 0.036
"""2 % of the longest side: what an overlay shows in full red."""


def overlay(mesh: Mesh, reference: Mesh, size: int) -> Pixels:
    """(size, size, 3) picture of a mesh, from clay where it lies on a reference to red."""
    camera = Camera()
    off = np.clip(surface_distance(reference, mesh.vertices) / FAR_OFF, 0, 1)[:, None]
    clay = shade(mesh, camera).astype(np.float64)
    red = shade(mesh, camera, colour=(0.86, 0.16, 0.14)).astype(np.float64)
    colours = (clay * (1 - off) + red * off).round().astype(np.uint8)
    return render(mesh, size, camera, colours=colours)
