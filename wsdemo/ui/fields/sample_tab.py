"""Tab Sample: draw instances of a domain from its weight diffusion model; one of them is shown
large, beside what can be done with it."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
import torch
from PIL import Image

from wsdemo.domains.domain import Domain, Shown
from wsdemo.domains.instances import drawn_instance, previews
from wsdemo.domains.models import diffusion_of, examples_of
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.limits import MAX_SEED
from wsdemo.ui import links
from wsdemo.ui.fields import closely, options
from wsdemo.ui.fields.closely import Drawn, named
from wsdemo.ui.fields.denoising import denoised
from wsdemo.ui.fields.show import blank, endpoint
from wsdemo.ui.opening.kept import kept
from wsdemo.ui.shared.events import (
    QUICK,
    READING,
    drawing,
    guarded,
    guarded_stream,
    stop_button,
)
from wsdemo.ui.shared.hand import Hand

ANY = "any"
AT_ONCE = 300
"""Instances times steps that are done within some tenths of a second: not worth to be watched, and
each look would take as long again."""
THUMBNAIL = 192


def thumbnail(domain: Domain, shown: Shown | None) -> Image.Image:
    """A tile for the gallery, of a shape a strip that turns it; an empty one of nothing yet."""
    if shown is None:
        return blank(THUMBNAIL)
    return domain.picture(shown, THUMBNAIL) if domain.turntable is None else domain.turntable(shown)


def drawn_instances(domain: Domain, weights: torch.Tensor, heat: float) -> list[Instance]:
    """(n, D) drawn weights as instances."""
    adapter = diffusion_of(domain).adapter
    return [drawn_instance(domain, adapter, w, heat) for w in weights]


def wishes_of(domain: Domain, values: Mapping[str, Any]) -> dict[str, bool]:
    """What a visitor wishes of the labels."""
    if domain.labels.are_exclusive:
        wish = values.get(domain.labels.one, ANY)
        known = wish != ANY and len(diffusion_of(domain).attribute_names) > 0
        return {wish: True} if known else {}
    wanted, unwanted = values["wanted"], values["unwanted"]
    contradicted = sorted(set(wanted) & set(unwanted))
    if contradicted:
        words = ", ".join(domain.labels.words.get(label, label) for label in contradicted)
        raise WsdemoError(
            "Contradiction",
            f"{words} is wanted and unwanted.",
            "Remove it from one of the two lists.",
        )
    return dict.fromkeys(wanted, True) | dict.fromkeys(unwanted, False)


def draw(domain: Domain, values: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Streams the gallery, a status line and the weights of what the gallery shows.

    Args:
        domain: Whose model.
        values: count, seed, steps, guidance, temperature, and the wishes: see wishes_of.
    """
    count, seed, heat = values["count"], values["seed"], values["temperature"]
    if count is None or seed is None:
        raise WsdemoError("Number missing", "Count or seed is empty.", "Fill it in.")
    started, due, moment = time.monotonic(), 0.0, None
    wishes = wishes_of(domain, values)
    arguments = (int(count), int(seed), int(values["steps"]), values["guidance"], wishes, heat)
    for moment in denoised(domain, arguments):
        if moment.step == moment.steps:
            break
        text = f"Step {moment.step} of {moment.steps}: denoising weights."
        began = time.monotonic()
        if domain.batch > 1 and began > due and count * moment.steps > AT_ONCE:
            weights = moment.instances
            pictures = [
                thumbnail(domain, signal)
                for signal in previews(drawn_instances(domain, weights, heat))
            ]
            yield pictures, text, (domain.name, weights.numpy(), heat)
            now = time.monotonic()  # looking takes a fifth of the time, also where it takes long
            due = now + max(0.35 + 0.05 * count, 4 * (now - began))
        elif domain.batch == 1 and moment.step % 10 == 0:
            yield gr.skip(), text, gr.skip()
    assert moment is not None
    pictures, weights = [], moment.instances
    for signal in previews(drawn_instances(domain, weights, heat)):
        pictures.append(thumbnail(domain, signal))
        drawn: Drawn = (domain.name, weights[: len(pictures)].numpy(), heat)
        if domain.batch == 1:
            yield pictures, f"{len(pictures)} of {count:.0f} {domain.many} decoded.", drawn
    text = (
        f"{len(pictures)} {domain.many}, seed {int(seed)}, {time.monotonic() - started:.1f} s. "
        "Select one to see it large."
    )
    yield pictures, text, drawn


def examples(domain: Domain) -> tuple[Drawn, list[Image.Image]]:
    """The shipped samples and their pictures: what is on screen before the first click."""
    weights, heat = examples_of(domain), domain.temperature
    drawn = drawn_instances(domain, weights, heat)
    pictures = [thumbnail(domain, signal) for signal in previews(drawn)]
    return (domain.name, weights.numpy(), heat), pictures


def first_drawn(family: Sequence[Domain]) -> Domain:
    """The one of a family that the tab opens on."""
    return next((domain for domain in family if domain.is_drawn_first), family[0])


