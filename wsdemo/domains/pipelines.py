"""What the app, the command line and the API do, each as one function.

Everything here takes and returns plain values; no global state but the shipped
checkpoints, which are loaded once a process and never changed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import FrozenBase, pixel_grid
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.canonical import canonicalise
from wsdemo.fields.encoder import AmortisedStart, load_start
from wsdemo.fields.fit import psnr_from_mse, warm_start
from wsdemo.fields.instance import Instance, read_instance
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion
from wsdemo.limits import (
    MAX_DIFFUSION_STEPS,
    MAX_GUIDANCE,
    MAX_RENDER_SIDE,
    MAX_SAMPLES,
    MAX_SEED,
    MAX_TEMPERATURE,
    MIN_RENDER_SIDE,
)

BASE, ENCODER = "faces-base", "faces-encoder"
BASES = (BASE, "airplane-base", "shapes-base")
"""Every base that ships; an instance names its own."""
DIFFUSION, NEIGHBOURS, EXAMPLES = "faces-diffusion", "faces-neighbours", "faces-examples"
SIZE = 64
"""Pixels a side that the face base was trained on."""


# ---- models ------------------------------------------------------------------


@cache
def face_diffusion() -> WeightDiffusion:
    """The shipped weight diffusion model of the faces."""
    base, _ = shipped_base(BASE)
    return load_diffusion(DIRECTORY / f"{DIFFUSION}.safetensors", base)[0]


@cache
def face_adapter(representation: str, rank: int, seed: int, start: str = "spread") -> Adapter:
    """An adapter on the shipped face base with its shared start."""
    adapter = Adapter(shipped_base(BASE)[0], AdapterConfig(representation, rank, seed, start))
    if adapter.config.kind == "mlp":  # the others start at the base itself
        adapter.start = warm_start(adapter, pixel_grid(SIZE, SIZE))
    return adapter


@cache
def face_start() -> AmortisedStart:
    """The shipped encoder, which gives mLoRA fits their start."""
    path = DIRECTORY / f"{ENCODER}.safetensors"
    return load_start(path, base_hash=shipped_base(BASE)[1]["hash"])


def warm_up() -> None:
    """Loads the models that draw and fit, so that the first visitor does not wait."""
    model = face_diffusion()
    face_start()
    render_faces(model.draw(1, seed=0, steps=1), model.adapter)


# ---- decoding -----------------------------------------------------------------


def check_size(size: int) -> None:
    """Raises WsdemoError unless the field can be rendered at ``size`` pixels a side."""
    if not MIN_RENDER_SIDE <= size <= MAX_RENDER_SIDE:
        raise WsdemoError(
            "Size out of range",
            f"Found {size} pixels; expected {MIN_RENDER_SIDE} to {MAX_RENDER_SIDE}.",
            "The field was trained at 64; beyond 256 it only gets smoother.",
        )


def render_faces(instances: Tensor, adapter: Adapter, size: int = SIZE) -> Tensor:
    """Decodes (n, D) weights at size² pixels → (n, 3, size, size) uint8.

    Raises:
        WsdemoError: The size is out of range.
    """
    check_size(size)
    values = adapter.decode_points(instances, pixel_grid(size, size))
    if not bool(torch.isfinite(values).all()):
        raise WsdemoError(
            "Nothing to show",
            "The weights decode to values that are not finite.",
            "Use other weights.",
        )
    pixels = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.transpose(1, 2).reshape(len(instances), 3, size, size)


def face_instance(adapter: Adapter, weights: Tensor, measured: Mapping[str, float]) -> Instance:
    """Wraps weights (D,) as an instance of the shipped face base."""
    _, meta = shipped_base(BASE)
    return Instance(adapter, weights, "image", BASE, meta["hash"], SIZE, dict(measured))


def open_instance(path: Path, domain: str | None = None) -> Instance:
    """Reads an instance file of any shipped base.

    Args:
        path: The file.
        domain: ``image`` or ``sdf``, if only one of them is wanted.

    Raises:
        WsdemoError: See read_instance; also a base that is not shipped, or another domain.
    """

    def known(name: str) -> tuple[FrozenBase, dict[str, Any]]:
        if name not in BASES:
            raise WsdemoError(
                "Unknown base",
                f"The instance was fitted on {name[:40]!r}; this app ships {', '.join(BASES)}.",
                "Use the wsdemo version that wrote the file.",
            )
        return shipped_base(name)

    instance = read_instance(path, known)
    if domain is not None and instance.domain != domain:
        words = {"image": "a picture", "sdf": "a shape"}
        raise WsdemoError(
            "Another kind of instance",
            f"This file holds {words[instance.domain]}; expected {words[domain]}.",
            "Open it in the other half of the tab.",
        )
    return instance


def canonical(instance: Instance) -> Instance:
    """The same field with canonical factors; unchanged where nothing is left to fix."""
    weights = canonicalise(instance.adapter, instance.weights[None])[0]
    moved = not torch.equal(weights, instance.weights)
    return dataclasses.replace(
        instance, weights=weights, is_canonical=instance.is_canonical or moved
    )


def check_fitted(instance: Instance) -> None:
    """Raises WsdemoError unless the weights are as fitted, which maps and directions know."""
    if instance.is_canonical:
        raise WsdemoError(
            "Canonical factors",
            "The file holds canonical factors, which lie elsewhere in weight space than the"
            " fitted ones that are known here.",
            "Give the file as it was fitted or drawn.",
        )


def check_ends(a: Instance, b: Instance) -> None:
    """Raises WsdemoError, naming what differs, unless the weights of two instances mix."""
    facts = [
        {
            "domain": x.domain,
            "base": f"{x.base_name} ({x.base_hash[:8]})",
            **dataclasses.asdict(x.adapter.config),
            "factors": "canonical" if x.is_canonical else "as fitted",
        }
        for x in (a, b)
    ]
    differing = [key for key in facts[0] if facts[0][key] != facts[1][key]]
    if differing:
        one, other = (", ".join(f"{key} {f[key]}" for key in differing) for f in facts)
        raise WsdemoError(
            "These two do not mix",
            f"One has {one}; the other has {other}.",
            "Fit both on one base, with the same representation, rank, seed and start; make"
            " both canonical, or none.",
        )


def blend(a: Instance, b: Instance, share: float) -> Tensor:
    """(1 − share) ε_a + share ε_b, the straight path in weight space: (D,).

    Raises:
        WsdemoError: As check_ends.
    """
    check_ends(a, b)
    return torch.lerp(a.weights, b.weights, share)


def mean_psnr(images: Tensor, targets: Tensor) -> Tensor:
    """(n,) PSNR in dB of (n, 3, H, W) uint8 pictures."""
    mse = (images.double() - targets.double()).square().mean((1, 2, 3)) / 127.5**2
    return psnr_from_mse(mse)


# ---- sampling -----------------------------------------------------------------


@dataclass(frozen=True)
class SampleStep:
    """A moment of sampling.

    Attributes:
        step: Denoising steps done.
        steps: Denoising steps in all.
        instances: (n, D) weights so far.
    """

    step: int
    steps: int
    instances: Tensor


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises WsdemoError unless low ≤ value ≤ high."""
    if not low <= value <= high:
        raise WsdemoError(
            "Value out of range",
            f"{name} is {value:g}; expected {low:g} to {high:g}.",
            f"Choose a {name} in that range.",
        )


