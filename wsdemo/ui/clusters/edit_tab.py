"""Tabs inside Clusters: an instance moved along directions of weight space, and symmetries."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from wsdemo.domains.domain import Domain
from wsdemo.domains.instances import decode, domain_of, make_instance, open_instance
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.gauges import GAUGES, canonicalise, regauge_by
from wsdemo.maps.edit import edited
from wsdemo.maps.weight_map import WeightMap, point_instance, weight_map
from wsdemo.ui.shared.events import QUICK, download_file, guarded
from wsdemo.ui.shared.hand import Hand

SIDE = 320


def edit(
    maps: Sequence[WeightMap],
    path: str | None,
    index: float | None,
    attribute: str,
    strength: float,
    is_debiased: bool,
) -> tuple[Any, Any, str, str]:
    """An instance moved along an attribute's direction, and how far its identity moved.

    Of a file the map is that of its own domain; points are of the first.
    """
    drawn = maps[0]
    if path is not None:
        instance = open_instance(Path(path), drawn.domain.kind)
        name = domain_of(instance).name
        drawn = next((m for m in maps if m.name == name), drawn)
    else:
        instance = point_instance(drawn, int(index or 0))
    domain = drawn.domain
    moved = edited(drawn, instance, attribute, strength, is_debiased)
    before, after = (domain.picture(shown, SIDE) for shown in (moved.before, moved.after))
    words = (
        f"Changed by {moved.identity_change:.0%} of the median distance between two different"
        f" {domain.many}, in features of our own."
    )
    out = download_file(moved.instance.to_bytes(), "edited.safetensors")
    return before, after, words, out


def first_choices(drawn: WeightMap) -> tuple[int, str, float, bool]:
    """What the controls show first: a held-out instance, an attribute, its strength, whether the
    others are held fixed."""
    held, labels = drawn.is_held_out.nonzero().flatten(), drawn.label_names
    label = next((n for n in drawn.domain.labels.words if n in labels), labels[0])
    return int(held[min(5, len(held) - 1)]), label, 1.0, True


# ---- symmetry ------------------------------------------------------------------------------


def symmetry(
    domain: Domain, representation: str, seed: float | None, gauge: str = GAUGES[0]
) -> tuple[Any, Any, str]:
    """Re-gauges a fitted instance: the picture stays, raw factors move, canonical ones stay."""
    drawn = weight_map(domain.name)
    adapter = Adapter(domain.base[0], AdapterConfig(representation, 8, 0))
    # A masked instance is also one without a mask: some entries of A happen to be zero.
    weights = drawn.weights(len(drawn) - 1)[None]
    turned = regauge_by(adapter, weights, gauge, int(seed or 0))
    instances = [make_instance(domain, adapter, w[0]) for w in (weights, turned)]
    shown = decode(instances)
    picture, turned_picture = (domain.picture(x, SIDE) for x in shown)
    pixels = [np.asarray(domain.picture(x, domain.side(x))).astype(int) for x in shown]
    difference = int(np.abs(pixels[0] - pixels[1]).max())
    raw = _apart(weights, turned)
    canonical = _apart(canonicalise(adapter, weights), canonicalise(adapter, turned))
    words = (
        f"Largest difference of a pixel: **{difference}** of 255. Raw factors moved by"
        f" **{raw:.1%}** of their length, canonical factors by **{canonical:.2%}**."
    )
    return picture, turned_picture, words


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm())


def build_edit(maps: Sequence[WeightMap], hand: Hand, opening: Mapping[str, Any]) -> gr.File:
    """Lays out the tab of the directions of maps of one kind inside the current Blocks; returns
    where an instance is dropped."""
    drawn = maps[0]
    domain = drawn.domain
    gr.Markdown(
        f"Directions of {domain.labels.many} in weight space, from the training {domain.many}: the"
        f" change of the weights between {domain.many} without and with the {domain.labels.one}."
        " Held apart from the others, or as the plain difference of means."
    )
    labels = list(drawn.label_names)
    first, label, much, is_apart = first_choices(drawn)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            before, after = two_pictures(opening, "Before", "After", "edited")
            words = gr.Markdown(opening.get("words", ""), elem_id="edit-said")
            file = hand.row(value=opening.get("file"), label="Download the edited instance")
        with gr.Column(scale=2, min_width=280):
            dropped = gr.File(
                label=f"A {domain.one} (.safetensors)",
                file_types=[".safetensors"], height=170, elem_id="edit-drop",
            )  # fmt: skip
            held = drawn.is_held_out.nonzero().flatten()
            number = gr.Slider(
                int(held[0]), int(held[-1]), first, step=1,
                label=f"or held-out {domain.one} number",
            )  # fmt: skip
            attribute = gr.Dropdown(
                labels, value=label, label=domain.labels.one.capitalize(), elem_id="edit-what"
            )
            strength = gr.Slider(-3, 3, much, step=0.1, label="Strength", elem_id="edit-strength")
            debiased = gr.Checkbox(is_apart, label="Hold the other attributes fixed")
            go = gr.Button("Edit", variant="primary", elem_id="edit-go")
    handler = guarded(partial(edit, maps))
    inputs = [dropped, number, attribute, strength, debiased]
    outputs = [before, after, words, file]
    for component in inputs:
        event = component.change if component is dropped else component.input
        event(handler, inputs, outputs, api_visibility="private", show_progress="hidden", **QUICK)
    go.click(handler, inputs, outputs, api_name=f"edit_{domain.one}", **QUICK)
    return dropped


def two_pictures(
    opening: Mapping[str, Any], first: str, second: str, second_id: str
) -> tuple[gr.Image, gr.Image]:
    """Two pictures side by side, under these labels, with what was recorded as before and after."""
    with gr.Row():
        return tuple(
            gr.Image(
                opening.get(part), label=label, interactive=False, height=SIDE, format="png",
                buttons=[], elem_id=own_id, min_width=160,
            )
            for part, label, own_id in (("before", first, None), ("after", second, second_id))
        )  # fmt: skip


def build_symmetry(domain: Domain, opening: Mapping[str, Any]) -> None:
    """Lays out the tab of symmetries inside the current Blocks."""
    gr.Markdown(
        "Many factors describe one picture: (B R, R⁻¹ A) for any invertible R, also one that only"
        " reorders the ranks, scales them or turns their signs. A mask leaves scale and sign, and"
        " the canonical form removes those too."
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            before, after = two_pictures(opening, "As fitted", "After R", "regauged")
            words = gr.Markdown(opening.get("words", ""), elem_id="symmetry-said")
        with gr.Column(scale=1, min_width=260):
            kind = gr.Radio(["mlora-asym", "mlora"], value="mlora-asym", label="Weights")
            gauge = gr.Radio(
                list(GAUGES), value=GAUGES[0], label="Change", elem_id="symmetry-gauge"
            )
            seed = gr.Number(1, label="Seed of R", precision=0)
            go = gr.Button("Re-gauge", variant="primary", elem_id="symmetry-go")
    go.click(
        guarded(partial(symmetry, domain)), [kind, seed, gauge], [before, after, words],
        api_visibility="private", **QUICK,
    )  # fmt: skip
