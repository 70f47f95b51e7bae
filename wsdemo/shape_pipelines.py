"""What the app, the command line and the API do with shapes, each as one function.

The twin of ``pipelines`` (faces): plain values in and out, and the shipped checkpoints, which
are loaded once a process and never changed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsdemo import pipelines
from wsdemo.analysis.shapes import chamfer_distance, compare_meshes
from wsdemo.checkpoints import DIRECTORY
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.encoder import AmortisedStart, load_start
from wsdemo.fields.fit import FitConfig, fit, psnr_from_mse, warm_start
from wsdemo.fields.instance import Instance
from wsdemo.fields.signal import TRUNCATION, grid_to_inputs, sdf_to_signal
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion
from wsdemo.limits import (
    MAX_DIFFUSION_STEPS,
    MAX_FIT_SECONDS,
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_SHAPES,
    MESH_RESOLUTIONS,
)
from wsdemo.media.mesh_files import MeshReport, open_mesh
from wsdemo.media.meshes import Floats, Mesh, Pose, normalise, surface_points
from wsdemo.media.render import Camera, Pixels, render, shade
from wsdemo.media.sdf import GRID, Solidity, grid_points, sample_sdf, signed_distance, solidity
from wsdemo.media.surface import (
    Field,
    Values,
    extract,
    gradient_normals,
    largest_component,
    sparse_grid,
)
from wsdemo.pipelines import (
    FIT_RATES,
    Neighbour,
    SampleStep,
    blend,
    check_range,
    nearest_neighbour,
)

SETS = ("airplane", "shapes")
"""Families of shapes, each with a base, an encoder and a weight diffusion model of its own."""
PREVIEW, FINE = 64, 128
"""Cells a side of a preview, and of a result."""
CHUNK = 8192
"""Points that a field is evaluated at in one go: a CPU's caches like no more."""


# ---- models ------------------------------------------------------------------


def check_set(name: str) -> None:
    """Raises WsdemoError unless ``name`` is one of SETS."""
    if name not in SETS:
        raise WsdemoError(
            "Unknown set of shapes",
            f"Found {name[:40]!r}; expected {' or '.join(SETS)}.",
            "airplane draws airplanes only; shapes knows ten categories.",
        )


@cache
def shape_diffusion(name: str) -> WeightDiffusion:
    """The shipped weight diffusion model of a set."""
    check_set(name)
    return load_diffusion(
        DIRECTORY / f"{name}-diffusion.safetensors", shipped_base(f"{name}-base")[0]
    )[0]


@cache
def shape_adapter(name: str, representation: str, rank: int, seed: int) -> Adapter:
    """An adapter on the base of a set with its shared start."""
    check_set(name)
    adapter = Adapter(shipped_base(f"{name}-base")[0], AdapterConfig(representation, rank, seed))
    if adapter.config.kind == "mlp":
        points = torch.from_numpy(grid_points(GRID)).float()
        adapter.start = warm_start(adapter, points)
    return adapter


@cache
def shape_start(name: str) -> AmortisedStart:
    """The shipped encoder of a set, which gives mLoRA fits their start."""
    check_set(name)
    path = DIRECTORY / f"{name}-encoder.safetensors"
    return load_start(path, base_hash=shipped_base(f"{name}-base")[1]["hash"])


# ---- decoding -----------------------------------------------------------------


def field_of(weights: Tensor, adapter: Adapter) -> Field:
    """The signed distance function that weights (D,) describe, truncated at ± TRUNCATION."""
    effective = adapter.prepare(weights[None])

    def field(points: Values) -> Values:
        values = effective(torch.from_numpy(np.ascontiguousarray(points)), CHUNK)
        return (values[0, :, 0] * TRUNCATION).numpy()

    return field


def check_resolution(resolution: int) -> None:
    """Raises WsdemoError unless surfaces are extracted at that many cells a side."""
    if resolution not in MESH_RESOLUTIONS:
        raise WsdemoError(
            "Unknown resolution",
            f"Found {resolution}; expected one of {', '.join(map(str, MESH_RESOLUTIONS))}.",
            "64 is a preview; 128 shows thin parts.",
        )


