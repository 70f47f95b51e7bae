"""What a table of labels says: its numbers, the tasks they make, and what cannot be learnt."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_CLASSES
from wsdemo.lol.data.tasks import LabelledLoras, Task, class_label

MIN_LEARNT, MIN_JUDGED = 10, 2
"""Training LoRAs of a task, and those of any other split: fewer say nothing."""


def numeric(rows: Sequence[Mapping[str, str]], column: str) -> tuple[list[float], list[str]]:
    """A column as numbers, NaN where it is empty; and its texts that are no numbers."""
    values, texts = [], []
    for row in rows:
        text = (row.get(column) or "").strip()
        try:
            values.append(float(text) if text else math.nan)
        except ValueError:
            texts.append(text)
    return values, texts


@dataclass(frozen=True)
class Table:
    """The rows of a table whose files are there.

    Attributes:
        rows: Column → text, a row a LoRA.
        values: Column → its numbers, NaN where there is none; columns of numbers only.
        texts: Column → cells that are no numbers, of the other columns.
        notes: Which files and rows were left out.
    """

    rows: list[dict[str, str]]
    values: dict[str, list[float]]
    texts: dict[str, list[str]]
    notes: list[str]


def table_of(folder: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]) -> Table:
    """The rows whose files are in a folder, and some of their columns as numbers."""
    kept = [row for row in rows if (folder / row["file"]).is_file()]
    notes = []
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} labelled files are not in the folder")
    named = {Path(row["file"]).as_posix() for row in rows}
    present = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.safetensors"))]
    extra = [p for p in present if p not in named]
    if extra:
        notes.append(f"{len(extra)} files have no labels, such as {extra[0][:60]}")
    read = {c: numeric(kept, c) for c in columns}
    values = {c: numbers for c, (numbers, texts) in read.items() if not texts}
    return Table(kept, values, {c: t for c, (_, t) in read.items() if t}, notes)


MIN_OF_CLASS = 3
"""Training LoRAs of a class: what fewer have in common nobody can tell."""


def nominal_tasks(table: Table, split_of: Callable[[Mapping[str, str]], str]) -> list[Task]:
    """A task for every column that names one of a few classes, in words.

    Args:
        table: Its columns without any number are meant.
        split_of: The split of a row; the classes are those of the training LoRAs.
    """
    training = [row for row in table.rows if split_of(row) == "train"]
    tasks = []
    for column, texts in table.texts.items():
        if len(texts) < sum(bool((row.get(column) or "").strip()) for row in table.rows):
            continue  # numbers among the words: a fault, and no class
        counts = Counter((row.get(column) or "").strip() for row in training)
        names = sorted(name for name, n in counts.items() if name and n >= MIN_OF_CLASS)
        if 2 <= len(names) <= MAX_CLASSES:
            tasks.append(Task(column, tuple(class_label(column, n) for n in names), "nominal"))
    return tasks


def with_classes(table: Table, tasks: Sequence[Task]) -> Table:
    """The table with a 0/1 column for every class of the nominal tasks.

    They are NaN where a LoRA has no class, or one that the task does not know; a note counts these.
    """
    values, notes = dict(table.values), list(table.notes)
    texts = dict(table.texts)
    for task in tasks:
        if task.kind != "nominal":
            continue
        texts.pop(task.name, None)
        cells = [(row.get(task.name) or "").strip() for row in table.rows]
        classes = [class_label(task.name, cell) for cell in cells]
        known = set(task.labels)
        for label in task.labels:
            values[label] = [float(t == label) if t in known else math.nan for t in classes]
        others = sum(bool(cell) and t not in known for cell, t in zip(cells, classes, strict=True))
        if others:
            notes.append(
                f"{others} of {len(cells)} LoRAs are of a class of {task.name[:60]} that fewer than"
                f" {MIN_OF_CLASS} training LoRAs have: they are not used for it"
            )
    return Table(table.rows, values, texts, notes)


def check_columns(table: Table, tasks: Sequence[Task]) -> None:
    """Raises WsdemoError where there is no task, or a task's label is no column of numbers."""
    missing = sorted({c for t in tasks for c in t.labels} - set(table.values))
    if missing or not tasks:
        unused = missing or sorted([*table.values, *table.texts])
        raise WsdemoError(
            "Nothing to predict",
            f"No usable label: {', '.join(unused[:5])} hold one value only, no numbers, or are"
            " not there.",
            "Give labels that differ between LoRAs.",
        )


