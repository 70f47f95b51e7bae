"""Tab LoRA evaluator: a LoRA is dropped, chosen or fetched; sub-tabs by what people do with it."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from wsdemo.ui.lora import (
    by_name,
    convert,
    hub_row,
    many,
    own_predictor,
    pairing,
    prediction,
    report,
)
from wsdemo.ui.lora.examples import example_choices, example_file, is_example
from wsdemo.ui.opening.kept import kept
from wsdemo.ui.shared.events import HUB, QUICK, READING
from wsdemo.ui.shared.hand import Hand, Taker, opened

INTRO = """Drop the LoRA of any model: kohya, diffusers, PEFT, ComfyUI, LyCORIS (LoHa, LoKr), DoRA,
loralib, MLX, or an mLoRA instance of this app. It is read, checked and measured here, without its
base model. Pickled files (.pt, .bin, .ckpt) are not opened, since opening them can run code:
`python -m wsdemo convert` turns one into safetensors safely."""


def _taken(path: str | None, example: str | None) -> tuple[str | None, str | None]:
    """The file that is shown, and the example that is named: none while another one is shown."""
    return path, example if path and is_example(path) else None


def _build_source(opening: Mapping[str, Any]) -> tuple[gr.File, gr.State, gr.File]:
    """Where a LoRA comes from: a file, an example, the Hub.

    Returns:
        It, its path, which changes when another is there, and its configuration. What reads it
        listens to the path: a file that was handed over before its area was on screen says at every
        answer of the server that it has changed, which would ask the server again without end.
    """
    given = gr.State(None)
    with gr.Row():
        with gr.Column(min_width=300):
            file = gr.File(  # empty, though a report is shown: a file would leave no place to drop
                label="LoRA (.safetensors, .npz, .gguf)",
                height=170,
                elem_id="lora",
                file_types=[".safetensors", ".npz", ".gguf"],
            )
            choices = example_choices()
            example = gr.Dropdown(
                choices=choices, value=opening.get("example"),
                label="or an example, held out from training",
                visible=bool(choices), elem_id="lora-example",
            )  # fmt: skip
        with gr.Column(min_width=300):
            with gr.Accordion("adapter_config.json (PEFT only: it holds the scale)", open=False):
                config = gr.File(
                    label="adapter_config.json", file_types=[".json"], height=100,
                    elem_id="lora-config",
                )  # fmt: skip
            hub_row.build(file, config)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **QUICK}
    example.input(example_file, example, file, **private)
    file.change(_taken, [file, example], [given, example], **private)
    return file, given, config


def build(hand: Hand) -> None:
    """Lays out the tab inside the current Blocks."""
    opening = kept("lora")
    gr.Markdown(INTRO)
    visitor_predictors = gr.State(())
    file, given, config = _build_source(opening)
    with gr.Tabs() as tabs:
        hand.tabs["lora"] = tabs
        with gr.Tab("Report", id="report"):
            card = gr.HTML(opening.get("card", report.EMPTY), elem_id="card")
            inputs, outputs = prediction.build(file, given, config, visitor_predictors, opening)
            report.build_facts(file, given, config, card, opening)
        with gr.Tab("Compare and merge", id="compare"):
            pairing.build()
        with gr.Tab("Make smaller or convert", id="convert"):
            convert.build(file, given, config)
        with gr.Tab("Many files", id="many"):
            many.build(visitor_predictors)
        with gr.Tab("Your own predictor", id="predictor"):
            chosen = own_predictor.build(visitor_predictors)
    hand.on("read", Taker(
        lambda path, _: opened(page="lora", lora="report") | {"file": path},
        [], {"page": hand.tabs["page"], "lora": tabs, "file": file},
    ))  # fmt: skip
    gr.api(by_name.inspect_hub_lora, api_name="inspect_hub_lora", **HUB)
    chosen.success(prediction.predict, inputs, outputs, api_visibility="private", **READING)
