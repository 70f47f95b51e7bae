"""Tab LoRA evaluator: drop a file, read its passport, geometry and predictions, compare two."""

import html
import json
import math
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.errors import WsdemoError
from wsdemo.lora.arithmetic import merge, regauge, resize, save_lora
from wsdemo.lora.base_model import origin_of
from wsdemo.lora.comparison import compare
from wsdemo.lora.geometry import Geometry, findings, measure, read_and_measure
from wsdemo.lora.modules import Lora
from wsdemo.lora.passport import module_rows, passport
from wsdemo.lora.reader import read_lora
from wsdemo.ui.lora import hub_row, predict_section
from wsdemo.ui.shared.events import QUICK, download_file, guarded
from wsdemo.ui.shared.text import text_of

INTRO = """Drop the LoRA of any model: kohya, diffusers, PEFT, ComfyUI, LyCORIS (LoHa, LoKr), DoRA,
loralib, MLX, or an mLoRA instance of this app. It is read, checked and measured here, without its
base model: most files in a second or two, the largest in minutes. Pickled files (.pt, .bin, .ckpt)
are not opened, since opening them can run code: `python -m wsdemo convert` turns one into
safetensors safely."""
SHOWN_IGNORED = 12
SHOWN_BLOCKS = 3
MERGED_ENERGY = 0.99999
"""Ranks that hold this share of a merged update are kept."""
SHOWN_NAME = 34
"""Characters of a module's name in a table."""
MEASURED = ["module", "shape", "rank", "norm", "largest σ", "effective rank", "99.9 % rank",
            "dead ranks"]  # fmt: skip
ONLY_IN_FILES = ["energy kept", "how read"]
"""Columns of the downloaded table that a screen has no room for."""
WIDTHS = ["300px", "130px", "70px", "100px", "100px", "130px", "110px", "100px"]
COMPARED = ["module", "cosine", "outputs (cos of angles)", "inputs (cos of angles)"]