def unused_columns(table: Table, tasks: Sequence[Task]) -> list[str]:
    """A note for every column that is no label of a task."""
    notes = [
        f"Column {column[:60]} is not used: {len(texts)} of {len(table.rows)} cells hold no number,"
        f" such as {texts[0][:30]!r}"
        for column, texts in table.texts.items()
    ]
    used = {c for task in tasks for c in task.labels}  # the classes of a nominal column, too
    for column in [c for c in table.values if c not in used]:
        known = [v for v in table.values[column] if math.isfinite(v)]
        what = f"{len(known)} LoRAs have the one value {known[0]:g}" if known else "it is empty"
        notes.append(f"Column {column[:60]} is not used: {what}")
    return notes


def missing_labels(table: Table, tasks: Sequence[Task]) -> list[str]:
    """A note for every number of LoRAs that lack a label of a task."""
    by_count: dict[int, list[str]] = {}
    # Of a nominal task one class says it for all.
    shown = [c for task in tasks for c in task.labels[: 1 if task.kind == "nominal" else None]]
    for column in shown:
        count = sum(not math.isfinite(v) for v in table.values[column])
        by_count.setdefault(count, []).append(column[:60])
    by_count.pop(0, None)
    return [
        f"{count} of {len(table.rows)} LoRAs have no label {', '.join(columns[:5])}"
        + (f" and {len(columns) - 5} more" if len(columns) > 5 else "")
        for count, columns in by_count.items()
    ]


def guess_tasks(labels: Mapping[str, Sequence[float]]) -> list[Task]:
    """One binary task of all 0/1 columns, and a regression task for every other column."""
    known = {c: [v for v in values if math.isfinite(v)] for c, values in labels.items()}
    binary = tuple(c for c, v in known.items() if set(v) == {0.0, 1.0})
    tasks = [Task("attributes", binary, "binary")] if binary else []
    tasks += [
        Task(c, (c,), "regression")
        for c, values in known.items()
        if c not in binary and len(set(values)) > 1
    ]
    return tasks


def check_classes(tasks: Sequence[Task], splits: Mapping[str, LabelledLoras]) -> None:
    """Refuses tasks that cannot be learnt, or not be judged.

    Raises:
        WsdemoError: A task has few labels or none, a 0/1 label one class among the training LoRAs,
            or every 0/1 label of a task one class in another split.
    """
    for task in tasks:
        for split, part in splits.items():
            known, least = part.known(task), MIN_LEARNT if split == "train" else MIN_JUDGED
            if len(known.names) < least:
                raise WsdemoError(
                    "Too few labels",
                    f"{len(known.names)} {split} LoRAs have the labels of {task.name}.",
                    f"Label at least {least} of them.",
                )
            if task.kind == "binary":
                _check_both(task, split, known)
            elif task.kind == "nominal" and len(set(known.targets(task).argmax(1).tolist())) < 2:
                raise WsdemoError(
                    "One class only",
                    f"{len(known.names)} {split} LoRAs are all of one class of {task.name[:60]}.",
                    "Leave the column out, or add LoRAs of the other classes.",
                )


def _check_both(task: Task, split: str, known: LabelledLoras) -> None:
    classes = {c: set(known.labels[c][known.labels[c].isfinite()].tolist()) for c in task.labels}
    alike = [c for c in task.labels if len(classes[c]) < 2]
    if alike and (split == "train" or len(alike) == len(task.labels)):
        label, *values = alike[0], *classes[alike[0]]
        raise WsdemoError(
            "One class only",
            f"Of {len(known.names)} {split} LoRAs, all have {label[:60]} = {values[0]:g}."
            if values else f"No {split} LoRA has a label {label[:60]}.",
            "Leave the label out, or add LoRAs of the other class.",
        )  # fmt: skip
