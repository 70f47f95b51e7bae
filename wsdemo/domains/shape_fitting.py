"""Meshes → weights and back: reading, fitting live, comparing, walking between two shapes."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsdemo.analysis.shapes import chamfer_distance, compare_meshes
from wsdemo.domains.face_fitting import FIT_RATES
from wsdemo.domains.pipelines import check_range
from wsdemo.domains.shape_pipelines import (
    FINE,
    PREVIEW,
    decode_between,
    decode_instance,
    decode_shape,
    shape_adapter,
    shape_instance,
    shape_start,
)
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.fit import FitConfig, budget, fit, psnr_from_mse, too_few
from wsdemo.fields.instance import Instance
from wsdemo.fields.signal import TRUNCATION, grid_to_inputs, sdf_to_signal
from wsdemo.limits import MAX_FIT_SECONDS, MAX_FIT_STEPS, MAX_SEED
from wsdemo.media.camera import Camera, Pixels
from wsdemo.media.mesh_files import MeshReport, open_mesh
from wsdemo.media.meshes import Mesh, Pose, normalise, surface_points
from wsdemo.media.render import render, shade
from wsdemo.media.sdf import (
    GRID,
    SdfSamples,
    Solidity,
    check_work,
    grid_points,
    sample_sdf,
    signed_distance,
    solidity,
    surface_distance,
)
from wsdemo.media.surface import Values, extract, sparse_grid

OWN_RATES = {"lora-asym": 0.001}
"""Adam's peak learning rates where meshes want another than pictures of the same kind."""
ENOUGH_STEPS = 50
"""Fewer steps hardly move the weights from the encoder's start."""


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


@dataclass(frozen=True)
class ShapeFitOptions:
    """How a mesh is fitted; the defaults are the app's fast preset."""

    set_name: str = "shapes"
    representation: str = "mlora-asym"
    rank: int = 8
    seed: int = 0
    seconds: float = 15.0
    """Time of the whole fit, from sampling distances to the weights."""
    steps: int | None = None
    """Steps to make instead, whatever their time: the same bytes every time."""
    largest: bool = False
    """Whether the result's mesh is its largest piece only; the weights are the same."""


@dataclass(frozen=True)
class ShapeFitStep:
    """A moment of a fit.

    Attributes:
        step: Steps done.
        seconds: Time used.
        seconds_left: Estimate of the time left.
        psnr: In dB, of the truncated distances on the points of this step.
        mesh: The surface so far, None while there is none; at FINE resolution in the last step.
        instance: The weights so far; in the last step with their measures, of which ``seconds``
            is the time until the weights were ready, without that of measuring.
        is_last: Whether all is over.
        is_measuring: Whether the weights are ready, and about to be decoded and compared.
        reference: What the result was compared with, in the last step.
        measuring_seconds: Time that it took to decode and compare the result, in the last step.
        notes: What a person should know about the result, in the last step.
    """

    step: int
    seconds: float
    seconds_left: float
    psnr: float
    mesh: Mesh | None
    instance: Instance
    is_last: bool
    is_measuring: bool = False
    reference: Mesh | None = None
    measuring_seconds: float = 0.0
    notes: tuple[str, ...] = ()


def reference_surface(source: MeshInput) -> Mesh:
    """What a fit is compared with: the mesh itself, or the shell around a sheet."""
    if source.solid.shell == 0:
        return source.mesh

    def field(points: Values) -> Values:
        exact = signed_distance(source.mesh, points.astype(np.float64), source.solid.shell)
        return exact.clip(-TRUNCATION, TRUNCATION).astype(np.float32)

    return extract(sparse_grid(field, FINE, TRUNCATION)[0])


def _fit_points(samples: SdfSamples) -> tuple[Tensor, Tensor]:
    """(P, 3) points and their (1, P, 1) signals: those near the surface, and the whole grid.

    A region without points would be free, and grow specks.
    """
    grid = grid_points(GRID).astype(np.float32)
    points = torch.from_numpy(np.concatenate([samples.points.astype(np.float32), grid]))
    distances = np.concatenate([samples.distances, samples.grid.ravel()])
    return points, sdf_to_signal(torch.from_numpy(distances))[None, :, None]


