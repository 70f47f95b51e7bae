"""Sub-tab Make smaller or convert: the same update in fewer ranks, for another program, or from
other factors."""

from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.lora.arithmetic import Size, regauge, resize
from wsdemo.lora.comparison import compare
from wsdemo.lora.export import PROGRAMS, export
from wsdemo.lora.geometry import measure
from wsdemo.lora.modules import Lora
from wsdemo.lora.writing import Written, write_lora
from wsdemo.ui.lora.readings import reading_of
from wsdemo.ui.shared.events import READING, download_file, guarded
from wsdemo.ui.shared.text import text_of

TITLES = {"comfyui": "ComfyUI", "diffusers": "diffusers", "kohya": "kohya", "peft": "PEFT"}


def doubts(*texts: tuple[str, ...]) -> str:
    """What was lost or assumed, if anything, for the end of a text."""
    once = dict.fromkeys(text for each in texts for text in each)
    return f" Note: {text_of(' '.join(once), 600)}" if once else ""


def _place(program: str = "") -> Path:
    """Where a result is written: a folder of its own, as PEFT's configuration stands beside."""
    name = "adapter_model" if program == "peft" else "lora"
    return Path(download_file(b"", f"{name}.safetensors"))


def _files(place: Path) -> Any:
    return gr.File(sorted(str(p) for p in place.parent.iterdir()), visible=True)


def _size(path: str | None, lora: Lora, written: Written) -> str:
    before = Path(str(path)).stat().st_size
    warnings = doubts(lora.warnings, written.warnings)
    return f"{before:,} → {written.bytes:,} bytes, {written.dtype}.{warnings}"


@guarded
def shrink(path: str | None, config: str | None = None, energy: float = 99.9) -> tuple[Any, str]:
    """The same update from fewer ranks, in the names and the precision of the file."""
    lora = reading_of(path, config).whole()
    smaller, kept = resize(lora, Size(energy / 100))
    place = _place()
    written = write_lora(smaller, place)
    text = (
        f"Keeps {kept:.3%} of the update's energy. Largest rank {max(lora.ranks)} → "
        f"{max(smaller.ranks)}; {_size(path, lora, written)}"
    )
    return _files(place), text


@guarded
def convert(
    path: str | None, config: str | None = None, program: str = PROGRAMS[0]
) -> tuple[Any, str]:
    """The same LoRA under the names of another program."""
    lora = reading_of(path, config).whole()
    place = _place(program)
    written = export(lora, program, place)
    return _files(place), f"Written for {TITLES[program]}: {_size(path, lora, written)}"


@guarded
def turn(path: str | None, config: str | None = None, seed: float | None = 1) -> tuple[Any, str]:
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
    place = _place()
    return _files(place), text + doubts(write_lora(turned, place).warnings)


def build(file: gr.File, given: gr.State, config: gr.File) -> None:
    """Lays out the sub-tab for the file that was dropped, whose path ``given`` holds."""
    gr.Markdown("All three take the LoRA that was dropped above, and keep what they do not change.")
    with gr.Row(visible=file.value is not None) as three:
        with gr.Column(min_width=280):
            gr.Markdown("### Smaller")
            energy = gr.Slider(50, 100, 99.9, step=0.1, label="Energy to keep (%)")
            smaller = gr.Button("Resize")
            resized = _result("Resized")
            smaller_status = gr.Markdown()
        with gr.Column(min_width=280):
            gr.Markdown("### For another program")
            choices = [(TITLES[p], p) for p in PROGRAMS]
            program = gr.Dropdown(choices, value=PROGRAMS[0], label="Written for")
            go = gr.Button("Convert", elem_id="convert")
            converted = _result("Converted")
            converted_status = gr.Markdown()
        with gr.Column(min_width=280):
            gr.Markdown("### The same update, other factors")
            seed = gr.Number(1, label="Seed of R", precision=0)
            gauge = gr.Button("Re-gauge by a random R")
            turned = _result("Re-gauged")
            turned_status = gr.Markdown()
    given.change(
        lambda path: gr.Row(visible=path is not None), given, three,
        api_visibility="private", show_progress="hidden", queue=False,
    )  # fmt: skip
    smaller.click(
        shrink, [file, config, energy], [resized, smaller_status], api_name="resize_lora", **READING
    )
    go.click(
        convert, [file, config, program], [converted, converted_status], api_name="export_lora",
        **READING,
    )  # fmt: skip
    gauge.click(
        turn, [file, config, seed], [turned, turned_status], api_name="regauge_lora", **READING
    )


def _result(label: str) -> gr.File:
    return gr.File(label=label, interactive=False, visible=False, file_count="multiple")
