"""Tab Sample: draw instances of a domain from its weight diffusion model, look closely at one."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wsdemo.domains.domain import Domain, Shown
from wsdemo.domains.instances import (
    decode_one,
    drawn_instance,
    make_instance,
    preview,
    previews,
)
from wsdemo.domains.models import diffusion_of, examples_of, nearest_training
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.limits import MAX_SEED
from wsdemo.ui.fields import options
from wsdemo.ui.fields.denoising import denoised
from wsdemo.ui.fields.show import blank, endpoint, file_bytes, files_of
from wsdemo.ui.shared.events import (
    QUICK,
    download_file,
    drawing,
    guarded,
    guarded_stream,
    stop_button,
)

ANY = "any"
THUMBNAIL = 192
Drawn = tuple[str, NDArray[np.float32], float]
"""What the gallery shows: the domain's name, (n, D) weights, the temperature they were drawn at."""


def thumbnail(domain: Domain, shown: Shown | None) -> Image.Image:
    """A picture for the gallery; an empty one where nothing is shown yet."""
    draw = domain.portrait or domain.picture
    return blank(THUMBNAIL) if shown is None else draw(shown, THUMBNAIL)


def drawn_instances(domain: Domain, weights: torch.Tensor, heat: float) -> list[Instance]:
    """(n, D) drawn weights as instances."""
    adapter = diffusion_of(domain).adapter
    return [drawn_instance(domain, adapter, one, heat) for one in weights]


