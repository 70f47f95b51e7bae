"""Faces: pictures of a size that the base's metadata state, as fields of colours over a square."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wsdemo.analysis.features import face_features
from wsdemo.analysis.reconstruction import psnr, ssim
from wsdemo.domains.domain import (
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
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.fit import FitConfig, psnr_from_mse
from wsdemo.fields.instance import Instance
from wsdemo.fields.signal import image_to_signal
from wsdemo.limits import MAX_RENDER_SIDE, MIN_RENDER_SIDE
from wsdemo.media.images import Crop, open_picture, png_bytes, to_picture, to_square

COMPARABLE = FitConfig(steps=50, points=512, learning_rate=0.02, pull=1.0)
"""How all training faces were fitted."""
EQUAL = 60.0
"""PSNR in dB from which a walk's pictures count as equal."""


# ---- pictures in -----------------------------------------------------------------


def open_photo(
    domain: Domain, path: Path, x: float = 0.5, y: float = 0.5, zoom: float = 1.0
) -> Original:
    """A square of a photo: (3, size, size) uint8."""
    crop = Crop(x, y, zoom)
    picture, notes = open_picture(path)
    return Original(to_square(picture, crop, domain.size), tuple(notes))


def signal_of(original: Original, _: Path | None = None) -> Signal:
    """A picture as colours at its pixels' centres."""
    inputs = image_to_signal(original.value[None])
    points = pixel_grid(*inputs.shape[-2:])
    return Signal(points, inputs.flatten(2).transpose(1, 2), inputs)


# ---- pictures out ----------------------------------------------------------------


def check_size(size: int) -> None:
    """Raises WsdemoError unless the field can be rendered at ``size`` pixels a side."""
    if not MIN_RENDER_SIDE <= size <= MAX_RENDER_SIDE:
        raise WsdemoError(
            "Size out of range",
            f"Found {size} pixels; expected {MIN_RENDER_SIDE} to {MAX_RENDER_SIDE}.",
            "The field was trained at 64; beyond 256 it only gets smoother.",
        )


def render_faces(instances: Tensor, adapter: Adapter, size: int | None = None) -> Tensor:
    """Decodes (n, D) weights at size² pixels → (n, 3, size, size) uint8.

    Args:
        instances: Weights.
        adapter: Representation and base.
        size: Default: that of the shipped faces.

    Raises:
        WsdemoError: The size is out of range, or the weights decode to nothing finite.
    """
    size = FACES.size if size is None else size
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


def decode(domain: Domain, instances: Sequence[Instance], size: int | None = None) -> list[Tensor]:
    """The picture of each instance, (3, size, size) uint8."""
    weights = torch.stack([instance.weights for instance in instances])
    return list(render_faces(weights, instances[0].adapter, size or domain.size))


def picture(shown: Tensor, size: int) -> Image.Image:
    """A decoded face at a number of pixels a side."""
    face = to_picture(shown)
    if face.size == (size, size):
        return face
    return face.resize((size, size), Image.Resampling.BICUBIC)


def facts(shown: Tensor, *_: Any) -> dict[str, Any]:
    """What the command line says of a decoded face."""
    return {"size": shown.shape[-1]}


# ---- between two -------------------------------------------------------------------


def measurer(first: Tensor, last: Tensor) -> Measurer:
    """Mean squared difference of pixels in [0, 1], to both ends and to the pictures' own blend."""
    a, b = first.double() / 255, last.double() / 255

    def measured(share: float, shown: Tensor) -> dict[str, float]:
        values = shown.double() / 255
        return {
            "to_first": float((values - a).square().mean()),
            "to_second": float((values - b).square().mean()),
            "to_crossfade": float((values - torch.lerp(a, b, share)).square().mean()),
        }

    return measured


def nearness(step: Mapping[str, float]) -> float:
    """PSNR in dB to the nearer end."""
    mse = torch.tensor(min(step["to_first"], step["to_second"]), dtype=torch.float64)
    return min(EQUAL, float(psnr_from_mse(mse, peak=1.0)))