def build(family: Sequence[Domain], hand: Hand) -> None:
    """Lays out the tab inside the current Blocks, for domains of one kind."""
    domain = first_drawn(family)
    opening = kept(f"sample-{domain.many}")
    shipped = domain.name, examples_of(domain).numpy(), domain.temperature
    tiles = opening["tiles"] if opening else examples(domain)[1]
    drawn, chosen = gr.State(shipped), gr.State(opening.get("index"))
    gr.Markdown(domain.intro_sample)
    with gr.Row(equal_height=False, elem_classes="wd-sample"):
        if domain.viewer:  # a shape to turn around comes first, the tiles after it
            close = closely.build(domain, hand, opening)
        with gr.Column(scale=3, min_width=320, elem_classes="wd-tiles"):
            gallery, status = _tiles(domain, tiles)
            with gr.Row():
                go = gr.Button(f"Draw {domain.many}", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=80)
            with gr.Row(equal_height=False, elem_classes="wd-controls"):
                controls = _controls(family)
        if not domain.viewer:
            close = closely.build(domain, hand, opening)

    @guarded_stream
    def draw_one(values: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
        yield from draw(named(family, values.get("family")), values)

    @guarded
    def look(values: dict[str, Any]) -> tuple[Any, ...]:
        return closely.inspect(family, values.pop("drawn"), values.pop("index"), values)

    @guarded
    def look_beside(values: dict[str, Any]) -> tuple[Any, ...]:
        return closely.neighbour(family, values.pop("drawn"), values.pop("index"), values)

    run = go.click(
        lambda: (None, *closely.NOTHING), None, [chosen, *close.outputs], api_visibility="private"
    ).then(
        options.streamed(draw_one, list(controls)),
        list(controls.values()),
        [gallery, status, drawn],
        **endpoint(domain, "sample", f"sample_{domain.many}"),
        **drawing(domain.many),
    )
    links.remember(run, controls, domain.many)
    stopped = stop_button(stop, run, status, [gallery, drawn])
    inputs = {"drawn": drawn, "index": chosen, **close.detail}
    handler = options.called(look, list(inputs))
    private: dict[str, Any] = {"api_visibility": "private", **(READING if domain.viewer else QUICK)}
    shows: dict[str, Any] = {
        "fn": handler, "inputs": list(inputs.values()), "outputs": close.outputs, **private,
    }  # fmt: skip
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    for event in (run.success, stopped.then):
        event(lambda: 0, None, chosen, **quiet).then(**shows)
    gallery.select(_index, None, chosen, **quiet).then(**shows)
    for component in close.detail.values():
        component.input(**shows)
    close.beside.click(
        options.called(look_beside, list(inputs)), list(inputs.values()), close.outputs, **private
    )


def _index(event: gr.SelectData) -> int:
    return int(event.index)


def _tiles(domain: Domain, pictures: list[Any]) -> tuple[gr.Gallery, gr.Markdown]:
    """The gallery and the line below it."""
    gallery = gr.Gallery(
        value=pictures,
        label=domain.many.capitalize(),
        show_label=False,  # it would lie on the first of them
        elem_id=domain.many,
        elem_classes="wd-turning" if domain.turntable else "",
        object_fit="cover",
        columns=4,
        height=290,
        format="png",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )
    words = f"Drawn beforehand; select a {domain.one}, or draw new ones."
    return gallery, gr.Markdown(words, elem_classes="status")


def _controls(family: Sequence[Domain]) -> dict[str, Any]:
    """What may be chosen before drawing, by name, in the order of the endpoint's parameters."""
    domain, made = first_drawn(family), dict[str, Any]()
    labels, known = domain.labels, diffusion_of(domain).attribute_names
    wishes = dict[str, Any]()
    with gr.Column(min_width=200):
        if len(family) > 1:
            titles = [d.title for d in family]
            made["family"] = gr.Radio(titles, value=domain.title, label="Model")
        if labels.are_exclusive:
            made[labels.one] = gr.Dropdown([ANY, *known], value=ANY, label=labels.one.capitalize())
        else:
            choices = [(labels.words.get(n, n), n) for n in known]
            for name, label in (("wanted", "With"), ("unwanted", "Without")):
                wishes[name] = gr.Dropdown(choices, multiselect=True, label=label, value=[])
    with gr.Column(min_width=200):
        made["count"] = gr.Slider(
            1, min(domain.most, 16), value=8, step=1, label=domain.many.capitalize()
        )
        made["seed"] = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
        dice = gr.Button("New seed", size="sm")
    with gr.Column(min_width=400), gr.Accordion("Sampler", open=False):
        made["steps"] = gr.Slider(5, 100, value=30, step=1, label="Denoising steps (DDIM)")
        made["guidance"] = gr.Slider(
            0, 6, value=domain.guidance, step=0.25, label="Guidance",
            info="Strength of the wishes above",
        )  # fmt: skip
        made |= wishes
        made["temperature"] = gr.Slider(
            0, 1.5, value=domain.temperature, step=0.05, label="Temperature",
            info="Below 1: more typical, less various",
        )  # fmt: skip
    if "family" in made and wishes:  # after what programs have long given in order
        made["family"] = made.pop("family")
    dice.click(lambda: random.randrange(10**6), None, made["seed"], api_visibility="private")
    own = ("guidance", "temperature")
    if any(getattr(other, name) != getattr(domain, name) for other in family for name in own):
        made["family"].input(
            lambda title: [getattr(named(family, title), name) for name in own],
            made["family"], [made[name] for name in own],
            api_visibility="private", show_progress="hidden", queue=False,
        )  # fmt: skip
    if len(family) > 1 and labels.are_exclusive:

        def offer(title: str) -> Any:
            return _offer(family, title)

        made["family"].change(
            offer, made["family"], made[labels.one],
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
    return made


def _offer(family: Sequence[Domain], title: str) -> Any:
    """The dropdown of labels, if the chosen model knows any."""
    known = diffusion_of(named(family, title)).attribute_names
    return gr.Dropdown([ANY, *known], value=ANY, visible=bool(known))
