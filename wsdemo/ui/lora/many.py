"""Sub-tab Many files: the library of LoRAs, in memory."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.library.duplicates import Group, groups_of
from wsdemo.library.row import COLUMNS, UNSHOWN, Row
from wsdemo.limits import MAX_BATCH, MAX_BATCH_BYTES
from wsdemo.ui.lora import many_view as view
from wsdemo.ui.lora.examples import example_choices, example_file
from wsdemo.ui.lora.hub_row import given_token, token_field
from wsdemo.ui.lora.many_rows import batch_settings, file_row, hub_rows, members, names_of
from wsdemo.ui.lora.prediction import VisitorFiles
from wsdemo.ui.opening.kept import kept
from wsdemo.ui.shared.events import BATCH, READING, guarded, guarded_stream, stop_button

SECONDS = 0.7
"""Between two looks at the table: what a visitor can follow."""
INTRO = f"""Up to {MAX_BATCH} LoRAs at once, a row each: what they are, which of them hold the same,
and which change the network alike. A file that cannot be read is a row that says why. PEFT's files
share one adapter_config.json, dropped with them. For more,
`python -m wsdemo library build FOLDER --out lib/` does the same on disk."""


def _nothing() -> tuple[Any, ...]:
    """What is shown before anything is read."""
    hidden = gr.Column(visible=False), gr.Column(visible=False)
    return gr.Dataframe(visible=False), gr.skip(), "", [], [], *hidden, "", "", *[gr.skip()] * 3


def _meanwhile(rows: Sequence[Row], done: int, total: int, now: str) -> tuple[Any, ...]:
    """The rows so far."""
    bar = view.progress_html(done, total, now)
    table: Any = gr.skip()
    if rows:
        frame = view.narrow(view.frame(rows))
        table = gr.Dataframe(frame, column_widths=view.widths(frame), visible=True)
    return table, gr.skip(), bar, list(rows), *[gr.skip()] * 8


def _finished(rows: list[Row], left_out: int = 0) -> tuple[Any, ...]:
    """All rows, what holds the same, the map, and the files."""
    groups = groups_of(rows)
    whole = view.frame(rows, groups)
    table, summary = view.narrow(whole), view.summary(rows, groups, left_out)
    summary += view.columns_left_out(whole)
    csv, facts, parquet = view.downloads(rows, groups)
    return (
        gr.Dataframe(table, column_widths=view.widths(table), visible=True),
        gr.DownloadButton(value=csv),
        view.progress_html(1, 1, summary) + view.refused_html(rows),
        rows,
        groups,
        gr.Column(visible=True),
        gr.Column(visible=True),
        view.groups_html(rows, groups),
        view.map_html(rows, groups),
        gr.Dropdown(choices=[view.EVERYTHING, *view.bases(rows)], value=view.EVERYTHING),
        gr.DownloadButton(value=facts),
        gr.DownloadButton(value=parquet),
    )


@guarded_stream
def batch(
    paths: list[str] | None, visitor_predictors: VisitorFiles = ()
) -> Iterator[tuple[Any, ...]]:
    """Many files → a table of passports and predictions; a refused one is a row that says why."""
    paths, config = batch_settings(paths or [])
    if not paths:
        yield _nothing()
        return
    if len(paths) > MAX_BATCH:
        raise WsdemoError(
            "Too many files",
            f"Found {len(paths)}; at most {MAX_BATCH} at once.",
            "Use the command line: python -m wsdemo library build FOLDER --out LIBRARY",
        )
    rows: list[Row] = []
    shown = 0.0
    for i, (path, name) in enumerate(zip(paths, names_of(paths), strict=True)):
        is_due = time.monotonic() - shown > SECONDS
        if is_due:
            shown = time.monotonic()
            now = f"Reading {i + 1} of {len(paths)}: {name}"
            yield _meanwhile(rows, i, len(paths), now)
        rows.append(file_row(Path(path), visitor_predictors, config) | {"file": name})
    yield _finished(rows)


@guarded_stream
def from_hub(
    text: str | None,
    token: str | None,
    visitor_predictors: VisitorFiles = (),
    login: gr.OAuthToken | None = None,
) -> Iterator[tuple[Any, ...]]:
    """An owner, a collection or repositories of the Hub → the same table.

    ``login`` is filled in by gradio from its type, as in hub_row.
    """
    yield _meanwhile([], 0, 1, "Asking the Hub …")
    allowed = given_token(token, login)
    named, rows, left_out = members(text or "", allowed)
    for i, member in enumerate(named):
        fetched = sum(row["bytes"] or 0 for row in rows)
        if len(rows) >= MAX_BATCH or fetched > MAX_BATCH_BYTES:
            left_out += len(named) - i
            break
        yield _meanwhile(rows, i, len(named), f"{i + 1} of {len(named)}: {member.name[:120]}")
        rows += hub_rows(member, visitor_predictors, allowed, MAX_BATCH - len(rows))
    yield _finished(rows, left_out)


def finish(rows: list[Row]) -> tuple[Any, ...]:
    """What was read before a visitor stopped."""
    return _finished(rows) if rows else _nothing()


def examples() -> list[str]:
    """The LoRAs that ship, as if they had been dropped."""
    return [str(example_file(index)) for _, index in example_choices()]


def record() -> dict[str, Any]:
    """What the sub-tab opens on: the table of the examples, without their sketches."""
    *_, last = batch(examples())
    _, _, status, rows, groups, _, _, same, drawn, *_ = last
    csv, facts, parquet = map(Path, view.downloads(rows, groups))
    return {
        "status": f"<p>The examples that ship, read beforehand.</p>{status}",
        "same": same, "map": drawn,
        "rows": [{k: row[k] for k in COLUMNS if k not in UNSHOWN} for row in rows],
        "groups": [vars(group) for group in groups],
        "csv": csv, "json": facts, "parquet": parquet,
    }  # fmt: skip


@guarded
def filtered(rows: list[Row], groups: list[Any], base: str, show: str, text: str) -> Any:
    """The rows that the filters let through."""
    table = view.kept(view.narrow(view.frame(rows, groups)), base, show, text or "")
    return gr.Dataframe(table, column_widths=view.widths(table))


def _sources() -> tuple[gr.File, gr.Textbox, gr.Textbox, gr.Button, gr.Button, gr.Button]:
    """Where LoRAs come from: files, the Hub, the examples."""
    with gr.Row():
        with gr.Column(min_width=280):
            files = gr.File(
                label=f"Up to {MAX_BATCH} LoRAs",
                file_count="multiple", file_types=[".safetensors", ".npz", ".gguf", ".json"],
                height=150, elem_id="lora-batch",
            )  # fmt: skip
            tried = gr.Button(
                "Take the examples", visible=bool(example_choices()), elem_id="many-examples"
            )
        with gr.Column(min_width=280):
            names = gr.Textbox(
                label="or from the Hub, one a line: owner, owner/name, collections/owner/slug",
                lines=3, max_length=20_000, elem_id="many-names",
            )  # fmt: skip
            with gr.Accordion("Private or gated repositories", open=False):
                token = token_field()
            with gr.Row():
                ask = gr.Button("Fetch and read all", elem_id="many-ask", scale=2)
                stop = gr.Button("Stop", variant="stop", min_width=80)
    return files, names, token, tried, ask, stop


def _results(opening: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """The table with its filters and what lies below it: (outputs after the files, filters)."""
    rows: list[Row] = opening.get("rows", [])
    groups = [
        Group(g["kind"], tuple(g["files"]), tuple(g["factors"])) for g in opening.get("groups", [])
    ]
    status = gr.HTML(opening.get("status", ""), elem_id="many-progress", min_height=60)
    held, grouped = gr.State(rows), gr.State(groups)
    with gr.Column(visible=bool(rows)) as results, gr.Row():
        base = gr.Dropdown([view.EVERYTHING, *view.bases(rows)], value=view.EVERYTHING,
                           label="Base model", elem_id="many-base", min_width=150)  # fmt: skip
        show = gr.Dropdown(list(view.SHOWS), value=view.EVERYTHING, label="Show",
                           elem_id="many-show", min_width=150)  # fmt: skip
        text = gr.Textbox(label="Containing", max_length=200, elem_id="many-text",
                          min_width=150)  # fmt: skip
    table = view.narrow(view.frame(rows, groups))
    shown = gr.Dataframe(
        table,
        column_widths=view.widths(table),
        label="Passports and predictions; a click on a column's head sorts",
        interactive=False,
        visible=bool(rows),
        max_height=420,
        wrap=True,
        elem_id="batch-table",
    )
    with gr.Column(visible=bool(rows)) as below:
        with gr.Row():
            csv, facts, parquet = (
                gr.DownloadButton(f"Download as {name}", opening.get(name.lower()),
                                  elem_id=f"many-{name.lower()}")
                for name in ("CSV", "JSON", "Parquet")
            )  # fmt: skip
        gr.Markdown("## What holds the same")
        same = gr.HTML(opening.get("same", ""), elem_id="many-groups")
        gr.Markdown("## What they do to the network")
        drawn = gr.HTML(opening.get("map", ""), elem_id="many-map")
    outputs = [shown, csv, status, held, grouped, results, below, same, drawn, base, facts, parquet]
    return outputs, [base, show, text]


def build(visitor_predictors: gr.State) -> None:
    """Lays out the sub-tab, which opens on the table of the examples."""
    gr.Markdown(INTRO)
    files, names, token, tried, ask, stop = _sources()
    outputs, filters = _results(kept("many"))
    table, _, status, held, groups, *_ = outputs
    reading = files.change(
        batch, [files, visitor_predictors], outputs, api_name="predict_many", **BATCH
    )
    asking = ask.click(
        from_hub, [names, token, visitor_predictors], outputs, api_name="predict_from_hub", **BATCH
    )
    tried.click(examples, None, files, api_visibility="private", **READING)
    for run in (reading, asking):
        stopped = stop_button(stop, run, status)
    stopped.then(finish, held, outputs, api_visibility="private", **READING)
    for control in filters:
        control.input(filtered, [held, groups, *filters], table, api_visibility="private",
                      show_progress="hidden", queue=False)  # fmt: skip
