"""Tabs inside Clusters: a face moved along directions of weight space, and the symmetries."""

from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from wsdemo.analysis.features import face_features
from wsdemo.domains import pipelines
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.canonical import canonicalise
from wsdemo.maps import weight_map as maps
from wsdemo.ui.shared.events import QUICK, download_file, guarded

SIDE = 320


@guarded
def edit(
    path: str | None, index: float | None, attribute: str, strength: float, is_debiased: bool
) -> tuple[Any, Any, str, str]:
    """A face moved along an attribute's direction, and how far its identity moved."""
    found = maps.weight_map("faces")
    if path is not None:
        instance = pipelines.open_instance(Path(path), "image")
    else:
        instance = maps.point_instance(found, int(index or 0))
    moved = maps.edit(found, instance, attribute, strength, is_debiased)
    both = torch.stack([instance.weights, moved])
    faces = pipelines.render_faces(both, instance.adapter)
    features = face_features(faces)
    change = float((features[0] - features[1]).norm()) / found.spread
    before, after = (
        Image.fromarray(f.permute(1, 2, 0).numpy()).resize((SIDE, SIDE)) for f in faces
    )
    out = download_file(b"", "edited.safetensors")
    pipelines.face_instance(instance.adapter, moved, {}).save(Path(out))
    said = (
        f"Changed by {change:.0%} of the median distance between two different people, in"
        " FaceAttr-64 features (ours)."
    )
    return before, after, said, out


# ---- symmetry ------------------------------------------------------------------------------


@guarded
def symmetry(
    representation: str, seed: float | None, gauge: str = maps.GAUGES[0]
) -> tuple[Any, Any, str]:
    """Re-gauges a fitted face: the picture stays, raw factors move, canonical ones stay."""
    found = maps.weight_map("faces")
    base, _ = shipped_base(pipelines.BASE)
    adapter = Adapter(base, AdapterConfig(representation, 8, 0))
    # A masked instance is also one without a mask: some entries of A happen to be zero.
    weights = found.weights(len(found) - 1)[None]
    turned = maps.regauge_by(adapter, weights, gauge, int(seed or 0))
    faces = pipelines.render_faces(torch.cat([weights, turned]), adapter)
    difference = int((faces[0].int() - faces[1].int()).abs().max())
    raw = _apart(weights, turned)
    canonical = _apart(canonicalise(adapter, weights), canonicalise(adapter, turned))
    one, two = (Image.fromarray(f.permute(1, 2, 0).numpy()).resize((SIDE, SIDE)) for f in faces)
    said = (
        f"Largest difference of a pixel: **{difference}** of 255. Raw factors moved by"
        f" **{raw:.1%}** of their length, canonical factors by **{canonical:.2%}**."
    )
    return one, two, said


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm())


def build_edit() -> None:
    """Lays out the tab of directions inside the current Blocks."""
    gr.Markdown(
        "Directions of attributes in weight space, from 8,000 training faces: the change of the"
        " weights between faces without and with the attribute. Held apart from the other 39, or"
        " as the plain difference of means."
    )
    labels = list(maps.weight_map("faces").label_names)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            dropped = gr.File(
                label="A fitted face (.safetensors); default: a held-out one",
                file_types=[".safetensors"], height=120,
            )  # fmt: skip
            held = maps.weight_map("faces").is_held_out.nonzero().flatten()
            number = gr.Slider(
                int(held[0]), int(held[-1]), int(held[5]), step=1, label="or held-out face number"
            )
            attribute = gr.Dropdown(labels, value="Smiling", label="Attribute", elem_id="edit-what")
            strength = gr.Slider(-3, 3, 1.0, step=0.1, label="Strength", elem_id="edit-strength")
            debiased = gr.Checkbox(True, label="Hold the other attributes fixed")
        with gr.Column(scale=3, min_width=400):
            with gr.Row():
                before = gr.Image(
                    label="Before", interactive=False, height=SIDE, format="png", buttons=[]
                )
                after = gr.Image(
                    label="After", interactive=False, height=SIDE, format="png", buttons=[],
                    elem_id="edited",
                )  # fmt: skip
            said = gr.Markdown(elem_id="edit-said")
            file = gr.DownloadButton("Download the edited instance")
    inputs = [dropped, number, attribute, strength, debiased]
    outputs = [before, after, said, file]
    for component in inputs:
        event = component.change if component is dropped else component.input
        event(edit, inputs, outputs, api_visibility="private", show_progress="hidden", **QUICK)
    go = gr.Button("Edit", variant="primary", elem_id="edit-go")
    go.click(edit, inputs, outputs, api_name="edit_face", **QUICK)


def build_symmetry() -> None:
    """Lays out the tab of symmetries inside the current Blocks."""
    gr.Markdown(
        "Many factors describe one picture: (B R, R⁻¹ A) for any invertible R, also one that only"
        " reorders the ranks, scales them or turns their signs. A mask leaves scale and sign, and"
        " the canonical form removes those too."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            kind = gr.Radio(["mlora-asym", "mlora"], value="mlora-asym", label="Weights")
            gauge = gr.Radio(
                list(maps.GAUGES), value=maps.GAUGES[0], label="Change", elem_id="symmetry-gauge"
            )
            seed = gr.Number(1, label="Seed of R", precision=0)
            go = gr.Button("Re-gauge", variant="primary", elem_id="symmetry-go")
            said = gr.Markdown(elem_id="symmetry-said")
        with gr.Column(scale=2, min_width=400), gr.Row():
            before = gr.Image(
                label="As fitted", interactive=False, height=SIDE, format="png", buttons=[]
            )
            after = gr.Image(
                label="After R", interactive=False, height=SIDE, format="png", buttons=[]
            )
    go.click(
        symmetry, [kind, seed, gauge], [before, after, said], api_visibility="private", **QUICK
    )
