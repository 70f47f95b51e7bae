"""Section of the LoRA evaluator: what the predictors say of the dropped file."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from safetensors.torch import save_file

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.pairs import Pairs, pack
from wsdemo.lol.predictor.answers import answer, ask, model_index
from wsdemo.lol.predictor.files import load_predictor
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lol.predictor.shipped import hub_predictor, shipped_predictors
from wsdemo.lora.geometry import read_and_measure
from wsdemo.lora.modules import Lora
from wsdemo.lora.reader import read_lora
from wsdemo.ui.lora import predict_panel
from wsdemo.ui.lora.hub_row import given_token, token_field
from wsdemo.ui.shared.events import QUICK, download_file, guarded, guarded_stream
from wsdemo.ui.shared.text import text_of

EXAMPLES = "lora-examples"
MAX_BATCH = 200
"""LoRAs of one batch drop."""
PASSPORT = ("family", "base", "modules", "ranks", "norm", "exact", "predictor", "reason")
"""Columns of a batch between the file's name and the predictions."""
WIDTHS = ["210px", "130px", "170px", "110px", "90px", "90px", "70px", "120px", "300px"]
"""Of the name and of those."""


@cache
def _example_list() -> list[dict[str, Any]]:
    path = DIRECTORY / f"{EXAMPLES}.safetensors"
    return list(load_checkpoint(path)[1]["loras"]) if path.is_file() else []


def example_choices() -> list[tuple[str, str]]:
    """(title, index) of the shipped test LoRAs that the page offers."""
    return [(entry["title"], str(i)) for i, entry in enumerate(_example_list()) if "title" in entry]


def example_file(index: str | None) -> Any:
    """A shipped test LoRA as a file, as if it had been dropped."""
    if not index:
        return None
    entry = _example_list()[int(index)]
    tensors, _ = load_checkpoint(DIRECTORY / f"{EXAMPLES}.safetensors")
    own = {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{int(index)}/")}
    place = Path(download_file(b"", f"example-{int(index)}.safetensors"))
    save_file(own, place, metadata=entry["metadata"])
    return str(place)


def truth(lora: Lora) -> str:
    """The true labels that a shipped example carries in its metadata."""
    for entry in _example_list():
        if entry["metadata"] == lora.metadata and lora.metadata:
            known = {k: v for k, v in entry["labels"].items() if not isinstance(v, str)}
            said = ", ".join(f"{predict_panel.shown(k)} {v:g}" for k, v in known.items())
            return f"True labels of this example: {said}."
    return ""


Own = tuple[Predictor, ...] | None
"""A visitor's own predictors, asked before the shipped ones."""


def _predictors(own: Own) -> tuple[Predictor, ...]:
    return (*(own or ()), *shipped_predictors())


@guarded
def use_predictor(
    text: str | None, path: str | None, token: str | None, login: gr.OAuthToken | None = None
) -> tuple[Own, str]:
    """A predictor from a dropped file or the Hub → the visitor's own, and what it knows.

    ``login`` is filled in by gradio from its type, as in hub_row.
    """
    if path is None and not (text or "").strip():
        return (), "Only the shipped predictors are asked."
    if path is not None and (text or "").strip():
        raise WsdemoError(
            "Which one?", "A file and a name are given.", "Empty one of the two fields."
        )
    if path is not None:
        predictor = load_predictor(Path(path))
    else:  # never a path of the server's
        predictor = hub_predictor((text or "").strip(), given_token(token, login))
    labels = ", ".join(predict_panel.shown(label) for _, label in labels_of(predictor))
    told = f"Asked first from now on: {text_of(predictor.title)}, which predicts {labels}"
    return (predictor,), f"{text_of(told, 600)}."


def _asked(own: Own, read: Any) -> tuple[Lora, Predictor, Pairs]:
    lora = read()
    found, predictor = ask(lora, _predictors(own))
    if predictor is None:
        raise WsdemoError("No prediction", found.reason, "See the section above.")
    return lora, predictor, pack(lora, predictor.signature)


def labels_of(predictor: Predictor) -> list[tuple[str, str]]:
    """(shown, label) choices of a predictor."""
    return [(predict_panel.shown(n), n) for m in predictor.tasks.values() for n in m.task.labels]


def _nothing() -> tuple[Any, ...]:
    """What the section shows below the answer where nothing is predicted."""
    return "", gr.Dropdown(visible=False), "", "", gr.Row(visible=False), "", ""


def predict_file(lora: Lora, own: Own = ()) -> tuple[Any, ...]:
    """Answer, choice of labels, model-index, visibility of the rest, and no gauge exhibit yet."""
    found, predictor = ask(lora, _predictors(own))
    text = predict_panel.predictions_html(found)
    if predictor is None:
        return text, *_nothing()
    choices = labels_of(predictor)
    pairs = pack(lora, predictor.signature)
    headline = next(iter(predictor.tasks.values())).task.headline
    first = headline[0] if headline else choices[0][1]
    return (
        text,
        truth(lora),
        gr.Dropdown(choices=choices, value=first, visible=True),
        predict_panel.evidence_html(predictor, pairs, first),
        predict_panel.doses_html(predictor, pairs, first),
        gr.Row(visible=True),
        model_index("my-lora", found.predictions),
        "",
    )


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0][:240]


