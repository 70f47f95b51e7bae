"""What the app, the command line and the API do with shapes, each as one function.

The twin of ``pipelines`` (faces): plain values in and out, and the shipped checkpoints, which
are loaded once a process and never changed.
"""

from collections.abc import Iterator
from functools import cache
from random import Random

import numpy as np
import torch
from torch import Tensor

from wsdemo.checkpoints import DIRECTORY
from wsdemo.domains import pipelines
from wsdemo.domains.pipelines import (
    Neighbour,
    SampleStep,
    check_range,
    nearest_neighbour,
)
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.encoder import AmortisedStart, load_start
from wsdemo.fields.fit import warm_start
from wsdemo.fields.instance import Instance
from wsdemo.fields.signal import TRUNCATION
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion
from wsdemo.limits import (
    MAX_DIFFUSION_STEPS,
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_SHAPES,
    MAX_TEMPERATURE,
    MESH_RESOLUTIONS,
)
from wsdemo.media.meshes import Floats, Mesh, Pose
from wsdemo.media.sdf import GRID, grid_points
from wsdemo.media.surface import (
    Field,
    Values,
    extract,
    gradient_normals,
    largest_component,
    sparse_grid,
)

SETS = ("airplane", "shapes")
"""Families of shapes, each with a base, an encoder and a weight diffusion model of its own."""
PREVIEW, FINE = 64, 128
"""Cells a side of a preview, and of a result."""
TEMPERATURE = 0.75
"""Of what is drawn for people: at 1, where it compares with the papers, more falls to pieces."""
COOLED_LEVELS = {"airplane": 0.01, "shapes": 0.02}
"""How far out, for a temperature of 0, the surface of a drawn field lies, in a box of side 2. Below
1 fields are drawn smoother than fitted ones are, and lose thin parts."""
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
def shape_adapter(
    name: str, representation: str, rank: int, seed: int, start: str = "spread"
) -> Adapter:
    """An adapter on the base of a set with its shared start."""
    check_set(name)
    config = AdapterConfig(representation, rank, seed, start)
    adapter = Adapter(shipped_base(f"{name}-base")[0], config)
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


def decode_instance(instance: Instance, resolution: int = FINE, largest: bool = False) -> Mesh:
    """The surface of an instance, at its own level."""
    return decode_shape(instance.weights, instance.adapter, resolution, largest, level_of(instance))


def decode_between(a: Instance, b: Instance, share: float, resolution: int = PREVIEW) -> Mesh:
    """The surface at a share of the straight path from one instance to another."""
    level = (1 - share) * level_of(a) + share * level_of(b)
    return decode_shape(pipelines.blend(a, b, share), a.adapter, resolution, level=level)


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


def drawn_level(name: str, temperature: float) -> float:
    """The value at which a field of a set, drawn at T, has its surface: COOLED_LEVELS (1 − T)."""
    return COOLED_LEVELS[name] * max(0.0, 1 - temperature)


def drawn_instance(name: str, adapter: Adapter, weights: Tensor, temperature: float) -> Instance:
    """Wraps weights (D,) that were drawn at a temperature as an instance."""
    return shape_instance(name, adapter, weights, {"level": drawn_level(name, temperature)}, Pose())


def level_of(instance: Instance) -> float:
    """The value at which an instance's field has its surface; 0 unless it was drawn cool."""
    return instance.measured.get("level", 0.0)


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
    guidance: float = 2.0,
    category: str | None = None,
    temperature: float = TEMPERATURE,
) -> Iterator[SampleStep]:
    """Draws shapes from the weight diffusion model of a set, step by step.

    Without a ``category`` each shape is of one drawn at random: asked for one, the model draws
    clearer shapes. Below a ``temperature`` of 1 they are more typical and less various.

    Raises:
        WsdemoError: A value is out of range, or the set or category unknown.
    """
    check_range("count", count, 1, MAX_SHAPES)
    check_range("seed", seed, 0, MAX_SEED)
    check_range("steps", steps, 1, MAX_DIFFUSION_STEPS)
    check_range("guidance", guidance, 0, MAX_GUIDANCE)
    check_range("temperature", temperature, 0, MAX_TEMPERATURE)
    model = shape_diffusion(name)
    names = model.attribute_names
    if category is not None and category not in names:
        known = ", ".join(names) or "none: it draws airplanes only"
        raise WsdemoError(
            "Unknown category",
            f"Found {category[:40]!r}; this model knows {known}.",
            "Choose among the known ones.",
        )
    # By seed and place, so that a shape depends on how many are drawn with it by rounding only.
    wished = [category or (names and Random(f"{seed}/{i}").choice(names)) for i in range(count)]
    rows = [model.condition({name: name == wish for name in names}, 1) for wish in wished]
    condition = torch.cat(rows)
    drawn = model.sample(count, seed, steps, guidance, condition, temperature=temperature)
    for step, instances in drawn:
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
