"""A folder of LoRAs and a table of labels → labelled batches, with every problem stated first."""

import csv
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wsdemo.errors import WsdemoError
from wsdemo.lol.fitting import LabelledLoras, Task
from wsdemo.lol.pairs import Pairs, Signature, pack
from wsdemo.lora.modules import Lora
from wsdemo.lora.reader import read_lora

MIN_LORAS = 20
"""Fewer cannot be split three ways and say anything."""
SPLITS = ("train", "validation", "test")
RESERVED = {"file", "split", "group", "name"}


@dataclass(frozen=True)
class Collection:
    """Labelled LoRAs of one family, split.

    Attributes:
        signature: Their modules.
        splits: ``train``, ``validation``, ``test``.
        tasks: What can be learnt from the labels.
        base: The base model that most files name.
        ranks: Rank → files, in the training split.
        notes: What was left out, with counts.
    """

    signature: Signature
    splits: dict[str, LabelledLoras]
    tasks: tuple[Task, ...]
    base: str
    ranks: dict[int, int]
    notes: tuple[str, ...]


def read_labels(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of a CSV with a ``file`` column, and the names of its label columns.

    Raises:
        WsdemoError: No such table, no ``file`` column, no label, a file named twice.
    """
    if not path.is_file():
        raise WsdemoError("No labels", f"{path.name} does not exist.", "Give a CSV of labels.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WsdemoError(
            "Labels cannot be read",
            f"{path.name} is no CSV in UTF-8 ({type(error).__name__}).",
            "Save it as CSV with a header line.",
        ) from error
    columns = [c for c in (rows[0] if rows else {}) if c and c not in RESERVED]
    if not rows or "file" not in rows[0] or not columns:
        raise WsdemoError(
            "Labels cannot be read",
            f"{path.name} has {len(rows)} rows, with columns {', '.join(rows[0] if rows else [])}.",
            "Expected a column 'file', and one or more columns of numbers.",
        )
    twice = [name for name, n in Counter(r["file"] for r in rows).items() if n > 1]
    if twice:
        raise WsdemoError(
            "A file has two rows of labels",
            f"{len(twice)} files, such as {twice[0][:60]}.",
            "Leave one row a file.",
        )
    return rows, columns


def numeric(rows: Sequence[Mapping[str, str]], column: str) -> list[float] | None:
    """A column as numbers, NaN where it is empty; None if it holds other texts."""
    values = []
    for row in rows:
        text = (row.get(column) or "").strip()
        try:
            values.append(float(text) if text else math.nan)
        except ValueError:
            return None
    return values


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


def default_split(key: str) -> str:
    """70 / 15 / 15 by the name (or, where the table has one, the group): the same every time."""
    place = zlib.crc32(key.encode()) % 100
    return "train" if place < 70 else "validation" if place < 85 else "test"


def load_collection(folder: Path, labels: Path, tasks: Sequence[Task] | None = None) -> Collection:
    """Reads a folder of LoRAs with a table of labels.

    The table has a column ``file`` (relative to the folder), columns of numbers, and
    optionally ``split`` (train, validation, test) and ``group`` (files of one group stay in
    one split).

    Args:
        folder: With the LoRA files.
        labels: The CSV.
        tasks: What to predict; default: all 0/1 columns together, every other one alone.

    Raises:
        WsdemoError: Nothing can be learnt from it; says what was found.
    """
    rows, columns = read_labels(labels)
    found = [row for row in rows if (folder / row["file"]).is_file()]
    notes = []
    if len(found) < len(rows):
        notes.append(f"{len(rows) - len(found)} labelled files are not in the folder")
    named = {Path(row["file"]).as_posix() for row in rows}
    present = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.safetensors"))]
    extra = [p for p in present if p not in named]
    if extra:
        notes.append(f"{len(extra)} files have no labels, such as {extra[0][:60]}")
    if len(found) < MIN_LORAS:
        raise WsdemoError(
            "Too few LoRAs",
            f"{len(found)} files of {folder.name} have labels ({'; '.join(notes) or 'all do'});"
            f" at least {MIN_LORAS} are needed.",
            "Add LoRAs, or correct the column 'file'.",
        )
    values = {c: v for c in columns if (v := numeric(found, c)) is not None}
    chosen = list(tasks) if tasks is not None else guess_tasks(values)
    missing = sorted({c for t in chosen for c in t.labels} - set(values))
    if missing or not chosen:
        constant = sorted(set(columns) - {c for t in chosen for c in t.labels})
        raise WsdemoError(
            "Nothing to predict",
            f"No usable label: {', '.join((missing or constant)[:5])} hold one value only, no"
            " numbers, or are not there.",
            "Give labels that differ between LoRAs.",
        )
    loras = [(row, read_lora(folder / row["file"])) for row in found]
    kinds = Counter(_shape_key(lora) for _, lora in loras)
    signature = union_signature([lora for _, lora in loras], folder.name, kinds)
    bases = Counter(lora.base.name for _, lora in loras)
    splits: dict[str, LabelledLoras] = {}
    ranks: dict[int, int] = {}
    for split in SPLITS:
        index = [
            i
            for i, (row, _) in enumerate(loras)
            if (row.get("split") or default_split(row.get("group") or row["file"])) == split
        ]
        if not index:
            raise WsdemoError(
                "A split is empty",
                f"No LoRA is in {split!r}: {len(loras)} LoRAs in all.",
                "Name the splits train, validation and test in a column 'split', or add LoRAs.",
            )
        pairs = Pairs.join([pack(loras[i][1], signature) for i in index])
        table = {c: torch.tensor([v[i] for i in index]) for c, v in values.items()}
        splits[split] = LabelledLoras(pairs, table, tuple(loras[i][0]["file"] for i in index))
        if split == "train":
            for i in index:
                for rank in loras[i][1].ranks:
                    ranks[rank] = ranks.get(rank, 0) + 1
    check_classes(chosen, splits["train"])
    return Collection(
        signature, splits, tuple(chosen), bases.most_common(1)[0][0], ranks, tuple(notes)
    )


def _shape_key(lora: Lora) -> frozenset[tuple[str, int, int]]:
    return frozenset((m.name, m.U.shape[0], m.V.shape[0]) for m in lora.modules)


def union_signature(
    loras: Sequence[Lora], where: str, kinds: Mapping[frozenset[tuple[str, int, int]], int]
) -> Signature:
    """All modules of all LoRAs; a LoRA without one has a zero update there.

    Raises:
        WsdemoError: Two LoRAs disagree on a module's shape, or share no module: two families.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for kind in kinds:
        for name, n, m in kind:
            if shapes.setdefault(name, (n, m)) != (n, m):
                raise WsdemoError(
                    "Mixed families",
                    f"In {where}, {name[:60]} is {shapes[name]} in some LoRAs and {(n, m)} in"
                    f" others ({len(kinds)} different sets of modules).",
                    "Train one predictor per base model: put each family in a folder of its own.",
                )
    own = [{name for name, _, _ in kind} for kind in kinds]
    largest = max(own, key=len)
    apart = sum(n for kind, n in kinds.items() if not largest & {name for name, _, _ in kind})
    if apart:
        raise WsdemoError(
            "Mixed families",
            f"{apart} of {len(loras)} LoRAs in {where} share no module with the others.",
            "Train one predictor per base model: put each family in a folder of its own.",
        )
    return Signature(dict(sorted(shapes.items())))


def check_classes(tasks: Sequence[Task], train: LabelledLoras) -> None:
    """Raises WsdemoError where a 0/1 label has one class only among the training LoRAs."""
    for task in tasks:
        known = train.known(task)
        if len(known.names) < MIN_LORAS // 2:
            raise WsdemoError(
                "Too few labels",
                f"{len(known.names)} training LoRAs have the labels of {task.name}.",
                f"Label at least {MIN_LORAS // 2} of them.",
            )
        if task.kind != "binary":
            continue
        for column in task.labels:
            if len(set(known.labels[column].tolist())) < 2:
                raise WsdemoError(
                    "One class only",
                    f"All {len(known.names)} training LoRAs have {column} ="
                    f" {known.labels[column][0]:g}.",
                    "Leave the label out, or add LoRAs of the other class.",
                )
