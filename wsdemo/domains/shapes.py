"""Shapes: meshes as fields of truncated signed distances; one set of airplanes, one of ten kinds.

Reading and judging meshes, and the points that a fit sees: shape_fitting.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsdemo.analysis.shapes import FSCORE_RADIUS, FSCORE_SHARE, chamfer_distance, compare_meshes
from wsdemo.domains.domain import (
    Detail,
    Domain,
    FitOptions,
    Labels,
    Mapped,
    Measure,
    Measurer,
    Option,
    Original,
    Signal,
    Walking,
)
from wsdemo.domains.manifold import on_manifold
from wsdemo.domains.shape_fitting import FINE, fit_points, load_mesh, overlay, reference_surface
from wsdemo.errors import WsdemoError, check_range
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.fit import FitConfig
from wsdemo.fields.instance import Instance
from wsdemo.fields.signal import TRUNCATION, grid_to_inputs
from wsdemo.files import whole
from wsdemo.limits import MAX_RENDER_SIDE, MAX_SHAPES, MESH_RESOLUTIONS, MIN_RENDER_SIDE
from wsdemo.media.camera import Camera, all_seeing, framed
from wsdemo.media.formats.foreign import PACKAGES, names_a_mesh
from wsdemo.media.mesh_files import (
    READABLE,
    WRITABLE,
    mesh_bytes,
    open_mesh,
    precision_note,
)
from wsdemo.media.meshes import Floats, Mesh, Pose, normalise, statistics, surface_points
from wsdemo.media.render import choose_renderer, render, turntable
from wsdemo.media.sdf import GRID, grid_points, sample_sdf
from wsdemo.media.surface import (
    Field,
    Values,
    extract,
    gradient_normals,
    largest_component,
    sparse_grid,
)
from wsdemo.media.upright import upright

PREVIEW = 64
"""Cells a side of a preview."""
TEMPERATURE = 0.75
"""Of what the first generation draws for people: at 1 more falls to pieces."""
COOLED_LEVELS = {"airplane": 0.01, "shapes": 0.02, "shapes-manifold": 0.02}
"""How far out, for a temperature of 0, the surface of a drawn field lies, in a box of side 2. Below
1 fields are drawn smoother than fitted ones are, and lose thin parts."""
CHUNK = 8192
"""Points that a field is evaluated at in one go: a CPU's caches like no more."""
COMPARED_POINTS = 4096
"""Drawn on each surface along a walk."""
COMPARABLE = FitConfig(steps=100, points=768, learning_rate=0.02, pull=2.0, absolute=True)
"""How all training shapes were fitted."""


# ---- meshes in ---------------------------------------------------------------------


def pose_facts(pose: Pose) -> dict[str, float]:
    """Where a mesh stood, as its instance's file keeps it."""
    placed = {f"centre_{axis}": c for axis, c in zip("xyz", pose.centre, strict=True)}
    return {**placed, "scale": pose.scale, **({"z_up": 1.0} if pose.up == "z" else {})}


def open_solid(_: Domain, path: Path | Sequence[Path], up: str = "auto") -> Original:
    """A mesh file, or files that belong together, turned upright, normalised and judged."""
    source = load_mesh(path, up)
    return Original(source, tuple(source.describe()), pose_facts(source.pose))


def signal_of(original: Original, cache: Path | None = None) -> Signal:
    """A mesh as truncated distances at points near its surface and of the whole grid."""
    source = original.value
    samples = sample_sdf(source.mesh, cache=cache, shell=source.solid.shell)
    points, targets = fit_points(samples)
    return Signal(points, targets, grid_to_inputs(torch.from_numpy(samples.grid)[None]))


# ---- meshes out --------------------------------------------------------------------


def field_of(weights: Tensor, adapter: Adapter, level: float = 0.0) -> Field:
    """The signed distance function that weights (D,) describe, truncated at ± TRUNCATION, less
    a level."""
    effective = adapter.prepare(weights[None])

    def field(points: Values) -> Values:
        values = effective(torch.from_numpy(np.ascontiguousarray(points)), CHUNK)
        return (values[0, :, 0] * TRUNCATION - level).numpy()

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
    weights: Tensor,
    adapter: Adapter,
    resolution: int = FINE,
    largest: bool = False,
    level: float = 0.0,
) -> Mesh:
    """The surface of the field of weights (D,) at a level, as a mesh in [-1, 1]³.

    Raises:
        WsdemoError: The resolution is none of MESH_RESOLUTIONS, or there is no surface.
    """
    check_resolution(resolution)
    values, _ = sparse_grid(field_of(weights, adapter, level), resolution, TRUNCATION)
    if not bool(np.isfinite(values).all()):
        raise WsdemoError(
            "Nothing to show",
            "The weights decode to values that are not finite.",
            "Use other weights.",
        )
    mesh = extract(values)
    return largest_component(mesh) if largest else mesh