def decode_shape(
    weights: Tensor, adapter: Adapter, resolution: int = FINE, largest: bool = False
) -> Mesh:
    """The zero level of the field of weights (D,), as a mesh in [-1, 1]³.

    Raises:
        WsdemoError: The resolution is none of MESH_RESOLUTIONS, or there is no surface.
    """
    check_resolution(resolution)
    values, _ = sparse_grid(field_of(weights, adapter), resolution, TRUNCATION)
    if not bool(np.isfinite(values).all()):
        raise WsdemoError(
            "Nothing to show",
            "The weights decode to values that are not finite.",
            "Use other weights.",
        )
    mesh = extract(values)
    return largest_component(mesh) if largest else mesh


def shape_normals(weights: Tensor, adapter: Adapter, mesh: Mesh) -> Floats:
    """(V, 3) unit normals of a decoded mesh, from the field's own gradient."""
    return gradient_normals(field_of(weights, adapter), mesh.vertices)


def shape_instance(
    name: str, adapter: Adapter, weights: Tensor, measured: dict[str, float], pose: Pose
) -> Instance:
    """Wraps weights (D,) as an instance of a set's base."""
    base = f"{name}-base"
    _, meta = shipped_base(base)
    placed = {f"centre_{axis}": c for axis, c in zip("xyz", pose.centre, strict=True)}
    placed["scale"] = pose.scale
    return Instance(adapter, weights, "sdf", base, meta["hash"], FINE, {**measured, **placed})


def pose_of(instance: Instance) -> Pose:
    """Where the mesh that an instance was fitted to stood; the field's own place if unknown."""
    m = instance.measured
    if "scale" not in m:
        return Pose()
    return Pose((m["centre_x"], m["centre_y"], m["centre_z"]), m["scale"])


# ---- sampling -----------------------------------------------------------------


def categories_of(name: str) -> tuple[str, ...]:
    """What a set's model can be asked for; empty if it knows one category only."""
    return shape_diffusion(name).attribute_names


def sample_shapes(
    name: str,
    count: int,
    seed: int,
    steps: int = 50,
    guidance: float = 1.5,
    category: str | None = None,
) -> Iterator[SampleStep]:
    """Draws shapes from the weight diffusion model of a set, step by step.

    Raises:
        WsdemoError: A value is out of range, or the set or category unknown.
    """
    check_range("count", count, 1, MAX_SHAPES)
    check_range("seed", seed, 0, MAX_SEED)
    check_range("steps", steps, 1, MAX_DIFFUSION_STEPS)
    check_range("guidance", guidance, 0, MAX_GUIDANCE)
    model = shape_diffusion(name)
    wishes: dict[str, bool] = {}
    if category is not None:
        if category not in model.attribute_names:
            known = ", ".join(model.attribute_names) or "none: it draws airplanes only"
            raise WsdemoError(
                "Unknown category",
                f"Found {category[:40]!r}; this model knows {known}.",
                "Choose among the known ones.",
            )
        wishes = {other: other == category for other in model.attribute_names}
    condition = model.condition(wishes, count)
    for step, instances in model.sample(count, seed, steps, guidance, condition):
        yield SampleStep(step, steps, instances)


def neighbours_of(name: str) -> tuple[dict[str, Tensor], list[str]]:
    """The stored neighbours of a set, and their names; see ``pipelines.neighbours_of``."""
    return pipelines.neighbours_of(shape_diffusion(name), f"{name}-neighbours")


def nearest_training_shape(name: str, weights: Tensor, adapter: Adapter) -> Neighbour:
    """Finds the nearest training shape of (D,) weights.

    Raises:
        WsdemoError: The weights are of another representation than the training shapes.
    """
    model = shape_diffusion(name)
    if adapter.config != model.adapter.config:
        raise WsdemoError(
            "No neighbours for this representation",
            f"Training shapes are stored as {model.adapter.config.representation} of rank"
            f" {model.adapter.config.rank}.",
            "Fit with the default representation.",
        )
    return nearest_neighbour(weights, model, f"{name}-neighbours")


# ---- fitting ------------------------------------------------------------------


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
        WsdemoError: See ``open_mesh``; also a mesh without any extent.
    """
    raw, report = open_mesh(path)
    low, high = raw.vertices.min(0), raw.vertices.max(0)
    if not float((high - low).max()) > 0:
        raise WsdemoError("Empty mesh", "All its points coincide.", "Give another mesh.")
    mesh, pose = normalise(raw)
    return MeshInput(mesh, pose, report, solidity(mesh))


@dataclass(frozen=True)
class ShapeFitOptions:
    """How a mesh is fitted; the defaults are the app's fast preset."""

    set_name: str = "shapes"
    representation: str = "mlora-asym"
    rank: int = 8
    seed: int = 0
    seconds: float = 15.0
    max_steps: int = 5000


