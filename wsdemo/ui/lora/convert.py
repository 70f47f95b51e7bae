"""Sub-tab Make smaller or convert: files with the same update, from fewer or from other factors."""

from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.lora.arithmetic import regauge, resize
from wsdemo.lora.comparison import compare
from wsdemo.lora.geometry import measure
from wsdemo.lora.modules import Lora
from wsdemo.lora.writing import save_lora
from wsdemo.ui.lora.readings import reading_of
from wsdemo.ui.shared.events import READING, download_file, guarded
from wsdemo.ui.shared.text import text_of


def doubts(*loras: Lora) -> str:
    """What was lost or assumed in reading, if anything, for the end of a text."""
    texts = dict.fromkeys(w for lora in loras for w in lora.warnings)
    return f" Note: {text_of(' '.join(texts), 600)}" if texts else ""


def _written(lora: Lora, name: str) -> str:
    place = Path(download_file(b"", name))
    # PEFT's names are the only ones that embeddings have.
    save_lora(lora, place, "peft" if any(m.is_embedding for m in lora.modules) else "kohya")
    return str(place)


@guarded
def shrink(path: str | None, config: str | None, energy: float) -> tuple[Any, str]:
    """The same update from fewer ranks, as a kohya-style file."""
    lora = reading_of(path, config).whole()
    smaller, kept = resize(lora, energy / 100)
    file = _written(smaller, "resized.safetensors")
    before, after = Path(str(path)).stat().st_size, Path(file).stat().st_size
    text = (
        f"Keeps {kept:.3%} of the update's energy. Largest rank {max(lora.ranks)} → "
        f"{max(smaller.ranks)}; {before:,} → {after:,} bytes in float32.{doubts(lora)}"
    )
    return gr.File(file, visible=True), text


@guarded
def turn(path: str | None, config: str | None, seed: float | None) -> tuple[Any, str]:
    """Re-gauges by a random R: other factors, the same update."""
    reading = reading_of(path, config)
    lora = reading.whole()
    turned = regauge(lora, int(seed or 0))
    before, after = reading.geometry.frobenius, measure(turned).frobenius
    moved = max(
        float((a.U - b.U).abs().max()) for a, b in zip(lora.modules, turned.modules, strict=True)
    )
    text = (
        f"‖ΔW‖ {before:.6g} → {after:.6g}, cosine of the updates "
        f"{compare(lora, turned).cosine:.6f}; factors moved by up to {moved:.3g}."
    )
    if lora.kind != "additive":  # no other program reads multiplicative factors
        return gr.File(visible=False), text
    return gr.File(_written(turned, "regauged.safetensors"), visible=True), text


def build(file: gr.File, config: gr.File) -> None:
    """Lays out the sub-tab for the file that was dropped."""
    gr.Markdown("Both take the LoRA that was dropped above.")
    with gr.Row():
        with gr.Column():
            gr.Markdown("### Smaller")
            energy = gr.Slider(50, 100, 99.9, step=0.1, label="Energy to keep (%)")
            smaller = gr.Button("Resize")
            resized = gr.File(label="Resized", interactive=False, visible=False)
            smaller_told = gr.Markdown()
        with gr.Column():
            gr.Markdown("### The same update, other factors")
            seed = gr.Number(1, label="Seed of R", precision=0)
            gauge = gr.Button("Re-gauge by a random R")
            turned = gr.File(label="Re-gauged", interactive=False, visible=False)
            turned_told = gr.Markdown()
    smaller.click(
        shrink, [file, config, energy], [resized, smaller_told], api_name="resize_lora", **READING
    )
    gauge.click(
        turn, [file, config, seed], [turned, turned_told], api_name="regauge_lora", **READING
    )