def fit_mesh(
    source: MeshInput, options: ShapeFitOptions, cache_folder: Path | None = None
) -> Iterator[ShapeFitStep]:
    """Fits one mesh; the surface is shown about every two seconds.

    Distances are sampled in the time given, and at least a tenth of it is left to fit.

    Raises:
        WsdemoError: An option is out of range, or the weights show no surface at the end.
    """
    started = time.monotonic()
    check_range("seconds", options.seconds, 0.5, MAX_FIT_SECONDS)
    check_range("seed", options.seed, 0, MAX_SEED)
    if options.steps is not None:
        check_range("steps", options.steps, 1, MAX_FIT_STEPS)
    adapter = shape_adapter(options.set_name, options.representation, options.rank, options.seed)
    samples = sample_sdf(source.mesh, cache=cache_folder, shell=source.solid.shell)
    points, targets = _fit_points(samples)
    origin = None
    if adapter.config.kind == "mlora":
        grids = torch.from_numpy(samples.grid)[None]
        origin = shape_start(options.set_name)(adapter, grid_to_inputs(grids))
    spent = time.monotonic() - started
    steps, seconds = budget(options.steps, options.seconds, spent)
    config = FitConfig(
        steps=steps,
        points=4096,
        absolute=True,
        learning_rate=OWN_RATES.get(options.representation, FIT_RATES[adapter.config.kind]),
        seconds=seconds,
        report_every=10,
    )
    is_timed, shown_at, drawing = config.seconds < math.inf, -1.0, 0.0
    generator = torch.Generator().manual_seed(options.seed)
    for progress in fit(adapter, points, targets, config, generator, origin):
        now = time.monotonic() - started
        left = max(0.0, spent + config.seconds - now)
        # No preview that would end after the time does.
        if not progress.is_last and (now - shown_at < 2.0 or left <= drawing):
            continue
        weights = progress.instances[0]
        value = float(psnr_from_mse(progress.mse)[0])
        measured = {"psnr": value, "steps": float(progress.step)}
        if is_timed:  # else the same steps give the same bytes
            measured["seconds"] = now
        surface = _preview(weights, adapter)
        shown_at = time.monotonic() - started
        drawing = shown_at - now
        instance = shape_instance(options.set_name, adapter, weights, measured, source.pose)
        if progress.is_last:
            left = 0.0
        elif not is_timed:
            left = now * max(0.0, config.steps / progress.step - 1)
        moment = ShapeFitStep(progress.step, now, left, value, surface, instance, False)
        yield replace(moment, is_measuring=progress.is_last)
    mesh = decode_shape(weights, adapter, FINE, options.largest)
    reference = reference_surface(source)
    measured |= compare_meshes(reference, mesh)
    ended = time.monotonic() - started
    yield replace(
        moment,
        seconds=ended,
        mesh=mesh,
        instance=shape_instance(options.set_name, adapter, weights, measured, source.pose),
        is_last=True,
        reference=reference,
        measuring_seconds=ended - now,
        notes=too_few(progress.step, ENOUGH_STEPS) if is_timed else (),
    )


def _preview(weights: Tensor, adapter: Adapter) -> Mesh | None:
    """The surface at low resolution; None while there is none yet."""
    try:
        return decode_shape(weights, adapter, PREVIEW)
    except WsdemoError:
        return None


# ---- walking ------------------------------------------------------------------


@dataclass(frozen=True)
class WalkStep:
    """A point of the straight path between two instances.

    Attributes:
        share: 0 at the first, 1 at the second.
        mesh: Its surface, None where there is none.
        to_first: Chamfer distance to the first instance's surface.
        to_second: Chamfer distance to the second's.
    """

    share: float
    mesh: Mesh | None
    to_first: float
    to_second: float


def walk_shapes(a: Instance, b: Instance, steps: int = 9) -> Iterator[WalkStep]:
    """Walks from one shape to another through weight space.

    Raises:
        WsdemoError: The two do not mix, or an end shows no surface.
    """
    ends = [decode_instance(x, PREVIEW) for x in (a, b)]
    first, second = (surface_points(mesh, 4096, 1)[0] for mesh in ends)  # as of every step
    for share in np.linspace(0, 1, steps).tolist():
        try:
            mesh = decode_between(a, b, share)
        except WsdemoError:
            yield WalkStep(share, None, float("nan"), float("nan"))
            continue
        points = surface_points(mesh, 4096, 1)[0]
        yield WalkStep(
            share, mesh, chamfer_distance(points, first), chamfer_distance(points, second)
        )


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
