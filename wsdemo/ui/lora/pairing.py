"""Sub-tab Compare and merge: two LoRAs of one base side by side, and their weighted sum."""

import math
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.errors import WsdemoError
from wsdemo.lora.comparison import compare
from wsdemo.lora.geometry import measure
from wsdemo.lora.merging import merge
from wsdemo.lora.modules import Lora
from wsdemo.lora.writing import save_lora
from wsdemo.ui.lora.convert import doubts
from wsdemo.ui.lora.readings import reading_of
from wsdemo.ui.shared.events import READING, download_file, guarded

MERGED_ENERGY = 0.99999
"""Ranks that hold this share of a merged update are kept."""
COMPARED = ["module", "cosine", "outputs (cos of angles)", "inputs (cos of angles)"]


def _both(a: str | None, b: str | None) -> tuple[Lora, Lora]:
    if a is None or b is None:
        raise WsdemoError("Two files are needed", "One of them is missing.", "Drop two LoRAs.")
    return reading_of(a).whole(), reading_of(b).whole()


@guarded
def both(a: str | None, b: str | None) -> tuple[str, Any]:
    """How alike two LoRAs are."""
    first, second = _both(a, b)
    likeness = compare(first, second)
    size = f"the second is {likeness.ratio:.3g} times as large"
    if not math.isfinite(likeness.ratio):
        size = "the first changes nothing"
    text = (
        f"Cosine of the two updates **{likeness.cosine:.4f}** over {len(likeness.modules):,}"
        f" shared modules; {size}. Only in the first: "
        f"{len(likeness.only_first):,}; only in the second: {len(likeness.only_second):,}."
        f" {likeness.ancestry}{doubts(first.warnings, second.warnings)}"
    )
    rows = [(m.name, m.cosine, m.output_angle, m.input_angle) for m in likeness.modules]
    return text, gr.Dataframe(pd.DataFrame(rows, columns=COMPARED).round(4), visible=True)


@guarded
def combine(
    a: str | None, b: str | None, first: float, second: float, style: str
) -> tuple[Any, str]:
    """A weighted sum of two updates, as files for other programs."""
    loras = _both(a, b)
    merged = merge(loras, [first, second], MERGED_ENERGY)
    name = "adapter_model.safetensors" if style == "peft" else "merged.safetensors"
    place = Path(download_file(b"", name))
    size = save_lora(merged, place, style)
    shared = sum(len(lora.modules) for lora in loras) - len(merged.modules)
    files = sorted(str(p) for p in place.parent.iterdir())
    text = (
        f"{first:g} · first + {second:g} · second: {len(merged.modules):,} modules, {shared:,}"
        f" of them in both, of rank up to"
        f" {max(merged.ranks)}, ‖ΔW‖ {measure(merged).frobenius:.4g}, {size:,} bytes in float32."
        f"{doubts(*(lora.warnings for lora in loras))}"
    )
    return gr.File(files, visible=True), text


def build() -> None:
    """Lays out the sub-tab."""
    with gr.Row():
        first = gr.File(label="First", file_types=[".safetensors"], height=170)
        second = gr.File(label="Second", file_types=[".safetensors"], height=170)
    with gr.Row(visible=False) as actions:  # once both are there
        against = gr.Button("Compare")
        first_weight = gr.Slider(-2, 2, 1, step=0.05, label="First times")
        second_weight = gr.Slider(-2, 2, 1, step=0.05, label="Second times")
        style = gr.Radio([("kohya", "kohya"), ("PEFT", "peft")], value="kohya", label="Written for")
        together = gr.Button("Merge", elem_id="merge")
    merged = gr.File(label="Merged", interactive=False, visible=False, file_count="multiple")
    verdict = gr.Markdown(elem_id="compared")
    angles = gr.Dataframe(
        headers=COMPARED,
        label="Module by module",
        interactive=False,
        max_height=360,
        visible=False,
    )
    for slot in (first, second):
        slot.change(
            lambda a, b: gr.Row(visible=a is not None and b is not None), [first, second], actions,
            api_visibility="private", show_progress="hidden", queue=False,
        )  # fmt: skip
    together.click(
        combine, [first, second, first_weight, second_weight, style], [merged, verdict],
        api_name="merge_loras", **READING,
    )  # fmt: skip
    against.click(both, [first, second], [verdict, angles], api_name="compare_loras", **READING)
