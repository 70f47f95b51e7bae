"""Sub-tab Variations: instances that the diffusion model draws near one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.domains.instances import domain_of, open_instance, preview
from wsdemo.domains.models import diffusion_of
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps.weight_map import editable_maps
from wsdemo.ui.clusters.map_walk import BLANK, NEAR, NOTHING, picture_of
from wsdemo.ui.shared.events import COMPUTE, QUICK, download_file, guarded
from wsdemo.ui.shared.hand import Hand, Taker, opened, words_of
from wsdemo.ui.shared.text import text_of

VARIED = "Drawn by the diffusion model from these weights and some noise"


def variable(path: str | None) -> Instance:
    """The instance that is varied.

    Raises:
        WsdemoError: There is none, or its weights are not of the diffusion model's kind.
    """
    if path is None or not Path(path).is_file():
        raise WsdemoError(
            "Nothing to vary", "No instance is here yet.", "Press Variations beside one."
        )
    instance = open_instance(Path(path))
    domain, config = domain_of(instance), instance.adapter.config
    known = diffusion_of(domain).adapter.config
    if config != known or instance.is_canonical:
        raise WsdemoError(
            "Cannot be varied",
            f"The diffusion model draws {known.representation} of rank {known.rank} (start"
            f" {known.start}), as fitted; this is {config.representation} of rank {config.rank}"
            f" (start {config.start}){', canonical' if instance.is_canonical else ''}.",
            "Fit with the fast preset, or as the training instances were.",
        )
    return instance


@guarded
def variations(path: str | None, strength: float, seed: int) -> tuple[Any, int, list[str]]:
    """Instances that the diffusion model draws from weights and some noise: their pictures,
    another seed for the next time, their files."""
    start = variable(path)
    domain = domain_of(start)
    drawn = diffusion_of(domain).draw(
        NEAR, seed=seed, steps=50, start=start.weights, strength=strength
    )
    tiles, files = [], []
    for number, weights in enumerate(drawn, 1):
        variation = dataclasses.replace(start, weights=weights)
        shown = preview(variation)
        tiles.append((BLANK, NOTHING) if shown is None else (domain.picture(shown, 192), ""))
        name = f"{domain.one}-variation-{seed}-{number}.safetensors"
        files.append(download_file(variation.to_bytes(), name))
    return gr.Gallery(tiles, label=f"{VARIED}, seed {seed}"), seed + 1, files


def build(hand: Hand, opening: Mapping[str, Any]) -> None:
    """Lays out the sub-tab."""
    editable = {drawn.domain.name for drawn in editable_maps()}
    files = gr.State(opening.get("files", []))
    source, seed = gr.State(opening.get("source")), gr.State(2 if opening else 1)
    gr.Markdown("The diffusion model adds noise to the weights of one and takes it away again.")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            tiles = gr.Gallery(
                opening.get("tiles"), label=VARIED, columns=4, height=400, object_fit="contain",
                allow_preview=False, elem_id="varied", buttons=[],
            )  # fmt: skip
            status = gr.Markdown(opening.get("told", ""), elem_classes="status")
            chosen = hand.row(value=opening.get("chosen"))
            edit = hand.button("edit")
        with gr.Column(scale=1, min_width=200):
            of = gr.Image(
                opening.get("of"), label="Of this one", height=200, interactive=False,
                format="png", buttons=[], elem_id="vary-of",
            )  # fmt: skip
            strength = gr.Slider(0.1, 1.0, 0.5, step=0.05, label="Share of the noise's times")
            go = gr.Button("Draw variations", variant="primary", elem_id="vary-go")

    def select(made: list[str], event: gr.SelectData) -> tuple[str, str]:
        return made[event.index], f"Chosen: variation {event.index + 1}."

    def take(path: str, _: Any) -> dict[str, Any]:
        instance = variable(path)
        return {
            **opened(page="clusters", clusters="vary"),
            "source": path, "of": gr.Image(picture_of(instance, 200), label=words_of(path)),
            "edit": gr.Button(visible=domain_of(instance).name in editable), "tiles": [],
            "chosen": None, "told": f"Variations of {text_of(words_of(path))}.",
        }  # fmt: skip

    draw = {
        "fn": variations, "inputs": [source, strength, seed], "outputs": [tiles, seed, files],
        "api_visibility": "private", **COMPUTE,
    }  # fmt: skip
    go.click(**draw)
    tiles.select(select, files, [chosen, status], api_visibility="private", **QUICK)
    outputs = {
        "page": hand.tabs["page"], "clusters": hand.tabs["clusters"], "source": source, "of": of,
        "edit": edit, "tiles": tiles, "chosen": chosen, "told": status,
    }  # fmt: skip
    after = (variations, draw["inputs"], draw["outputs"], COMPUTE)
    hand.on("vary", Taker(take, [], outputs, after))