def wishes_of(domain: Domain, values: Mapping[str, Any]) -> dict[str, bool]:
    """What a visitor wishes of the labels."""
    if domain.labels.are_exclusive:
        wish = values.get(domain.labels.one, ANY)
        known = wish != ANY and len(diffusion_of(domain).attribute_names) > 0
        return {wish: True} if known else {}
    wanted, unwanted = values["wanted"], values["unwanted"]
    both = sorted(set(wanted) & set(unwanted))
    if both:
        raise WsdemoError(
            "Contradiction",
            f"{', '.join(domain.labels.words.get(b, b) for b in both)} is wanted and unwanted.",
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
    started, shown_at, moment = time.monotonic(), 0.0, None
    wishes = wishes_of(domain, values)
    asked = (int(count), int(seed), int(values["steps"]), values["guidance"], wishes, heat)
    for moment in denoised(domain, asked):
        if moment.step == moment.steps:
            break
        text = f"Step {moment.step} of {moment.steps}: denoising weights."
        due = time.monotonic() - shown_at > 0.35 + 0.05 * count
        if domain.batch > 1 and due:  # all pictures at once take no time worth speaking of
            instances = drawn_instances(domain, moment.instances, heat)
            pictures = [thumbnail(domain, one) for one in previews(instances)]
            yield pictures, text, (domain.name, moment.instances.numpy(), heat)
            shown_at = time.monotonic()
        elif domain.batch == 1 and moment.step % 10 == 0:
            yield gr.skip(), text, gr.skip()
    assert moment is not None
    pictures = []
    for one in previews(drawn_instances(domain, moment.instances, heat)):
        pictures.append(thumbnail(domain, one))
        drawn: Drawn = (domain.name, moment.instances[: len(pictures)].numpy(), heat)
        if domain.batch == 1:
            yield pictures, f"{len(pictures)} of {count:.0f} {domain.many} decoded.", drawn
    text = (
        f"{len(pictures)} {domain.many}, seed {int(seed)}, {time.monotonic() - started:.1f} s. "
        "Select one to see it closely."
    )
    yield pictures, text, drawn


def inspect(
    family: Sequence[Domain], drawn: Drawn | None, index: int | None, detail: Mapping[str, Any]
) -> tuple[Any, ...]:
    """A chosen instance: what it shows, from all around, its nearest training instance, the words
    for both, its file, and files of what it shows."""
    if drawn is None or index is None or index >= len(drawn[1]):
        one = family[0].one
        raise WsdemoError(
            f"No {one} chosen", f"There is no such {one}.", "Draw first, then select one."
        )
    domain = named(family, drawn[0])
    adapter = diffusion_of(domain).adapter
    own = torch.from_numpy(drawn[1][index])
    instance = drawn_instance(domain, adapter, own, drawn[2])
    detail = domain.chosen(domain.detail, detail)
    shown = decode_one(instance, **detail)
    files = files_of(instance, shown, domain.one)
    near = nearest_training(domain, own, adapter)
    text = (
        f"**{domain.one.capitalize()} {index + 1}** · {adapter.weight_count:,} weights, rank "
        f"{adapter.config.rank} {adapter.config.representation}.\n\nNearest training {domain.one} "
        f"in weight space: {near.name}, distance {near.distance:.1f}. {near.percentile:.0f} % of "
        f"unseen real {domain.many} lie closer to one than this one does; a copy would be at 0 %."
    )
    return (
        file_bytes(instance, shown, domain.one),
        None if domain.turntable is None else domain.turntable(shown),
        thumbnail(domain, preview(make_instance(domain, adapter, near.weights))),
        text,
        download_file(instance.to_bytes(), f"{domain.one}.safetensors"),
        files,
    )


def named(family: Sequence[Domain], name: str | None) -> Domain:
    """The one of a family by its name or title; the first by default."""
    if name is None:
        return family[0]
    for domain in family:
        if name in (domain.name, domain.title):
            return domain
    known = ", ".join(domain.title for domain in family)
    raise WsdemoError("Unknown model", f"Found {name[:40]!r}; expected {known}.", "Choose one.")


def examples(domain: Domain) -> tuple[Drawn, list[Image.Image]]:
    """The shipped samples and their pictures: what is on screen before the first click."""
    weights, stored = examples_of(domain)
    heat = domain.temperature
    if stored is not None:
        pictures = [Image.fromarray(p) for p in stored.numpy()]
    else:
        drawn = drawn_instances(domain, weights, heat)
        pictures = [thumbnail(domain, one) for one in previews(drawn)]
    return (domain.name, weights.numpy(), heat), pictures


def build(family: Sequence[Domain]) -> None:
    """Lays out the tab inside the current Blocks, for domains of one kind."""
    domain = family[0]
    shipped, pictures = examples(domain)
    drawn, chosen = gr.State(shipped), gr.State(None)
    gr.Markdown(domain.intro_sample)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            controls = _controls(family)
            with gr.Row():
                go = gr.Button(f"Draw {domain.many}", variant="primary")
                stop = gr.Button("Stop")
        with gr.Column(scale=4, min_width=400):
            gallery = gr.Gallery(
                value=pictures,
                label=domain.many.capitalize(),
                show_label=False,  # it would lie on the first of them
                elem_id=domain.many,
                columns=4,
                height=440,
                format="png",
                allow_preview=False,
                interactive=False,
            )
            status = gr.Markdown(
                f"Drawn beforehand; select a {domain.one}, or draw new ones.",
                elem_classes="status",
            )
    with gr.Row(visible=False) as details:
        with gr.Column(scale=3):
            shown = options.shown_component(domain, label="Rendered", height=420)
            around = gr.Image(
                label="From all around", interactive=False, format="png", buttons=["download"],
                visible=domain.turntable is not None,
            )  # fmt: skip
            detail = options.controls(domain.detail)
        with gr.Column(scale=2):
            words = gr.Markdown()
            nearest = gr.Image(
                label=f"Nearest training {domain.one}", buttons=[], elem_id="nearest",
                format="png", interactive=False, height=190,
            )  # fmt: skip
            file = gr.DownloadButton("Download its weights (.safetensors)")
            files = options.files_component(domain)

    def choose(event: gr.SelectData) -> tuple[int, Any]:
        return int(event.index), gr.Row(visible=True)

    @guarded_stream
    def draw_one(values: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
        yield from draw(named(family, values.get("family")), values)

    @guarded
    def look(values: dict[str, Any]) -> tuple[Any, ...]:
        return inspect(family, values.pop("drawn"), values.pop("index"), values)

    run = go.click(lambda: gr.Row(visible=False), None, details, api_visibility="private").then(
        options.streamed(draw_one, list(controls)),
        list(controls.values()),
        [gallery, status, drawn],
        **endpoint(domain, "sample", f"sample_{domain.many}"),
        **drawing(domain.many),
    )
    stop_button(stop, run, status, [gallery, drawn])
    inputs = {"drawn": drawn, "index": chosen, **detail}
    outputs = [shown, around, nearest, words, file, files]
    handler = options.called(look, list(inputs))
    private: dict[str, Any] = {"api_visibility": "private", **QUICK}
    gallery.select(choose, None, [chosen, details], api_visibility="private").then(
        handler, list(inputs.values()), outputs, **private
    )
    for component in detail.values():
        component.input(handler, list(inputs.values()), outputs, **private)


def _controls(family: Sequence[Domain]) -> dict[str, Any]:
    """What may be chosen before drawing, by name, in the order of the endpoint's parameters."""
    domain, made = family[0], dict[str, Any]()
    labels, known = domain.labels, diffusion_of(domain).attribute_names
    if len(family) > 1:
        titles = [d.title for d in family]
        made["family"] = gr.Radio(titles, value=titles[0], label="Model")
    if labels.are_exclusive:
        made[labels.one] = gr.Dropdown([ANY, *known], value=ANY, label=labels.one.capitalize())
    made["count"] = gr.Slider(
        1, min(domain.most, 16), value=8, step=1, label=domain.many.capitalize()
    )
    with gr.Row():
        made["seed"] = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
        dice = gr.Button("New seed", size="sm")
    wishes = dict[str, Any]()
    if not labels.are_exclusive:
        choices = [(labels.words.get(n, n), n) for n in known]
        for name, label in (("wanted", "With"), ("unwanted", "Without")):
            wishes[name] = gr.Dropdown(choices, multiselect=True, label=label, value=[])
    with gr.Accordion("Sampler", open=False):
        made["steps"] = gr.Slider(5, 100, value=30, step=1, label="Denoising steps (DDIM)")
        made["guidance"] = gr.Slider(
            0, 6, value=2, step=0.25, label="Guidance", info="Strength of the wishes above"
        )
        made |= wishes
        made["temperature"] = gr.Slider(
            0, 1.5, value=domain.temperature, step=0.05, label="Temperature",
            info="Below 1: more typical, less various",
        )  # fmt: skip
    dice.click(lambda: random.randrange(10**6), None, made["seed"], api_visibility="private")
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