@dataclass(frozen=True)
class ShapeFitStep:
    """A moment of a fit.

    Attributes:
        step: Steps done.
        seconds: Time used.
        seconds_left: Estimate of the time left.
        psnr: In dB, of the truncated distances on the points of this step.
        mesh: The surface so far, None while there is none; at FINE resolution in the last step.
        instance: The weights so far; in the last step with their measures.
        is_last: Whether the fit is over.
    """

    step: int
    seconds: float
    seconds_left: float
    psnr: float
    mesh: Mesh | None
    instance: Instance
    is_last: bool


def reference_surface(source: MeshInput) -> Mesh:
    """What a fit is compared with: the mesh itself, or the shell around a sheet."""
    if source.solid.shell == 0:
        return source.mesh

    def field(points: Values) -> Values:
        exact = signed_distance(source.mesh, points.astype(np.float64), source.solid.shell)
        return exact.clip(-TRUNCATION, TRUNCATION).astype(np.float32)

    return extract(sparse_grid(field, FINE, TRUNCATION)[0])


def fit_mesh(
    source: MeshInput, options: ShapeFitOptions, cache_folder: Path | None = None
) -> Iterator[ShapeFitStep]:
    """Fits one mesh; the surface is shown about every two seconds.

    Raises:
        WsdemoError: An option is out of range, or the weights show no surface at the end.
    """
    started = time.monotonic()
    check_range("seconds", options.seconds, 0.5, MAX_FIT_SECONDS)
    check_range("seed", options.seed, 0, MAX_SEED)
    adapter = shape_adapter(options.set_name, options.representation, options.rank, options.seed)
    samples = sample_sdf(source.mesh, cache=cache_folder, shell=source.solid.shell)
    near, volume = len(samples.points), len(samples.points) // 4
    nodes = np.random.default_rng(0).permutation(GRID**3)[:volume]
    grid = grid_points(GRID)[nodes].astype(np.float32)
    points = torch.from_numpy(np.concatenate([samples.points.astype(np.float32), grid]))
    distances = np.concatenate([samples.distances, samples.grid.ravel()[nodes]])
    targets = sdf_to_signal(torch.from_numpy(distances))[None, :, None]
    origin = None
    if adapter.config.kind == "mlora":
        grids = torch.from_numpy(samples.grid)[None]
        origin = shape_start(options.set_name)(adapter, grid_to_inputs(grids))
    config = FitConfig(
        steps=options.max_steps,
        points=4096,
        absolute=True,
        learning_rate=FIT_RATES[adapter.config.kind],
        seconds=max(0.1, options.seconds - (time.monotonic() - started)),
        report_every=10,
    )
    assert near + volume == points.shape[0]
    shown_at, mesh = -1.0, None
    generator = torch.Generator().manual_seed(options.seed)
    for progress in fit(adapter, points, targets, config, generator, origin):
        now = time.monotonic() - started
        if not progress.is_last and now - shown_at < 2.0:
            continue
        weights = progress.instances[0]
        value = float(psnr_from_mse(progress.mse)[0])
        measured = {"psnr": value, "seconds": now, "steps": float(progress.step)}
        if progress.is_last:
            mesh = decode_shape(weights, adapter, FINE)
            measured |= compare_meshes(reference_surface(source), mesh)
        else:
            mesh = _preview(weights, adapter)
        shown_at = time.monotonic() - started
        yield ShapeFitStep(
            progress.step,
            now,
            0.0 if progress.is_last else max(0.0, options.seconds - now),
            value,
            mesh,
            shape_instance(options.set_name, adapter, weights, measured, source.pose),
            progress.is_last,
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
    ends = [decode_shape(x.weights, x.adapter, PREVIEW) for x in (a, b)]
    first, second = (surface_points(mesh, 4096, 0)[0] for mesh in ends)
    for share in np.linspace(0, 1, steps).tolist():
        weights = blend(a, b, share)
        mesh = _preview(weights, a.adapter)
        if mesh is None:
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
    distances = np.abs(signed_distance(reference, mesh.vertices))
    off = np.clip(distances / FAR_OFF, 0, 1)[:, None]
    clay = shade(mesh, camera).astype(np.float64)
    red = shade(mesh, camera, colour=(0.86, 0.16, 0.14)).astype(np.float64)
    colours = (clay * (1 - off) + red * off).round().astype(np.uint8)
    return render(mesh, size, camera, colours=colours)