def decode(
    _: Domain, instances: Sequence[Instance], resolution: int = FINE, largest: bool = False
) -> list[Mesh]:
    """The surface of each instance, at its own level."""
    return [
        decode_shape(instance.weights, instance.adapter, resolution, largest, level_of(instance))
        for instance in instances
    ]


def shape_normals(weights: Tensor, adapter: Adapter, mesh: Mesh) -> Floats:
    """(V, 3) unit normals of a decoded mesh, from the field's own gradient."""
    return gradient_normals(field_of(weights, adapter), mesh.vertices)


def drawn_level(name: str, temperature: float) -> float:
    """The value at which a domain's field, drawn at T, has its surface: COOLED_LEVELS (1 − T)."""
    return COOLED_LEVELS[name] * max(0.0, 1 - temperature)


def level_of(instance: Instance) -> float:
    """The value at which an instance's field has its surface; 0 unless it was drawn cool."""
    return instance.measured.get("level", 0.0)


def pose_of(instance: Instance) -> Pose:
    """Where the mesh that an instance was fitted to stood; the field's own place if unknown."""
    m = instance.measured
    if "scale" not in m:
        return Pose()
    centre = (m["centre_x"], m["centre_y"], m["centre_z"])
    return Pose(centre, m["scale"], "z" if m.get("z_up", 0.0) > 0.5 else "y")


def content(mesh: Mesh, ending: str, instance: Instance | None) -> bytes:
    """A mesh file: with an instance where its mesh stood, and with the field's own normals."""
    if instance is None:
        return mesh_bytes(mesh, ending)
    normals = shape_normals(instance.weights, instance.adapter, mesh)
    return mesh_bytes(pose_of(instance).undo(mesh), ending, normals)


def losses(mesh: Mesh, instance: Instance, endings: Sequence[str] = WRITABLE) -> list[str]:
    """What files of a mesh lose where it stood."""
    note = precision_note(pose_of(instance).undo(mesh), endings)
    return [note] if note else []


def facts(mesh: Mesh, instance: Instance, detail: Detail, endings: Sequence[str]) -> dict[str, Any]:
    """What the command line says of a decoded mesh."""
    placed = pose_of(instance).undo(mesh)
    return {**detail, "mesh": {**statistics(placed), "notes": losses(mesh, instance, endings)}}


def fit_facts(path: Path, original: Original, measured: Mapping[str, float]) -> dict[str, Any]:
    """What the command line says of a fit besides."""
    pose = original.value.pose
    return {
        "mesh_bytes": path.stat().st_size,
        "up": pose.up,
        "fscore_within": FSCORE_RADIUS * pose.scale,
        "fscore_within_share": FSCORE_SHARE,
        "units": "chamfer: squared, the longest side being 1.8; fscore_within: the file's units;"
        " fscore_within_share: of the longest side",
    }


def picture(mesh: Mesh, size: int) -> Image.Image:
    """A mesh seen from the front left."""
    return Image.fromarray(render(mesh, size))


def portrait(mesh: Mesh, size: int) -> Image.Image:
    """A mesh seen from the front left, from as near as it fits the frame."""
    return Image.fromarray(render(mesh, size, framed(mesh)))


def around(mesh: Mesh) -> Image.Image:
    """Six pictures from all around, side by side."""
    return Image.fromarray(np.concatenate(turntable(mesh, 6, 128), axis=1))


def render_mesh(path: Path, out: Path, options: Detail) -> dict[str, Any]:
    """A picture of a mesh file, normalised."""
    check_range("size", options["size"], MIN_RENDER_SIDE, MAX_RENDER_SIDE)
    check_range("azimuth", options["azimuth"], -360, 360)
    check_range("elevation", options["elevation"], -90, 90)
    raw, report = open_mesh(path)
    turned, axis, axis_notes = upright(raw, options["up"], report.kind)
    mesh = normalise(turned)[0]
    camera = all_seeing(mesh, Camera(options["azimuth"], options["elevation"]))
    chosen, reason = choose_renderer(options["renderer"])
    pixels = render(mesh, options["size"], camera, options["renderer"])
    with whole(out) as file:
        Image.fromarray(pixels).save(file, format="PNG")
    return {
        "renderer": chosen, "reason": reason, "faces": report.faces, "up": axis,
        "notes": [*report.notes, *axis_notes],
    }  # fmt: skip


# ---- between two -------------------------------------------------------------------


def measurer(first: Mesh, last: Mesh) -> Measurer:
    """Chamfer distances to both ends' surfaces."""
    a, b = (surface_points(mesh, COMPARED_POINTS, 1)[0] for mesh in (first, last))

    def measured(_: float, mesh: Mesh) -> dict[str, float]:
        points = surface_points(mesh, COMPARED_POINTS, 1)[0]
        return {
            "to_first": chamfer_distance(points, a),
            "to_second": chamfer_distance(points, b),
        }

    return measured


def nearness(step: Mapping[str, float]) -> float:
    """Chamfer distance x 1000 to the nearer end."""
    return min(step["to_first"], step["to_second"]) * 1e3


