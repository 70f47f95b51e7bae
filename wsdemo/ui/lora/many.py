"""Sub-tab: many files at once, a row each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_BATCH
from wsdemo.lol.predictor.answers import ask
from wsdemo.lora.reading import Reading, read
from wsdemo.ui.lora import prediction_html
from wsdemo.ui.lora.prediction import Own, predictors_of
from wsdemo.ui.lora.readings import settings
from wsdemo.ui.shared.events import BATCH, download_file, guarded_stream

HEEDS_CONFIG = {"PEFT", "AdaLoRA", "MLX"}
"""Of the families that a file's name for itself lists (a DoRA is "DoRA + PEFT", or "+ kohya"),
those whose scale is in adapter_config.json."""
PASSPORT = ("family", "base", "modules", "ranks", "norm", "exact", "predictor", "reason")
"""Columns of a batch between the file's name and the predictions."""
WIDTHS = ["210px", "130px", "170px", "110px", "90px", "90px", "70px", "120px", "300px"]
"""Of the name and of those."""


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0][:240]


def _read(path: Path, config: dict[str, Any] | None) -> Reading:
    """A file of a batch, with the batch's configuration if its format heeds one."""
    reading = read(path)
    if config is None or not HEEDS_CONFIG & set(reading.lora.family.split(" + ")):
        return reading
    return read(path, config)  # it holds the scale


def batch_settings(paths: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """The LoRAs of a batch, and the one adapter_config.json among them, if any.

    Raises:
        WsdemoError: There are several, or it is none.
    """
    configs = [p for p in paths if p.endswith(".json")]
    if len(configs) > 1:
        raise WsdemoError(
            "Which configuration?",
            f"Found {len(configs)} .json files; one serves all PEFT files of a batch.",
            "Drop LoRAs with one and the same adapter_config.json at a time.",
        )
    loras = [p for p in paths if p not in configs]
    return loras, settings(configs[0] if configs else None)


def batch_row(path: Path, own: Own = (), config: dict[str, Any] | None = None) -> dict[str, Any]:
    """One file of a batch: its passport in a few cells, then predictions, or why there are none.

    Args:
        path: The file.
        own: The visitor's own predictors.
        config: PEFT's adapter_config.json, which files of other programs do not heed.

    Raises:
        WsdemoError: It is refused.
    """
    reading = _read(path, config)
    lora = reading.lora
    row: dict[str, Any] = {
        "family": lora.family,
        "base": lora.base.name[:80],
        "modules": len(lora.modules),
        "ranks": ", ".join(f"{r} ({n})" if len(lora.ranks) > 1 else f"{r}"
                           for r, n in lora.ranks.items()),
        "norm": float(f"{reading.geometry.frobenius:.4g}"),
        "exact": "yes" if lora.is_exact else "no",
    }  # fmt: skip
    found = ask(reading, predictors_of(own))[0]
    # Of an unknown family the list of known ones is left out; else the last sentence says what
    # the visitor can do.
    reason = found.reason[:400] if found.predictor else _first_sentence(found.reason)
    row |= {"predictor": found.predictor or "none", "reason": reason}
    for p in found.predictions:
        value = p.probability if p.probability is not None else p.value
        name = prediction_html.shown(p.name)
        row[f"predicted {name}" if name in row else name] = round(value, 4)
    return row


@guarded_stream
def batch(paths: list[str] | None, own: Own = ()) -> Iterator[tuple[Any, Any, str]]:
    """Many files → a table of passports and predictions; a refused one is a row that says why."""
    paths, config = batch_settings(paths or [])
    if not paths:
        yield gr.Dataframe(visible=False), gr.DownloadButton(visible=False), ""
        return
    if len(paths) > MAX_BATCH:
        raise WsdemoError(
            "Too many files",
            f"Found {len(paths)}; at most {MAX_BATCH} at once.",
            "Use the command line: python -m wsdemo inspect FILE --json",
        )
    rows = []
    for i, path in enumerate(paths, 1):
        yield gr.skip(), gr.skip(), f"Reading {i} of {len(paths)} …"
        row: dict[str, Any] = {"file": Path(path).name[:100]} | dict.fromkeys(PASSPORT, "")
        try:
            row |= batch_row(Path(path), own, config)
        except WsdemoError as error:
            said = f"{error.title}: {_first_sentence(error.message)}"
            row |= {"family": "not read", "reason": said}
        rows.append(row)
    table = pd.DataFrame(rows).astype(object).fillna("")
    csv = download_file(table.to_csv(index=False).encode(), "loras.csv")
    read = sum(1 for r in rows if r["family"] != "not read")
    answered = sum(1 for r in rows if not r["reason"])
    said = f"{read} of {len(rows)} read, {answered} predicted; the reason says why not."
    widths = [*WIDTHS, *["140px"] * (len(table.columns) - len(WIDTHS))]
    shown = gr.Dataframe(table, column_widths=widths, visible=True)
    yield shown, gr.DownloadButton(value=csv, visible=True), said


def build(own: gr.State) -> None:
    """Lays out the sub-tab."""
    files = gr.File(
        label="LoRAs (.safetensors); of PEFT, one adapter_config.json for all",
        file_count="multiple", file_types=[".safetensors", ".json"], height=130,
        elem_id="lora-batch",
    )  # fmt: skip
    counted = gr.Markdown()
    table = gr.Dataframe(
        label="Passports and predictions",
        interactive=False,
        visible=False,
        max_height=420,
        wrap=True,
        elem_id="batch-table",
    )
    csv = gr.DownloadButton("Download as CSV", visible=False)
    files.change(batch, [files, own], [table, csv, counted], api_name="predict_many", **BATCH)
