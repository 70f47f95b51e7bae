"""Instances that a visitor chose on the map: the walk between two, and variations of one."""

import dataclasses
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from wsdemo.domains import pipelines, shape_pipelines
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps import walk as walks
from wsdemo.maps import weight_map as maps
from wsdemo.media.render import render
from wsdemo.ui.shared.curve import curve_svg
from wsdemo.ui.shared.events import guarded
from wsdemo.ui.shared.text import text_of

SIDE = 320
NEAR = 8
"""Variations that are drawn at once."""
ON_THE_WAY = "On the way"
VARIED = "Drawn by the diffusion model from the chosen weights and some noise"
STEPS = 9
"""Pictures along a walk."""
BLANK = Image.new("RGB", (128, 128), "#f1f5f9")

Chosen = int | str | None
"""What a visitor has chosen: a point of the map, the file of an instance of their own, nothing."""


def instance_of(name: str, chosen: Chosen) -> Instance:
    """What is chosen, as an instance.

    Raises:
        WsdemoError: Nothing is, or its file is no longer kept.
    """
    if chosen is None:
        raise WsdemoError("No point chosen", "There is nothing to start from yet.", "Click one.")
    if isinstance(chosen, int):
        return maps.point_instance(maps.weight_map(name), chosen)
    if not Path(chosen).is_file():
        raise WsdemoError("File gone", "Your instance is no longer kept here.", "Drop it again.")
    return pipelines.open_instance(Path(chosen))


def picture_of(instance: Instance) -> Image.Image:
    if instance.domain == "image":
        pixels = pipelines.render_faces(instance.weights[None], instance.adapter, 64)[0]
        return Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((SIDE, SIDE))
    mesh = shape_pipelines.decode_instance(instance, shape_pipelines.PREVIEW)
    return Image.fromarray(render(mesh, SIDE))


# ---- walking -----------------------------------------------------------------------------


def _said_of(name: str, chosen: Chosen) -> str:
    if not isinstance(chosen, int):
        return "your instance"
    return text_of(maps.weight_map(name).names[chosen])


@guarded
def begin(name: str, chosen: Chosen) -> tuple[Chosen, str]:
    """Where a walk begins."""
    instance_of(name, chosen)
    return chosen, f"The walk begins at **{_said_of(name, chosen)}**. Choose where it ends."


def _ends(name: str, a: Chosen, b: Chosen) -> tuple[Instance, Instance]:
    """Both ends of a walk."""
    if a is None or b is None or a == b:
        raise WsdemoError(
            "Two points are needed",
            "Both ends are the same." if a is not None and a == b else "An end is missing.",
            "Choose a point and press 'Walk from here', then another and 'to here'.",
        )
    start, end = instance_of(name, a), instance_of(name, b)
    pipelines.check_ends(start, end)
    return start, end


@guarded
def walk(name: str, a: Chosen, b: Chosen) -> tuple[Any, str, str]:
    """Pictures along the straight path in weight space, and how far each is from both ends."""
    tiles, curve = walk_pictures(*_ends(name, a, b))
    said = f"The walk goes from **{_said_of(name, a)}** to **{_said_of(name, b)}**, below."
    return tiles, curve, said


@guarded
def mix(name: str, a: Chosen, b: Chosen, share: float) -> Any:
    """One place of a walk, decoded; nothing while there is no walk."""
    if a is None or b is None or a == b:
        return None
    start, end = _ends(name, a, b)
    mixed = dataclasses.replace(start, weights=pipelines.blend(start, end, share))
    label = f"At {share:.0%} of the way"
    try:
        return gr.Image(picture_of(mixed), label=label)
    except WsdemoError:  # a shape without a surface
        return gr.Image(BLANK, label=f"{label}: no surface")


def walk_pictures(start: Instance, end: Instance) -> tuple[list[Any], str]:
    """(picture, caption) along a walk, and its curve as SVG."""
    shares = [i / (STEPS - 1) for i in range(STEPS)]
    values: list[float | None]
    if start.domain == "image":
        weights = torch.stack([pipelines.blend(start, end, s) for s in shares])
        faces = pipelines.render_faces(weights, start.adapter)
        error = [pipelines.mean_psnr(faces, faces[i].expand_as(faces)) for i in (0, -1)]
        values = [float(v) for v in torch.maximum(*[e.clamp(max=60) for e in error])]
        title = "PSNR (dB) to the nearer end along the walk"
        pictures = [Image.fromarray(f.permute(1, 2, 0).numpy()).resize((128, 128)) for f in faces]
    else:
        from wsdemo.domains.shape_fitting import walk_shapes

        steps = list(walk_shapes(start, end, STEPS))
        values = [None if s.mesh is None else min(s.to_first, s.to_second) * 1e3 for s in steps]
        title = "Chamfer distance x 1000 to the nearer end along the walk"
        pictures = [
            BLANK if s.mesh is None else Image.fromarray(render(s.mesh, 128)) for s in steps
        ]
    empty = [f"{s:.0%}" for s, v in zip(shares, values, strict=True) if v is None]
    tiles = [
        (p, f"{s:.0%}" + (", no surface" if v is None else ""))
        for p, s, v in zip(pictures, shares, values, strict=True)
    ]
    known = [(s, v) for s, v in zip(shares, values, strict=True) if v is not None]
    curve = curve_svg([s for s, _ in known], [v for _, v in known], title)
    return tiles, curve + (f"<p>No surface at {', '.join(empty)}.</p>" if empty else "")


@guarded
def walk_side_by_side(name: str, a: Chosen, b: Chosen) -> tuple[Any, str]:
    """The same walk between two faces by the weights of every representation, a row each."""
    if name != "faces" or a is None or b is None or a == b:
        raise WsdemoError(
            "Two faces are needed",
            "Shapes would take minutes to fit again in every representation."
            if name != "faces"
            else "No walk between two points has been chosen.",
            "Choose a face and press 'Walk from here', then another and 'to here'.",
        )
    ends = _ends(name, a, b)
    pictures = torch.cat([pipelines.render_faces(x.weights[None], x.adapter) for x in ends])
    shares = [i / (STEPS - 1) for i in range(STEPS)]
    tiles, curves = [], ""
    for found in walks.walk_by_representation(pictures, STEPS):
        tiles += [
            (Image.fromarray(face.permute(1, 2, 0).numpy()).resize((128, 128)), caption)
            for face, caption in zip(
                found.pictures,
                [found.representation, *(f"{s:.0%}" for s in shares[1:])],
                strict=True,
            )
        ]
        title = f"{found.representation}: PSNR (dB) to the nearer end"
        curves += f"<div style='width:25%'>{curve_svg(shares, found.psnr, title)}</div>"
    side_by_side = f"<div style='display:flex;flex-wrap:wrap'>{curves}</div>"
    return tiles, side_by_side


# ---- variations ---------------------------------------------------------------------------


@guarded
def variations(name: str, chosen: Chosen, strength: float, seed: int) -> tuple[Any, int]:
    """Instances that the diffusion model draws from chosen weights and some noise; another seed
    for the next time."""
    start = instance_of(name, chosen)
    model = maps.weight_map(name).model
    drawn = model.draw(NEAR, seed=seed, steps=50, start=start.weights, strength=strength)
    tiles = []
    for weights in drawn:
        try:
            picture = picture_of(dataclasses.replace(start, weights=weights))
            tiles.append((picture.resize((128, 128)), ""))
        except WsdemoError:  # a shape without a surface
            tiles.append((BLANK, "no surface"))
    return gr.Gallery(tiles, label=f"{VARIED}, seed {seed}"), seed + 1
