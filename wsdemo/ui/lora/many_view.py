"""How many LoRAs are shown: table, groups, map, progress, files to take away."""

import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from wsdemo.library.duplicates import Group, alike
from wsdemo.library.query import FEWEST, Sketches, places
from wsdemo.library.row import COLUMNS, UNSHOWN, Row
from wsdemo.library.table import part_bytes
from wsdemo.ui.lora.prediction_html import shown
from wsdemo.ui.shared.events import download_file

PASSPORT = ("family", "base", "modules", "ranks", "norm", "exact", "group", "predictor", "reason")
"""Columns of the table between the file's name and the predictions."""
WIDTHS = ["190px", "105px", "140px", "90px", "80px", "85px", "75px", "140px", "110px", "300px"]
"""Of the name and of those."""
NOT_READ = "not read"
EVERYTHING = "all"
SHOWS = (EVERYTHING, "read", NOT_READ, "predicted", "in a group")
SENTENCES = {
    "same file": "The same file",
    "same update": "The same update, in other factors, names or precision",
    "rescaled": "The same update at another strength",
    "shrunk": "Cut to lower rank from the first",
    "merge": "The first is a merge of the others",
}
COLOURS = ("#6366f1", "#b45309", "#047857", "#e11d48", "#0284c7", "#a855f7", "#4d7c0f", "#64748b")
"""Of the bases on the map, the commonest first; each is 3 to 1 and more on white and on slate."""
MOST_ALIKE = 20
MOST_PREDICTED = 6
"""Columns: a face has 40 attributes, and nobody reads a table of 80 columns."""
SHOWN_REFUSED = 5
RADIUS = 9
"""Of a dot, of a map 600 wide."""


# ---- the table ---------------------------------------------------------------------------


def first_sentence(text: str) -> str:
    """Of a reason; the rest says the same of every file."""
    return text.partition(". ")[0][:240]


def group_names(groups: Sequence[Group]) -> dict[str, str]:
    """File → the groups that it is in, by number and kind."""
    by_file: dict[str, list[str]] = {}
    for number, group in enumerate(groups, 1):
        for file in group.files:
            by_file.setdefault(file, []).append(f"{number}: {group.kind}")
    return {file: "; ".join(texts) for file, texts in by_file.items()}


def cells(row: Row, group: str = "") -> dict[str, Any]:
    """A row as the table shows it: its passport, then predictions, or why there are none."""
    by_column: dict[str, Any] = {"file": row["file"]} | dict.fromkeys(PASSPORT, "")
    if row["error"]:
        title, _, why = str(row["error"]).partition(": ")
        reason = f"{title}: {first_sentence(why)}"
        return by_column | {"family": NOT_READ, "group": group, "reason": reason}
    ranks = json.loads(row["ranks"])
    # Of an unknown family the list of known ones is left out; else the last sentence says what
    # the visitor can do.
    reason = str(row["reason"] or "")
    by_column |= {
        "family": row["family"],
        "base": str(row["base"])[:80],
        "modules": row["modules"],
        "ranks": ", ".join(f"{r} ({n})" if len(ranks) > 1 else f"{r}" for r, n in ranks.items()),
        "norm": float(f"{row['norm']:.4g}"),
        "exact": "yes" if row["exact"] else "no",
        "group": group,
        "predictor": row["predictor"] or "none",
        "reason": reason[:400] if row["predictor"] else first_sentence(reason),
    }
    for name, value in (row["predictions"] or {}).items():
        label = shown(name)
        by_column[f"predicted {label}" if label in by_column else label] = round(value, 4)
    return by_column


def frame(rows: Sequence[Row], groups: Sequence[Group] = ()) -> pd.DataFrame:
    """The table of all rows."""
    names = group_names(groups)
    table = [cells(row, names.get(str(row["file"]), "")) for row in rows]
    columns = ["file", *PASSPORT] if not table else None
    return pd.DataFrame(table, columns=columns).astype(object).fillna("")


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """The same with the MOST_PREDICTED columns of predictions that most rows have."""
    first = 1 + len(PASSPORT)
    predicted = list(table.columns[first:])
    often = sorted(predicted, key=lambda name: -int((table[name] != "").sum()))[:MOST_PREDICTED]
    return table[[*table.columns[:first], *(name for name in predicted if name in often)]]


