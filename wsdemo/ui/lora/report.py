"""Sub-tab Report: what a dropped LoRA is at the top; below, where it acts, and all else."""

import html
import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.lora.base_model import origin_of
from wsdemo.lora.geometry import findings
from wsdemo.lora.passport import module_rows, passport
from wsdemo.lora.programs.peft import NO_CONFIG
from wsdemo.lora.reading import Reading
from wsdemo.ui.lora.convert import TITLES
from wsdemo.ui.lora.network import network_html
from wsdemo.ui.lora.readings import reading_of
from wsdemo.ui.shared.events import READING, download_file, guarded
from wsdemo.ui.shared.text import text_of

SHOWN_IGNORED = 12
SHOWN_BLOCKS = 3
MEASURED = ["module", "shape", "rank", "norm", "largest σ", "effective rank", "99.9 % rank",
            "dead ranks"]  # fmt: skip
ONLY_IN_FILES = ["energy kept", "how read"]
"""Columns of the downloaded table that a screen has no room for."""
WIDTHS = ["420px", "130px", "70px", "100px", "100px", "130px", "110px", "100px"]
EMPTY = "<div class='wd-card'><p>Nothing dropped yet.</p></div>"


def ranks_text(reading: Reading) -> str:
    """The ranks, with how many modules have each where they differ."""
    ranks = reading.lora.ranks
    return ", ".join(f"{r} ({n})" if len(ranks) > 1 else f"{r}" for r, n in ranks.items())


def card_html(reading: Reading) -> str:
    """The answer in a few lines: what it is, for which base, how much of it is needed."""
    lora, geometry = reading.lora, reading.geometry
    facts = passport(lora, geometry)
    candidates = facts["base_model"]["candidates"]
    base = candidates[0] if len(candidates) == 1 else lora.base.name or "Unclear base:"
    title = f"{base} LoRA, rank {ranks_text(reading)}, {len(lora.modules):,} modules"
    rows = [("Format", lora.family + ("" if lora.kind == "additive" else ", multiplicative"))]
    evidence = "; ".join(f"{source} says {name}" for source, name in lora.base.evidence)
    fits = " or ".join(candidates[:3])
    rows.append(("Base model", evidence or fits or "no evidence in the file"))
    if lora.base.disagreement:
        rows.append(("Disagreement", lora.base.disagreement))
    rows.append(("Loads in", loads_text(facts["loads_in"])))
    rows.append(("Strength", strength_text(facts)))
    rows.append(("Rank enough", enough_text(reading)))
    if triggers := facts["training"]["trigger_phrases"]:
        rows.append(("Trigger words", ", ".join(map(str, triggers))))
    rows.append(("Read exactly", "yes" if lora.is_exact else "no: see the notes below"))
    listed = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text[:400])}</dd></div>"
        for name, text in rows
    )
    return f"<div class='wd-card'><h2>{html.escape(title[:200])}</h2><dl>{listed}</dl></div>"


def loads_text(loads: Mapping[str, Mapping[str, Any]]) -> str:
    """Where it loads, at which strength, what it needs there, and where it does not."""
    programs, waiting = [], []
    for program, facts in loads.items():
        name = (TITLES | {"vllm": "vLLM"}).get(program, program)
        if facts["why"] == NO_CONFIG:
            waiting.append(name)
        elif not facts["ok"]:
            programs.append(
                f"{name} no ({facts['lost']:,} keys lost)" if facts["lost"] else f"{name} no"
            )
        elif abs(facts["strength"] - 1) > 1e-3:
            programs.append(f"{name} at {facts['strength']:.3g} times its strength")
        else:
            programs.append(f"{name} yes")
    if waiting:
        programs.insert(0, f"{', '.join(waiting)} with its adapter_config.json")
    return "; ".join(programs)