def sample_faces(
    count: int,
    seed: int,
    steps: int = 50,
    guidance: float = 1.5,
    attributes: Mapping[str, bool] | None = None,
    temperature: float = 1.0,
) -> Iterator[SampleStep]:
    """Draws faces from the weight diffusion model, step by step.

    Below a ``temperature`` of 1 they are more typical and less various.

    Raises:
        WsdemoError: A value is out of range or an attribute unknown.
    """
    check_range("count", count, 1, MAX_SAMPLES)
    check_range("seed", seed, 0, MAX_SEED)
    check_range("steps", steps, 1, MAX_DIFFUSION_STEPS)
    check_range("guidance", guidance, 0, MAX_GUIDANCE)
    check_range("temperature", temperature, 0, MAX_TEMPERATURE)
    model = face_diffusion()
    condition = model.condition(attributes or {}, count)
    drawn = model.sample(count, seed, steps, guidance, condition, temperature=temperature)
    for step, instances in drawn:
        yield SampleStep(step, steps, instances)


@dataclass(frozen=True)
class Neighbour:
    """The training instance whose weights lie nearest to some weights.

    Attributes:
        index: Its place in the training split.
        name: Its name in the data.
        distance: Distance of standardised weights, along the stored principal directions.
        percentile: Share of held-out instances that lie nearer to their nearest training
            instance, in %. A copy of a training instance is at 0.
        weights: (D,) its weights, from the stored principal coordinates.
    """

    index: int
    name: str
    distance: float
    percentile: float
    weights: Tensor


def nearest_training_face(weights: Tensor, adapter: Adapter) -> Neighbour:
    """Finds the nearest training face of (D,) weights: the memorisation check.

    Raises:
        WsdemoError: The weights are of another representation than the training faces.
    """
    model = face_diffusion()
    if adapter.config != model.adapter.config:
        raise WsdemoError(
            "No neighbours for this representation",
            f"Training faces are stored as {model.adapter.config.representation} of rank"
            f" {model.adapter.config.rank}; found {adapter.config.representation} of rank"
            f" {adapter.config.rank}.",
            "Fit with the default representation.",
        )
    return nearest_neighbour(weights, model, NEIGHBOURS)


def neighbours_of(model: WeightDiffusion, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """The checkpoint ``name`` of neighbours, for a model; and the instances' names.

    Raises:
        WsdemoError: It belongs to another model.
    """
    return _neighbours(name, model.prior_hash)


@cache
def _neighbours(name: str, prior: str) -> tuple[dict[str, Tensor], list[str]]:
    tensors, meta = load_checkpoint(DIRECTORY / f"{name}.safetensors")
    if meta["prior"] != prior:
        raise WsdemoError(
            "Checkpoints do not match",
            f"{name} belongs to another version of the diffusion model.",
            "Take both from the same revision, or run the release recipe again.",
        )
    return tensors, list(meta["names"])


def nearest_neighbour(weights: Tensor, model: WeightDiffusion, name: str) -> Neighbour:
    """The training instance nearest to (D,) weights, by the checkpoint ``name`` of neighbours."""
    tensors, names = neighbours_of(model, name)
    stored = tensors["coordinates"].float()
    own = model.prior.coordinates(weights[None], stored.shape[1])
    # Principal coordinates weighted by their spread: plain distance of weights, in the span.
    spread = model.prior.variances[: stored.shape[1]].sqrt()
    distances = ((stored - own) * spread).norm(dim=1)
    index = int(distances.argmin())
    distance = float(distances[index])
    percentile = 100 * float((tensors["held_out_distances"] < distance).float().mean())
    nearest = model.prior.from_coordinates(stored[index : index + 1])[0]
    return Neighbour(index, names[index], distance, percentile, nearest)