def columns_left_out(table: pd.DataFrame) -> str:
    """What ``narrow`` leaves to the files, in a sentence; nothing if that is nothing."""
    count = len(table.columns) - len(narrow(table).columns)
    return f" {count} more predicted labels are in the files below." if count else ""


def widths(table: pd.DataFrame) -> list[str]:
    """The widths of a table's columns, as CSS has them."""
    return [*WIDTHS, *["140px"] * (len(table.columns) - len(WIDTHS))]


def kept(table: pd.DataFrame, base: str, show: str, text: str) -> pd.DataFrame:
    """The rows that the filters let through."""
    if base and base != EVERYTHING:
        table = table[table["base"] == base]
    if show == "read":
        table = table[table["family"] != NOT_READ]
    elif show == NOT_READ:
        table = table[table["family"] == NOT_READ]
    elif show == "predicted":
        table = table[~table["predictor"].isin(["", "none"]) & (table["reason"] == "")]
    elif show == "in a group":
        table = table[table["group"] != ""]
    if text.strip():
        has = table[["file", "family", "base", "reason"]].apply(
            lambda column: column.astype(str).str.contains(text.strip(), case=False, regex=False)
        )
        table = table[has.any(axis=1)]
    return table


def bases(rows: Sequence[Row]) -> list[str]:
    """The base models of the rows, the commonest first."""
    return [
        name for name, _ in Counter(str(r["base"])[:80] for r in rows if r["base"]).most_common()
    ]


# ---- what lies below it --------------------------------------------------------------------


def progress_html(done: int, total: int, now: str = "") -> str:
    """A bar and a sentence; the sentence alone when all is done."""
    sentence = html.escape(now)
    if done >= total:
        return f"<p role='status'>{sentence}</p>"
    return (
        f"<progress class='wd-progress' max='{total}' value='{done}' aria-label='Files read'>"
        f"</progress><p role='status'>{sentence}</p>"
    )


def refused_html(rows: Sequence[Row]) -> str:
    """What was not read, and why, where a narrow table would hide it."""
    refused = [row for row in rows if row["error"]]
    listed = "".join(
        f"<li>{html.escape(str(row['file']))}: {html.escape(str(row['error']))}</li>"
        for row in refused[:SHOWN_REFUSED]
    )
    more = len(refused) - SHOWN_REFUSED
    listed += f"<li>and {more} more</li>" if more > 0 else ""
    return f"<div class='wd-groups'><p>Not read:</p><ul>{listed}</ul></div>" if listed else ""


def groups_html(rows: Sequence[Row], groups: Sequence[Group]) -> str:
    """Groups of files that hold the same, and pairs that nearly do."""
    pairs = alike(rows, groups)
    if not groups and not pairs:
        return "<p>No two of these hold the same, and none is a cut or a merge of others.</p>"
    items = []
    for number, group in enumerate(groups, 1):
        names = [html.escape(name) for name in group.files]
        if group.factors:
            names[1:] = [f"{n} (× {f:.3g})" for n, f in zip(names[1:], group.factors, strict=True)]
        listed = "".join(f"<li>{name}</li>" for name in names)
        sentence = SENTENCES.get(group.kind, group.kind)
        items.append(f"<li value='{number}'>{sentence}<ul>{listed}</ul></li>")
    text = f"<ol>{''.join(items)}</ol>" if items else ""
    if pairs:
        listed = "".join(
            f"<li>{html.escape(a)}, {html.escape(b)}: cosine {cosine:.3f}</li>"
            for a, b, cosine in pairs[:MOST_ALIKE]
        )
        more = f"<p>And {len(pairs) - MOST_ALIKE} more.</p>" if len(pairs) > MOST_ALIKE else ""
        text += f"<p>Nearly the same update, neither a copy:</p><ul>{listed}</ul>{more}"
    return f"<div class='wd-groups'>{text}</div>"


