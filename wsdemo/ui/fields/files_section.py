"""In the tab Fit: an instance file is decoded; two are walked between."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.domains.domain import Domain
from wsdemo.domains.instances import between, decode_one, domain_of, open_instance
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps.walk import walk
from wsdemo.maps.weight_map import editable_maps
from wsdemo.ui.fields import options
from wsdemo.ui.fields.show import describe, endpoint, file_bytes, files_of, losses
from wsdemo.ui.shared.events import COMPUTE, QUICK, guarded
from wsdemo.ui.shared.hand import Hand

SIDE = 256
COLOURS = {"to the first": "#3b5bdb", "to the second": "#e8590c"}


def open_file(kind: str, path: str | None, detail: Mapping[str, Any]) -> tuple[Any, str, Any]:
    """Decodes an instance file that a visitor dropped: what it shows, its facts, its files."""
    if path is None:
        return None, "", gr.File(visible=False)
    instance = open_instance(Path(path), kind)
    domain = domain_of(instance)
    shown = decode_one(instance, **domain.chosen(domain.detail, detail))
    files: Any = gr.File(visible=False)
    if domain.viewer:
        files = gr.File(files_of(instance, shown, domain.one), visible=True)
    facts = describe(instance, Path(path).stat().st_size) + losses(instance, shown)
    return file_bytes(instance, shown, domain.one), facts, files


def _ends(kind: str, a: str | None, b: str | None) -> tuple[Instance, Instance] | None:
    if a is None or b is None:
        return None
    return open_instance(Path(a), kind), open_instance(Path(b), kind)


def blend(kind: str, a: str | None, b: str | None, share: float) -> Any:
    """A point of the straight path between two instances, as a picture."""
    ends = _ends(kind, a, b)
    if ends is None:
        return None
    domain = domain_of(ends[0])
    return domain.picture(decode_one(between(*ends, share), **domain.quick), SIDE)


def barrier(kind: str, a: str | None, b: str | None) -> Any:
    """How far what is shown along the path is from both ends."""
    ends = _ends(kind, a, b)
    if ends is None:
        raise WsdemoError(
            "Two files are needed", "One end of the walk is empty.", "Drop an instance there."
        )
    rows = []
    for step in walk(*ends):
        for end, words in (("to_first", "to the first"), ("to_second", "to the second")):
            rows.append((step.share, step.measured.get(end, float("nan")), words))
    return pd.DataFrame(rows, columns=["share", "distance", "end"])


def build(family: Sequence[Domain], last: gr.State, hand: Hand) -> gr.File:
    """Lays out the section for domains of one kind, and returns where a file is dropped; ``last``
    is the last fit's file."""
    domain = family[0]
    kind = domain.kind
    can_edit = kind in {m.domain.kind for m in editable_maps()}
    with gr.Row():
        with gr.Column():
            gr.Markdown(f"## Open a {domain.one}'s instance file")
            viewer = options.shown_component(domain, "Decoded", 360, elem_id="decoded")
            detail = options.controls(domain.detail)
            dropped = gr.File(
                label="Instance (.safetensors)", file_types=[".safetensors"], height=170,
                elem_id=f"{domain.one}-instance" if domain.viewer else "instance",
            )  # fmt: skip
            without = ("large",) if can_edit else ("large", "edit")
            hand.row(dropped, without)
            facts = gr.Markdown(elem_classes="wd-facts")
            files = options.files_component(domain)
        with gr.Column():
            a, b, share, mixed, measure, path = _walk_parts(domain, dropped, last)

    @guarded
    def open_one(values: dict[str, Any]) -> tuple[Any, str, Any]:
        return open_file(kind, values.pop("path"), values)

    @guarded
    def blend_two(values: dict[str, Any]) -> Any:
        return blend(kind, values["a"], values["b"], values["share"])

    @guarded
    def measure_two(values: dict[str, Any]) -> Any:
        return barrier(kind, values["a"], values["b"])

    inputs = {"path": dropped, **detail}
    opening: dict[str, Any] = {
        "fn": options.called(open_one, list(inputs)), "inputs": list(inputs.values()),
        "outputs": [viewer, facts, files],
    }  # fmt: skip
    event = dropped.change
    if domain.viewer:
        event = dropped.change(
            lambda: (None, "", gr.File(visible=False)), None,
            opening["outputs"], api_visibility="private",
        ).then  # fmt: skip
    event(**opening, **endpoint(domain, "decode", f"decode_{domain.one}"), **QUICK)
    for component in detail.values():
        component.input(**opening, api_visibility="private", **QUICK)
    mix: dict[str, Any] = {
        "fn": options.called(blend_two, ["a", "b", "share"]), "inputs": [a, b, share],
        "outputs": mixed, "show_progress": "hidden",
    }  # fmt: skip
    share.change(
        **mix, **endpoint(domain, "blend", f"blend_{domain.many}"), trigger_mode="always_last",
        **QUICK,
    )  # fmt: skip
    for end in (a, b):  # what was mixed and measured of other ends goes first
        end.change(lambda: (None, None), None, [mixed, path], api_visibility="private").then(
            **mix, api_visibility="private", **QUICK
        )
    measure.click(
        options.called(measure_two, ["a", "b"]), [a, b], path,
        **endpoint(domain, "walk", f"walk_{domain.many}"), **COMPUTE,
    )  # fmt: skip
    return dropped


def _walk_parts(domain: Domain, dropped: gr.File, last: gr.State) -> tuple[Any, ...]:
    """Lays out the walk: both ends, the share, what is there, and what is measured on the way."""
    gr.Markdown(f"## Walk from one {domain.one} to another, through weight space")
    with gr.Row():
        a = gr.File(label="From (.safetensors)", file_types=[".safetensors"], height=170)
        b = gr.File(label="To (.safetensors)", file_types=[".safetensors"], height=170)
    with gr.Row():
        use_a = gr.Button("From the opened one, or my fit", size="sm")
        use_b = gr.Button("To the opened one, or my fit", size="sm")
    for button, slot in ((use_a, a), (use_b, b)):
        button.click(
            lambda path, fitted: path or fitted, [dropped, last], slot, api_visibility="private"
        )
    share = gr.Slider(0, 1, 0.5, step=0.02, label=f"Share of the second {domain.one}")
    mixed = gr.Image(
        label="Blend", interactive=False, height=280, format="png",
        buttons=["download", "fullscreen"],
    )  # fmt: skip
    measure = gr.Button("Measure along the path", size="sm")
    loss = domain.walking.loss
    path = gr.LinePlot(
        x="share", y="distance", color="end", height=240,
        color_map=COLOURS,  # named in the label: narrow screens show no legend
        label=f"{loss[0].upper()}{loss[1:]}, to the first end (blue) and the second (orange)",
    )  # fmt: skip
    return a, b, share, mixed, measure, path