def passport_text(lora: Lora, geometry: Geometry) -> str:
    """The passport as Markdown."""
    ranks = ", ".join(
        f"{r} ({n})" if len(lora.ranks) > 1 else f"{r}" for r, n in lora.ranks.items()
    )
    alphas = ", ".join(f"{a:g}" for a in lora.alphas[:6]) or "none in the file"
    dtypes = ", ".join(f"{d} ({n:,})" for d, n in lora.dtypes.items())
    largest = sorted(geometry.by_block.items(), key=lambda block: -block[1])[:SHOWN_BLOCKS]
    rows = [
        *([("From the Hub", text_of(" ".join(origin.values())))]
          if (origin := origin_of(lora.config)) else []),
        ("Format", lora.family + ("" if lora.kind == "additive" else ", multiplicative")),
        ("Base model", text_of(lora.base.name) or "no evidence in the file"),
        *[(f"· by {text_of(s)}", text_of(t)) for s, t in lora.base.evidence],
        ("Modules", f"{len(lora.modules):,}"),
        ("Rank", ranks),
        ("α", alphas),
        ("Precision", dtypes),
        ("Size of the update, ‖ΔW‖", f"{geometry.frobenius:.4g}"),
        ("Rank that holds 99.9 %", f"{geometry.energy_rank}"),
        *([("DoRA magnitudes", "{:.4g} to {:.4g}".format(*lora.magnitudes))]
          if lora.magnitudes else []),
        ("Largest blocks, ‖ΔW‖", ", ".join(f"{text_of(b)} {n:.4g}" for b, n in largest)),
        ("Energy by depth (thirds)", " / ".join(f"{s:.0%}" for s in geometry.by_depth)),
        ("Tensors", f"{lora.used_keys:,} used, {len(lora.ignored):,} ignored"),
        ("Read exactly", "yes" if lora.is_exact else "no, see below"),
    ]  # fmt: skip
    if lora.trainer:
        own = "; ".join(f"{k.removeprefix('ss_')}: {text_of(v)}" for k, v in lora.trainer.items())
        rows.append(("By its trainer", own))
    parts = ["| | |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)]
    notes = [*lora.warnings, *findings(lora, geometry)]
    if lora.base.disagreement:
        notes.insert(0, f"The sources disagree on the base: {lora.base.disagreement}.")
    if notes:
        parts.append("\n".join(f"- {text_of(note, 400)}" for note in notes))
    if lora.ignored:
        listed = [f"- {text_of(i.key)}: {i.why}" for i in lora.ignored[:SHOWN_IGNORED]]
        more = len(lora.ignored) - SHOWN_IGNORED
        if more > 0:
            listed.append(f"- and {more:,} more")
        parts.append("Ignored:\n\n" + "\n".join(listed))
    return "\n\n".join(parts)


def strip(geometry: Geometry) -> str:
    """A heat strip over the network: one bar a module, as dark as its update is large."""
    largest = max((m.frobenius for m in geometry.modules), default=0.0) or 1.0
    width = 1000 / max(1, len(geometry.modules))
    bars = [
        f'<rect x="{i * width:.2f}" width="{width + 0.2:.2f}" height="36" fill="#312e81"'
        f' fill-opacity="{0.04 + 0.96 * m.frobenius / largest:.3f}"><title>'
        f"{html.escape(m.name[:120])}: {m.frobenius:.4g}</title></rect>"
        for i, m in enumerate(geometry.modules)
    ]
    label = f"Size of the update in each of {len(geometry.modules)} modules, in order of name"
    return (
        f'<svg viewBox="0 0 1000 36" width="100%" height="36" preserveAspectRatio="none" role="img"'
        f' aria-label="{label}"><rect width="1000" height="36" fill="#eef2ff"/>'
        f"{''.join(bars)}</svg>"
    )


def short(name: str) -> str:
    """A module's name from its end, which tells modules apart."""
    return name if len(name) <= SHOWN_NAME else "…" + name[1 - SHOWN_NAME :]


def table(lora: Lora, geometry: Geometry) -> Any:
    """The geometry, one row a module, for sorting; and how each module was read."""
    rows = [
        (m.name, "x".join(map(str, m.shape)), m.rank, m.frobenius, m.spectral,
         m.effective_rank, m.energy_rank, m.dead_ranks, own.kept, own.note)
        for m, own in zip(geometry.modules, lora.modules, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=MEASURED + ONLY_IN_FILES).round(4)


def opened(path: str | None, config: str | None = None) -> Lora:
    """The LoRA that a visitor dropped, with adapter_config.json if that was dropped too."""
    if path is None:
        raise WsdemoError("No file", "There is nothing to read yet.", "Drop a .safetensors file.")
    return read_lora(Path(path), predict_section.settings(config))


@guarded
def inspect(path: str | None, config: str | None) -> tuple[Any, ...]:
    """Passport, heat strip and table of a dropped file, and the tables as files."""
    if path is None:
        return "", "", gr.Dataframe(visible=False), None, None
    lora, geometry = read_and_measure(Path(path), predict_section.settings(config))
    rows = table(lora, geometry)
    csv = rows.to_csv(index=False).encode()
    facts = passport(lora, geometry)
    facts["modules_detail"] = module_rows(lora, geometry)
    shown = rows[MEASURED].assign(module=rows["module"].map(short))
    return (
        passport_text(lora, geometry),
        strip(geometry),
        gr.Dataframe(shown, visible=True),
        download_file(csv, "geometry.csv"),
        download_file(json.dumps(facts, indent=1).encode(), "geometry.json"),
    )


@guarded
def shrink(path: str | None, config: str | None, energy: float) -> tuple[Any, str]:
    """The same update from fewer ranks, as a kohya-style file."""
    lora = opened(path, config)
    smaller, kept = resize(lora, energy / 100)
    file = _written(smaller, "resized.safetensors")
    before, after = Path(str(path)).stat().st_size, Path(file).stat().st_size
    text = (
        f"Keeps {kept:.3%} of the update's energy. Largest rank {max(lora.ranks)} → "
        f"{max(smaller.ranks)}; {before:,} → {after:,} bytes in float32.{_doubts(lora)}"
    )
    return gr.File(file, visible=True), text


def _doubts(*loras: Lora) -> str:
    """What was lost or assumed in reading, if anything, for the end of a text."""
    texts = dict.fromkeys(w for lora in loras for w in lora.warnings)
    return f" Note: {text_of(' '.join(texts), 600)}" if texts else ""


def _written(lora: Lora, name: str) -> str:
    place = Path(download_file(b"", name))
    # PEFT's names are the only ones that embeddings have.
    save_lora(lora, place, "peft" if any(m.is_embedding for m in lora.modules) else "kohya")
    return str(place)


@guarded
def turn(path: str | None, config: str | None, seed: float | None) -> tuple[Any, str]:
    """Re-gauges by a random R: other factors, the same update."""
    lora = opened(path, config)
    turned = regauge(lora, int(seed or 0))
    before, after = measure(lora).frobenius, measure(turned).frobenius
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


@guarded
def both(a: str | None, b: str | None) -> tuple[str, Any]:
    """How alike two LoRAs are."""
    if a is None or b is None:
        raise WsdemoError("Two files are needed", "One of them is missing.", "Drop two LoRAs.")
    found = compare(read_lora(Path(a)), read_lora(Path(b)))
    size = f"the second is {found.ratio:.3g} times as large"
    if not math.isfinite(found.ratio):
        size = "the first changes nothing"
    text = (
        f"Cosine of the two updates **{found.cosine:.4f}** over {len(found.modules):,} shared "
        f"modules; {size}. Only in the first: "
        f"{len(found.only_first):,}; only in the second: {len(found.only_second):,}."
        f" {found.ancestry}"
    )
    rows = [(short(m.name), m.cosine, m.output_angle, m.input_angle) for m in found.modules]
    return text, gr.Dataframe(pd.DataFrame(rows, columns=COMPARED).round(4), visible=True)


@guarded
def combine(
    a: str | None, b: str | None, first: float, second: float, style: str
) -> tuple[Any, str]:
    """A weighted sum of two updates, as files for other programs."""
    if a is None or b is None:
        raise WsdemoError("Two files are needed", "One of them is missing.", "Drop two LoRAs.")
    loras = [read_lora(Path(a)), read_lora(Path(b))]
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
        f"{_doubts(*loras)}"
    )
    return gr.File(files, visible=True), text


def build() -> None:
    """Lays out the tab inside the current Blocks."""
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            file = gr.File(
                label="LoRA (.safetensors)", file_types=[".safetensors"], height=130, elem_id="lora"
            )
            config = gr.File(
                label="adapter_config.json (PEFT only: it holds the scale)",
                file_types=[".json"],
                height=100,
            )
            choices = predict_section.example_choices()
            example = gr.Dropdown(
                choices=choices, value=None, label="or an example, held out from training",
                visible=bool(choices), elem_id="lora-example",
            )  # fmt: skip
            hub_row.build(file, config)
            words = gr.Markdown("Nothing dropped yet.", elem_id="passport")
        with gr.Column(scale=3, min_width=400):
            gr.Markdown("## Where in the network it acts")
            heat = gr.HTML()
            rows = gr.Dataframe(
                headers=MEASURED,
                column_widths=WIDTHS,
                label="Geometry of every module",
                interactive=False,
                max_height=420,
                elem_id="geometry",
                visible=False,  # a table without rows is no table to a screen reader
            )
            with gr.Row():
                csv = gr.DownloadButton("Download as CSV")
                facts = gr.DownloadButton("Download as JSON")
            with gr.Row():
                with gr.Column():
                    energy = gr.Slider(50, 100, 99.9, step=0.1, label="Energy to keep (%)")
                    smaller = gr.Button("Resize")
                    resized = gr.File(label="Resized", interactive=False, visible=False)
                    said = gr.Markdown()
                with gr.Column():
                    seed = gr.Number(1, label="Seed of R", precision=0)
                    gauge = gr.Button("Re-gauge by a random R")
                    turned = gr.File(label="Re-gauged", interactive=False, visible=False)
                    told = gr.Markdown()
    predict_section.build(file, config, opened)
    gr.Markdown("## Compare or merge two LoRAs of the same base")
    with gr.Row():
        first = gr.File(label="First", file_types=[".safetensors"], height=110)
        second = gr.File(label="Second", file_types=[".safetensors"], height=110)
    against = gr.Button("Compare")
    with gr.Row():
        one = gr.Slider(-2, 2, 1, step=0.05, label="First times")
        other = gr.Slider(-2, 2, 1, step=0.05, label="Second times")
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

    example.input(predict_section.example_file, example, file, api_visibility="private", **QUICK)
    outputs = [words, heat, rows, csv, facts]
    file.change(inspect, [file, config], outputs, api_name="inspect_lora", **QUICK)
    config.change(inspect, [file, config], outputs, api_visibility="private", **QUICK)
    smaller.click(shrink, [file, config, energy], [resized, said], api_name="resize_lora", **QUICK)
    gauge.click(turn, [file, config, seed], [turned, told], api_name="regauge_lora", **QUICK)
    together.click(
        combine, [first, second, one, other, style], [merged, verdict], api_name="merge_loras",
        **QUICK,
    )  # fmt: skip
    against.click(both, [first, second], [verdict, angles], api_name="compare_loras", **QUICK)