def settings(config: str | None) -> dict[str, Any] | None:
    """The adapter_config.json that a visitor dropped, if any.

    Raises:
        WsdemoError: It is none.
    """
    if config is None:
        return None
    try:
        found = json.loads(Path(config).read_text(encoding="utf-8")[: 2**20])
    except (ValueError, RecursionError) as error:
        raise WsdemoError(
            "Not a configuration",
            f"adapter_config.json is no JSON ({type(error).__name__}).",
            "Take it from the adapter's folder.",
        ) from error
    if not isinstance(found, dict):
        raise WsdemoError("Not a configuration", "It is no JSON object.", "Take PEFT's own.")
    return found


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
    lora, geometry = read_and_measure(path)
    if lora.family != "PEFT":
        config = None
    if config is not None:  # it holds the scale
        lora, geometry = read_and_measure(path, config)
    row: dict[str, Any] = {
        "family": lora.family,
        "base": lora.base.name[:80],
        "modules": len(lora.modules),
        "ranks": ", ".join(f"{r} ({n})" if len(lora.ranks) > 1 else f"{r}"
                           for r, n in lora.ranks.items()),
        "norm": float(f"{geometry.frobenius:.4g}"),
        "exact": "yes" if lora.is_exact else "no",
    }  # fmt: skip
    if any(p.matches(lora) for p in _predictors(own)):
        lora = read_lora(path, config)  # until here only shapes were kept
    found = answer(lora, _predictors(own))
    # Of an unknown family the list of known ones is left out; else the last sentence says what
    # the visitor can do.
    reason = found.reason[:400] if found.predictor else _first_sentence(found.reason)
    row |= {"predictor": found.predictor or "none", "reason": reason}
    for p in found.predictions:
        value = p.probability if p.probability is not None else p.value
        name = predict_panel.shown(p.name)
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


def build(file: gr.File, config: gr.File, opened: Any) -> None:
    """Lays out the section and wires it to the dropped file.

    Args:
        file, config: What was dropped.
        opened: (path, config path) → Lora; raises WsdemoError.
    """
    gr.Markdown("## What its weights say")
    known = "; ".join(p.title for p in shipped_predictors())
    gr.Markdown(
        f"Predicted by learning on LoRAs, without running anything. Families known here: {known}."
        " Of every other LoRA nothing is predicted, and that is said."
    )
    own = gr.State(())
    with gr.Accordion("A predictor of your own (wsdemo lol train)", open=False):
        reference = gr.Textbox(
            label="from the Hub: owner/name", max_length=600, elem_id="predictor-reference"
        )
        token = token_field()
        dropped = gr.File(
            label="or its file, predictor.safetensors", file_types=[".safetensors"], height=110,
            elem_id="predictor-file",
        )  # fmt: skip
        use = gr.Button("Use it", elem_id="predictor-use")
        using = gr.Markdown(elem_id="predictor-status")
    verdict = gr.HTML(elem_id="prediction")
    true = gr.Markdown()
    label = gr.Dropdown(choices=[], label="Explain", visible=False, elem_id="explain")
    with gr.Row(visible=False) as more:
        with gr.Column():
            gr.Markdown("### Which modules decide")
            evidence = gr.HTML()
            gr.Markdown("### The same update from other factors")
            gauge_seed = gr.Number(1, label="Seed of R", precision=0)
            gauge = gr.Button("Re-gauge and predict again")
            exhibit = gr.HTML(elem_id="gauge")
        with gr.Column():
            gr.Markdown("### Weaker, stronger, lower rank")
            doses = gr.HTML()
            with gr.Accordion("For the model card (marked as predicted)", open=False):
                card = gr.Code(language="yaml", label="model-index", interactive=False)
    with gr.Accordion("Many files at once", open=False):
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

    outputs = [verdict, true, label, evidence, doses, more, card, exhibit]

    @guarded
    def predict(path: str | None, settings: str | None, mine: Own) -> tuple[Any, ...]:
        if path is None:
            return "", *_nothing()
        return predict_file(opened(path, settings), mine)

    @guarded
    def explain(
        path: str | None, settings: str | None, mine: Own, name: str | None
    ) -> tuple[str, str]:
        if path is None or not name:
            return "", ""
        _, predictor, pairs = _asked(mine, lambda: opened(path, settings))
        return (
            predict_panel.evidence_html(predictor, pairs, name),
            predict_panel.doses_html(predictor, pairs, name),
        )

    @guarded
    def turn(path: str | None, settings: str | None, mine: Own, seed: float | None) -> str:
        lora, predictor, _ = _asked(mine, lambda: opened(path, settings))
        return predict_panel.gauge_html(predictor, lora, int(seed or 0))

    private: dict[str, Any] = {"api_visibility": "private", **QUICK}
    asked = [file, config, own]
    file.change(predict, asked, outputs, api_name="predict_lora", **QUICK)
    config.change(predict, asked, outputs, **private)
    gr.on(
        [use.click, reference.submit], use_predictor, [reference, dropped, token], [own, using],
        **private,
    ).success(predict, asked, outputs, **private)  # fmt: skip
    label.input(explain, [*asked, label], [evidence, doses], **private)
    gauge.click(turn, [*asked, gauge_seed], exhibit, **private)
    files.change(batch, [files, own], [table, csv, counted], api_name="predict_many", **QUICK)