UP = Option(
    "up", "Upward axis", "auto", "a mesh's vertical axis; auto: z for STL and 3MF, else y",
    choices=("auto", "y", "z"),
)  # fmt: skip


def shape_domain(name: str, title: str, labels: Labels, mapped: Mapped | None) -> Domain:
    """A set of shapes, with a base, an encoder and a weight diffusion model of its own."""
    return Domain(
        name=name,
        kind="sdf",
        title=title,
        one="shape",
        many="shapes",
        original="mesh",
        holds="a shape",
        intro_sample="Each shape below is **about 10,000 neural-network weights**, drawn by a "
        "diffusion model. The shared base field turns them into a distance at every point of "
        "space, and marching cubes into a mesh at any resolution. The models have seen 153 "
        "airplanes and 970 shapes of ten categories, so look at the nearest training shape: some "
        "samples are near-copies.",
        intro_fit="A mesh becomes the weights that make the shared base field measure its "
        "distance. The bases have seen about 1,000 shapes of ten categories; other shapes fit "
        "too, with less detail. Holes and flipped faces are no obstacle.",
        reads=tuple(f".{kind}" for kind in READABLE + PACKAGES),
        knows=names_a_mesh,
        writes=tuple(f".{kind}" for kind in WRITABLE),
        labels=labels,
        rates={"mlora": 0.03, "lora": 0.01, "mlp": 0.01, "lora-asym": 0.001},
        fitting=FitConfig(points=4096, absolute=True, report_every=10),
        comparable=COMPARABLE,
        presets={
            "Fast: 15 s, rank 8": FitOptions(rank=8, seconds=15.0),
            "Fine: 45 s, rank 18": FitOptions(rank=18, seconds=45.0),
        },
        report_seconds=2.0,
        measures=(
            Measure("chamfer", "Chamfer distance (to the surface, squared, length 1.8)", "{:.6f}"),
            Measure("fscore", "F-score (within 1 % of the length)", "{:.1%}"),
            Measure("iou", "Volume IoU", "{:.1%}"),
            Measure("normals", "Normal consistency", "{:.3f}"),
        ),
        walking=Walking(
            measurer,
            f"Chamfer distance of {COMPARED_POINTS:,} points drawn on each surface",
            nearness,
            "Chamfer distance x 1000",
        ),
        open=open_solid,
        signal=signal_of,
        grid=lambda _: torch.from_numpy(grid_points(GRID)).float(),
        decode=decode,
        picture=picture,
        measure=compare_meshes,
        content=content,
        facts=facts,
        losses=losses,
        fit_facts=fit_facts,
        headline=lambda m: f"F-score {m['fscore']:.1%}, IoU {m['iou']:.1%}",
        temperature=TEMPERATURE,
        most=MAX_SHAPES,
        batch=1,
        framing=(UP,),
        detail=(
            Option("resolution", "Cells a side (marching cubes)", FINE,
                   "cells a side, 32 to 256", choices=(64, 128, 256), check=check_resolution),
            Option("largest", "Largest piece only", False, "keep the largest piece only",
                   is_of_fits=True),
        ),
        quick={"resolution": PREVIEW},
        reference=lambda original: reference_surface(original.value),
        portrait=portrait,
        look=lambda original: original.value.mesh,
        overlay=(
            lambda mesh, reference, size: Image.fromarray(overlay(mesh, reference, size)),
            "Red where it is off by 2 % of the length",
        ),
        turntable=around,
        viewer="glb",
        render=render_mesh,
        render_options=(
            Option("size", "Pixels a side", 512,
                   f"pixels a side, {MIN_RENDER_SIDE} to {MAX_RENDER_SIDE}"),
            Option("azimuth", "Azimuth", 35.0, "degrees, -360 to 360"),
            Option("elevation", "Elevation", 20.0, "degrees, -90 to 90"),
            UP,
            Option("renderer", "Renderer", "auto", "what draws",
                   choices=("auto", "egl", "software")),
        ),
        drawn_facts=lambda temperature: {"level": drawn_level(name, temperature)},
        mixes=("level", "centre_x", "centre_y", "centre_z", "scale", "z_up"),
        plain_facts=pose_facts(Pose()),
        fallback_size=FINE,
        mapped=mapped,
    )  # fmt: skip


SHAPES = shape_domain(
    "shapes",
    "Ten categories, first generation",
    Labels("category", "categories", are_exclusive=True),
    Mapped(landmarks=40, pixels=56),
)
SHAPES_MANIFOLD = dataclasses.replace(
    SHAPES,
    name="shapes-manifold",
    title="Ten categories",
    is_drawn_first=True,
    start=on_manifold,
    comparable=None,
    temperature=0.7,
    guidance=1.0,
    drawn_facts=lambda heat: {"level": drawn_level("shapes-manifold", heat)},
)
"""The second generation: a base that was trained together with a linear manifold of adapters, on
which its diffusion model draws."""
AIRPLANE = shape_domain(
    "airplane",
    "Airplanes",
    Labels("category", "categories", are_exclusive=True, no_choice="none: it draws airplanes only"),
    None,
)
