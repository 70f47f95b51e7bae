"""Tab LoRA evaluator: a LoRA is dropped, chosen or fetched; sub-tabs by what people do with it."""

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
from wsdemo.ui.lora.examples import example_choices, example_file
from wsdemo.ui.shared.events import HUB, QUICK, READING

INTRO = """Drop the LoRA of any model: kohya, diffusers, PEFT, ComfyUI, LyCORIS (LoHa, LoKr), DoRA,
loralib, MLX, or an mLoRA instance of this app. It is read, checked and measured here, without its
base model. Pickled files (.pt, .bin, .ckpt) are not opened, since opening them can run code:
`python -m wsdemo convert` turns one into safetensors safely."""


def _build_source() -> tuple[gr.File, gr.File]:
    """Where a LoRA comes from: a file, an example, the Hub. Returns it and its configuration."""
    with gr.Row():
        with gr.Column(min_width=300):
            file = gr.File(
                label="LoRA (.safetensors, .npz, .gguf)",
                height=130,
                elem_id="lora",
                file_types=[".safetensors", ".npz", ".gguf"],
            )
            choices = example_choices()
            example = gr.Dropdown(
                choices=choices, value=None, label="or an example, held out from training",
                visible=bool(choices), elem_id="lora-example",
            )  # fmt: skip
        with gr.Column(min_width=300):
            with gr.Accordion("adapter_config.json (PEFT only: it holds the scale)", open=False):
                config = gr.File(
                    label="adapter_config.json", file_types=[".json"], height=100,
                    elem_id="lora-config",
                )  # fmt: skip
            hub_row.build(file, config)
    example.input(example_file, example, file, api_visibility="private", **QUICK)
    return file, config


def build() -> None:
    """Lays out the tab inside the current Blocks."""
    gr.Markdown(INTRO)
    own = gr.State(())
    file, config = _build_source()
    with gr.Tab("Report"):
        card = gr.HTML(report.EMPTY, elem_id="card")
        inputs, outputs = prediction.build(file, config, own)
        report.build_facts(file, config, card)
    with gr.Tab("Compare and merge"):
        pairing.build()
    with gr.Tab("Make smaller or convert"):
        convert.build(file, config)
    with gr.Tab("Many files"):
        many.build(own)
    with gr.Tab("Your own predictor"):
        chosen = own_predictor.build(own)
    gr.api(by_name.inspect_hub_lora, api_name="inspect_hub_lora", **HUB)
    chosen.success(prediction.predict, inputs, outputs, api_visibility="private", **READING)