LABELS = {
    "Smiling": "smiling",
    "Eyeglasses": "glasses",
    "Male": "male",
    "Young": "young",
    "Wearing_Hat": "hat",
    "Bangs": "bangs",
    "No_Beard": "no beard",
    "Black_Hair": "black hair",
    "Blond_Hair": "blond hair",
    "Brown_Hair": "brown hair",
    "Gray_Hair": "gray hair",
}
"""Attributes that the model can be asked for, in words."""

FACES = Domain(
    name="faces",
    kind="image",
    title="First generation",
    one="face",
    many="faces",
    original="photo",
    holds="a picture",
    intro_sample="Each face below is **about 10,000 neural-network weights**, drawn by a diffusion "
    "model. The shared base field turns them into a picture at any resolution.",
    intro_fit="A photo becomes the weights that make the shared base field show it. Faces fit "
    "best: the base has seen 8,000 of them at 64x64 pixels. Your photo goes nowhere but to the "
    "machine that runs this app, which deletes it within a day.",
    reads=(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    writes=(".png",),
    labels=Labels("attribute", "attributes", False, "Male", LABELS),
    rates={"mlora": 0.03, "lora": 0.01, "mlp": 0.01, "lora-asym": 0.003, "mlora carried": 0.1},
    fitting=FitConfig(report_every=5),
    comparable=COMPARABLE,
    presets={
        "Fast: 4 s, rank 8": FitOptions(rank=8, seconds=4.0),
        "Fine: 20 s, rank 18": FitOptions(rank=18, seconds=20.0, start="carried"),
        "As the training faces: for the map, edits and predictions": FitOptions(is_comparable=True),
    },
    report_seconds=0.2,
    measures=(Measure("psnr", "PSNR", "{:.2f} dB"), Measure("ssim", "SSIM", "{:.3f}")),
    walking=Walking(
        measurer,
        "mean squared difference of pixels in [0, 1]",
        nearness,
        "PSNR (dB)",
        # About 11,000 weights each.
        {"mlp": 39, "lora": 8, "mlora": 8, "mlora-asym": 8},
    ),
    open=open_photo,
    signal=signal_of,
    grid=lambda domain: pixel_grid(domain.size, domain.size),
    decode=decode,
    picture=picture,
    side=lambda shown: shown.shape[-1],
    measure=lambda reference, shown: {"ssim": ssim(shown, reference)},
    psnr=lambda reference, shown: float(psnr(shown, reference)),
    content=lambda shown, ending, instance: png_bytes(shown),
    facts=facts,
    headline=lambda measured: f"{measured['psnr']:.2f} dB",
    guidance=1.5,
    framing=(
        Option("x", "Left to right", 0.5, "0 left, 1 right", "--crop-x", bounds=(0, 1, 0.01)),
        Option("y", "Top to bottom", 0.5, "0 top, 1 bottom", "--crop-y", bounds=(0, 1, 0.01)),
        Option("zoom", "Zoom", 1.0, "2: a square of half the side", bounds=(1, 6, 0.05)),
    ),
    detail=(
        Option(
            "size",
            "Render at (pixels)",
            None,
            f"pixels a side, {MIN_RENDER_SIDE} to {MAX_RENDER_SIDE}; default: as the base, 64",
            shown=256,
            choices=(64, 128, 256, 512),
            check=check_size,
        ),
    ),
    features=lambda shown: face_features(torch.stack(list(shown))),
    mapped=Mapped(landmarks=60, pixels=36),
    endpoints={"fit": "fit_picture", "decode": "decode_instance", "blend": "blend", "walk": ""},
)


FACES_MANIFOLD = dataclasses.replace(
    FACES,
    name="faces-manifold",
    title="Second generation",
    is_drawn_first=True,
    start=on_manifold,
    comparable=None,
    guidance=4.0,
    presets={
        "Fast: 4 s, rank 8": FitOptions(rank=8, seconds=4.0, start="carried"),
        "Fine: 20 s, rank 18": FitOptions(rank=18, seconds=20.0, start="carried"),
    },
)
"""Faces on a base that was trained together with a linear manifold of adapters, on which its
diffusion model draws. GL-net's predictors know fits on the first generation's base alone."""