def map_html(rows: Sequence[Row], groups: Sequence[Group]) -> str:
    """The LoRAs in the plane: those that change the network alike lie together."""
    drawn = Sketches.of(rows)
    if len(drawn.files) < FEWEST:
        return f"<p>A map needs {FEWEST} LoRAs that change something.</p>"
    points = places(drawn)
    xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
    spread = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    at = {
        file: (20 + 560 * (x - min(xs)) / spread, 20 + 560 * (y - min(ys)) / spread)
        for file, x, y in points
    }
    _apart(at, groups)
    of_file = {str(row["file"]): row for row in rows}
    order = bases(rows)
    colours = {base: COLOURS[min(i, len(COLOURS) - 1)] for i, base in enumerate(order)}
    lines = "".join(
        _line(at[group.files[0]], at[other])
        for group in groups
        for other in group.files[1:]
        if group.files[0] in at and other in at
    )
    names = group_names(groups)
    dots = "".join(
        _dot(at[file], of_file[file], colours, names.get(file, "")) for file, _, _ in points
    )
    high = max(y for _, y in at.values()) + 20
    legend = "".join(
        f"<li><span style='background:{colours[base]}'></span>{html.escape(base)}</li>"
        for base in order[: len(COLOURS)]
    )
    return (
        f"<svg class='wd-map' viewBox='0 0 600 {high:.0f}' role='group'"
        f" aria-label='Map of {len(points)} LoRAs'>{lines}{dots}</svg>"
        f"<ul class='wd-legend'>{legend or '<li>no base is named</li>'}</ul>"
        "<p class='wd-note'>Near points change the network alike: t-SNE of the cosines of their"
        " updates, whatever their factors, names and strength. Lines join what holds the same.</p>"
    )


def _apart(at: dict[str, tuple[float, float]], groups: Sequence[Group]) -> None:
    """Moves points that lie on the first of their group around it, so that each can be seen."""
    for group in groups:
        files = [file for file in group.files if file in at]
        for number, file in enumerate(files[1:]):
            (x, y), (x0, y0) = at[file], at[files[0]]
            if math.hypot(x - x0, y - y0) < 2 * RADIUS:
                angle = 2 * math.pi * number / max(1, len(files) - 1)
                reach = 2.4 * RADIUS
                moved = x0 + reach * math.cos(angle), y0 + reach * math.sin(angle)
                at[file] = min(max(moved[0], 12.0), 588.0), max(moved[1], 12.0)


def _line(a: tuple[float, float], b: tuple[float, float]) -> str:
    return (
        f"<line x1='{a[0]:.1f}' y1='{a[1]:.1f}' x2='{b[0]:.1f}' y2='{b[1]:.1f}'"
        " stroke='currentColor' stroke-opacity='0.5'/>"
    )


def _dot(place: tuple[float, float], row: Row, colours: Mapping[str, str], group: str) -> str:
    base = row["base"] or "no base named"
    label = f"{row['file']}: {base}, rank {row['rank']}, ‖ΔW‖ {row['norm']:.3g}"
    label = html.escape(label + (f"; {group}" if group else ""), quote=True)
    fill = colours.get(str(row["base"])[:80], COLOURS[-1])
    return (
        f"<circle cx='{place[0]:.1f}' cy='{place[1]:.1f}' r='{RADIUS}' fill='{fill}' stroke='white'"
        f" tabindex='0' role='img' aria-label='{label}'><title>{label}</title></circle>"
    )


def summary(rows: Sequence[Row], groups: Sequence[Group], left_out: int = 0) -> str:
    """What was read, in a sentence."""
    read = [row for row in rows if not row["error"]]
    answered = sum(1 for row in read if row["predictor"] and not row["reason"])
    text = f"{len(read)} of {len(rows)} read, {answered} predicted"
    text += "; the reason says why not." if answered < len(rows) else "."
    if groups:
        text += f" {len(groups)} groups hold the same."
    if left_out:
        text += f" {left_out} more repositories are left out: no more are read at once."
    return text


# ---- files -----------------------------------------------------------------------------------


def downloads(rows: Sequence[Row], groups: Sequence[Group]) -> tuple[str, str, str]:
    """CSV of the table, JSON of all that is known, Parquet as ``library build`` writes it."""
    table = frame(rows, groups)
    facts = [{name: row[name] for name in COLUMNS if name not in UNSHOWN} for row in rows]
    group_facts = [{"kind": g.kind, "files": g.files, "factors": g.factors} for g in groups]
    text = json.dumps({"loras": facts, "groups": group_facts}, indent=1)
    return (
        download_file(table.to_csv(index=False).encode(), "loras.csv"),
        download_file(text.encode(), "loras.json"),
        download_file(part_bytes(rows), "part-000000.parquet"),
    )
