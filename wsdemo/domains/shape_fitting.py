"""Meshes in: read and judged, sampled for a fit, compared with what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.fields.signal import sdf_to_signal
from wsdemo.media.camera import Pixels, all_seeing
from wsdemo.media.mesh_files import MeshReport, open_mesh
from wsdemo.media.meshes import Mesh, Pose, normalise
from wsdemo.media.remesh import eased
from wsdemo.media.render import facets, render, shade
from wsdemo.media.sdf import (
    GRID,
    SdfSamples,
    Solidity,
    check_work,
    grid_points,
    solidity,
    surface_distance,
)
from wsdemo.media.solids import as_solid, shell_surface
from wsdemo.media.upright import upright

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
        notes: How it was made the boundary of a solid.
    """

    mesh: Mesh
    pose: Pose
    report: MeshReport
    solid: Solidity
    notes: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """What a person should know about how the mesh was read."""
        r = self.report
        tight = "watertight" if r.is_watertight else "not watertight"
        lines = [
            f"{r.kind.upper()}: {r.faces:,} faces, {r.parts} parts, {tight}.",
            *r.notes,
            *self.notes,
        ]
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


def load_mesh(path: Path | Sequence[Path], up: str = "auto") -> MeshInput:
    """Reads, turns upright, normalises and judges a mesh file; see ``media.solids``.

    Args:
        path: The file, or several that belong together, or a zip of them.
        up: Its vertical axis, ``y`` or ``z``; ``auto``: as its format has it.

    Raises:
        WsdemoError: See ``open_mesh``; also a mesh without any extent, or of so many large
            triangles across each other that distances to it would take minutes.
    """
    raw, report = open_mesh(path)
    raw, axis, axis_notes = upright(raw, up, report.kind)
    low, high = raw.vertices.min(0), raw.vertices.max(0)
    if not float((high - low).max()) > 0:
        raise WsdemoError("Empty mesh", "All its points coincide.", "Give another mesh.")
    mesh, pose = normalise(raw)
    mesh, eased_note = eased(mesh)
    check_work(mesh)
    mesh, shell, notes = as_solid(mesh)
    thin = solidity(mesh).thin_share
    notes = (*axis_notes, *([eased_note] if eased_note else []), *notes)
    return MeshInput(mesh, replace(pose, up=axis), report, Solidity(shell, thin), notes)


def reference_surface(source: MeshInput) -> Mesh:
    """What a fit is compared with: the boundary of the solid, or the shell around a sheet."""
    return shell_surface(source.mesh) if source.solid.shell > 0 else source.mesh


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
    camera = all_seeing(mesh)
    off = np.clip(surface_distance(reference, mesh.vertices) / FAR_OFF, 0, 1)
    shown = facets(mesh, camera)
    share = off[shown.source, None]
    clay = shade(shown, camera).astype(np.float64)
    red = shade(shown, camera, colour=(0.86, 0.16, 0.14)).astype(np.float64)
    colours = (clay * (1 - share) + red * share).round().astype(np.uint8)
    return render(shown.mesh, size, camera, colours=colours)
