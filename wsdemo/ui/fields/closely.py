"""The half of the tab Sample that shows one instance large, and what can be done with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch
from numpy.typing import NDArray

from wsdemo.domains.domain import Domain
from wsdemo.domains.instances import decode_one, drawn_instance, make_instance, preview
from wsdemo.domains.models import Neighbour, diffusion_of, nearest_training
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps.weight_map import editable_maps
from wsdemo.ui.fields import options
from wsdemo.ui.fields.show import blank, file_bytes, files_of
from wsdemo.ui.shared.events import download_file
from wsdemo.ui.shared.hand import Hand

SIDE = 192
Drawn = tuple[str, NDArray[np.float32], float]
"""What the gallery shows: the domain's name, (n, D) weights, the temperature they were drawn at."""
NOTHING = (None, None, None, "", None, None)
"""What the outputs show while there is nothing."""


@dataclass(frozen=True)
class Closely:
    """The components: what ``inspect`` fills, its detail by name, the button of the neighbour."""

    outputs: list[Any]
    detail: dict[str, Any]
    beside: gr.Button


def named(family: Sequence[Domain], name: str | None) -> Domain:
    """The one of a family by its name or title; the first by default."""
    if name is None:
        return family[0]
    for domain in family:
        if name in (domain.name, domain.title):
            return domain
    known = ", ".join(domain.title for domain in family)
    raise WsdemoError("Unknown model", f"Found {name[:40]!r}; expected {known}.", "Choose one.")


def chosen_one(
    family: Sequence[Domain], drawn: Drawn | None, index: int | None
) -> tuple[Domain, Instance, Neighbour]:
    """What was selected in the gallery, and the training instance nearest to it.

    Raises:
        WsdemoError: There is none of that number.
    """
    if drawn is None or index is None or index >= len(drawn[1]):
        noun = family[0].one
        raise WsdemoError(
            f"No {noun} chosen", f"There is no such {noun}.", "Draw first, then select one."
        )
    domain = named(family, drawn[0])
    adapter = diffusion_of(domain).adapter
    instance = drawn_instance(domain, adapter, torch.from_numpy(drawn[1][index]), drawn[2])
    return domain, instance, nearest_training(domain, instance.weights, adapter)


def _parts(
    domain: Domain, instance: Instance, detail: Mapping[str, Any], name: str
) -> tuple[Any, Any, str, list[str]]:
    """What an instance shows, from all around, its file, and files of what it shows."""
    shown = decode_one(instance, **domain.chosen(domain.detail, detail))
    return (
        file_bytes(instance, shown, domain.one),
        None if domain.turntable is None else domain.turntable(shown),
        download_file(instance.to_bytes(), f"{name}.safetensors"),
        files_of(instance, shown, domain.one),
    )


def inspect(
    family: Sequence[Domain], drawn: Drawn | None, index: int | None, detail: Mapping[str, Any]
) -> tuple[Any, ...]:
    """A chosen instance: what it shows, from all around, its nearest training instance, the words
    for both, its file, and files of what it shows."""
    domain, instance, near = chosen_one(family, drawn, index)
    number = int(index or 0) + 1
    shown, around, file, files = _parts(domain, instance, detail, f"{domain.one}-{number}")
    config = instance.adapter.config
    text = (
        f"**{domain.one.capitalize()} {number}** · {instance.adapter.weight_count:,} weights, rank "
        f"{config.rank} {config.representation}.\n\nNearest training {domain.one} in weight"
        f" space: {near.name}, distance {near.distance:.1f}. {near.percentile:.0f} % of unseen real"
        f" {domain.many} lie closer to one than this one does; a copy would be at 0 %."
    )
    beside = preview(make_instance(domain, instance.adapter, near.weights))
    draw = domain.portrait or domain.picture
    picture = blank(SIDE) if beside is None else draw(beside, SIDE)
    return shown, around, picture, text, file, files


def neighbour(
    family: Sequence[Domain], drawn: Drawn | None, index: int | None, detail: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The training instance nearest to the chosen one, shown in its place."""
    domain, instance, near = chosen_one(family, drawn, index)
    trained = make_instance(domain, instance.adapter, near.weights)
    name = f"{domain.one}-{near.name.rsplit('/', 1)[-1].split('.')[0]}"
    shown, around, file, files = _parts(domain, trained, detail, name)
    text = (
        f"**{near.name}**, the training {domain.one} whose weights lie nearest to"
        f" {domain.one} {int(index or 0) + 1}, at distance {near.distance:.1f}."
    )
    return shown, around, gr.skip(), text, file, files


def build(domain: Domain, hand: Hand, opening: Mapping[str, Any]) -> Closely:
    """Lays it out as a column, with what was recorded for the opening."""
    with gr.Column(scale=3, min_width=320):
        shown = options.shown_component(
            domain, label="Shown large", height=400, value=opening.get("shown")
        )
        around = gr.Image(
            opening.get("around"), label="From all around", interactive=False, format="png",
            buttons=["download"], visible=domain.turntable is not None, elem_classes="wd-still",
        )  # fmt: skip
        can_edit = domain.kind in {m.domain.kind for m in editable_maps()}
        file = hand.row(without=() if can_edit else ("edit",), value=opening.get("file"))
        with gr.Row():
            with gr.Column(scale=3, min_width=180):
                words = gr.Markdown(opening.get("words", ""))
            with gr.Column(scale=2, min_width=140):
                nearest = gr.Image(
                    opening.get("nearest"), label=f"Nearest training {domain.one}", buttons=[],
                    elem_id="nearest", format="png", interactive=False, height=170,
                    show_label=False,  # it would lie on the face; the words beside it name it
                )  # fmt: skip
                beside = gr.Button("Show it instead", size="sm")
        with gr.Accordion("Resolution and files", open=False):
            detail = options.controls(domain.detail)
            files = options.files_component(domain, value=opening.get("files"))
    return Closely([shown, around, nearest, words, file, files], detail, beside)