def strength_text(facts: Mapping[str, Any]) -> str:
    """How strong it is, in a word, and by what measure."""
    if facts["no_op"]:
        return "none: every update is zero"
    strength = facts["strength"]
    return (
        f"{strength['band']}: a weight changes by {strength['rms']:.2g} in the root mean square"
        f" ({strength['bands_from']})"
    )


def enough_text(reading: Reading) -> str:
    """The rank that would do, and what it would save."""
    lora, geometry = reading.lora, reading.geometry
    sizes = [len(module.U) + len(module.V) for module in lora.modules]
    measured = list(zip(geometry.modules, sizes, strict=True))
    saved = sum((m.rank - m.energy_rank) * size for m, size in measured)
    held = sum(m.rank * size for m, size in measured)
    share = saved / held if held else 0.0
    if geometry.energy_rank == 0:
        return "none: there is no update to hold"
    if share < 0.005:
        return f"all {geometry.energy_rank} are needed to hold 99.9 % of every module"
    return f"{geometry.energy_rank} holds 99.9 % of every module: {share:.0%} fewer numbers"


def passport_text(reading: Reading) -> str:
    """The passport as Markdown."""
    lora, geometry = reading.lora, reading.geometry
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
        ("Rank", ranks_text(reading)),
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
        settings = "; ".join(
            f"{k.removeprefix('ss_')}: {text_of(v)}" for k, v in lora.trainer.items()
        )
        rows.append(("By its trainer", settings))
    parts = ["| What | Value |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)]
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


def table(reading: Reading) -> Any:
    """The geometry, one row a module, for sorting; and how each module was read."""
    rows = [
        (m.name, "x".join(map(str, m.shape)), m.rank, m.frobenius, m.spectral,
         m.effective_rank, m.energy_rank, m.dead_ranks, read.kept, read.note)
        for m, read in zip(reading.geometry.modules, reading.lora.modules, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=MEASURED + ONLY_IN_FILES).round(4)


@guarded
def inspect(path: str | None, config: str | None = None) -> tuple[Any, ...]:
    """Card, passport, network and table of a dropped file, and the tables as files."""
    if path is None:
        return EMPTY, "", "", gr.Dataframe(visible=False), None, None
    reading = reading_of(path, config)
    rows = table(reading)
    facts = passport(reading.lora, reading.geometry)
    facts["modules_detail"] = module_rows(reading.lora, reading.geometry)
    return (
        card_html(reading),
        passport_text(reading),
        network_html(reading.geometry),
        gr.Dataframe(rows[MEASURED], visible=True),
        download_file(rows.to_csv(index=False).encode(), "geometry.csv"),
        download_file(json.dumps(facts, indent=1).encode(), "geometry.json"),
    )


def build_facts(
    file: gr.File, given: gr.State, config: gr.File, card: gr.HTML, opening: Mapping[str, Any]
) -> None:
    """Lays out what lies below the answer and wires it, and the card, to the dropped file, whose
    path ``given`` holds."""
    gr.Markdown("## Where in the network it acts")
    network = gr.HTML(opening.get("network"), elem_id="network")
    with gr.Accordion("Passport: all that the file says, and how it was read", open=True):
        words = gr.Markdown(opening.get("words"), elem_id="passport")
    with gr.Accordion("Geometry of every module", open=False):
        rows = gr.Dataframe(
            opening.get("rows"),
            headers=MEASURED,
            column_widths=WIDTHS,
            label="Geometry of every module",
            interactive=False,
            max_height=420,
            elem_id="geometry",
            visible=bool(opening),  # a table without rows is no table to a screen reader
        )
        with gr.Row():
            csv = gr.DownloadButton("Download as CSV", value=opening.get("csv"))
            facts = gr.DownloadButton("Download as JSON", value=opening.get("json"))
    outputs = [card, words, network, rows, csv, facts]
    given.change(inspect, [file, config], outputs, api_name="inspect_lora", **READING)
    config.change(inspect, [file, config], outputs, api_visibility="private", **READING)
