"""A folder of LoRAs and a table of labels → labelled batches, with every problem stated first."""

import csv
import dataclasses
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_LABELS_BYTES
from wsdemo.lol.data.canonical import canonical, svd
from wsdemo.lol.data.family import common_base, one_kind, union_signature
from wsdemo.lol.data.labels import (
    Table,
    check_classes,
    check_columns,
    guess_tasks,
    missing_labels,
    nominal_tasks,
    table_of,
    unused_columns,
    with_classes,
)
from wsdemo.lol.data.pairs import Pairs, Signature, pack
from wsdemo.lol.data.probes import Probes
from wsdemo.lol.data.tasks import LabelledLoras, Task
from wsdemo.lora.modules import Lora
from wsdemo.lora.reader import read_lora

MIN_LORAS = 20
"""Fewer cannot be split three ways and say anything."""
SPLITS = ("train", "validation", "test")
CALIBRATION = "calibration"
"""A fourth split, which a table may name: intervals and probabilities are calibrated on its LoRAs,
which serve nothing else. Without it the validation LoRAs serve for that too."""
RESERVED = {"file", "split", "group", "name"}


@dataclass(frozen=True)
class Collection:
    """Labelled LoRAs of one family, split.

    Attributes:
        signature: Their modules.
        splits: ``train``, ``validation``, ``test``; ``calibration`` where the table names it.
        tasks: What can be learnt from the labels.
        base: The base model that most of the files name; empty if none does.
        ranks: Rank → files, in the training split.
        notes: What was left out, with counts.
        kind: ``additive`` or ``multiplicative``.
        probes: Of the base, where it has some.
    """

    signature: Signature
    splits: dict[str, LabelledLoras]
    tasks: tuple[Task, ...]
    base: str
    ranks: dict[int, int]
    notes: tuple[str, ...]
    kind: str = "additive"
    probes: Probes | None = None

    @property
    def calibration(self) -> LabelledLoras:
        """The LoRAs on which intervals and probabilities are calibrated."""
        return self.splits[CALIBRATION if CALIBRATION in self.splits else "validation"]


def short_name(file: str) -> str:
    """What a LoRA is called: its file, or its folder where all files have PEFT's name."""
    *folders, last = file.removesuffix(".safetensors").split("/")
    return folders[-1] if folders and last == "adapter_model" else last


# ---- the table ------------------------------------------------------------------------


def read_labels(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of a CSV with a ``file`` column, and the names of its label columns.

    Raises:
        WsdemoError: No such table, one beyond limits, no ``file`` column, no label, a file named
            twice.
    """
    if not path.is_file():
        raise WsdemoError("No labels", f"{path.name} does not exist.", "Give a CSV of labels.")
    if path.stat().st_size > MAX_LABELS_BYTES:
        raise WsdemoError(
            "Labels too large",
            f"{path.name} has {path.stat().st_size / 2**20:,.0f} MB;"
            f" {MAX_LABELS_BYTES / 2**20:.0f} MB are allowed.",
            "Give a table with a row a LoRA.",
        )
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
    for row in rows:  # a short row has no cell there
        row["file"] = (row["file"] or "").strip()
    twice = [name for name, n in Counter(r["file"] for r in rows).items() if name and n > 1]
    if twice:
        raise WsdemoError(
            "A file has two rows of labels",
            f"{len(twice)} files, such as {twice[0][:60]}.",
            "Leave one row a file.",
        )
    return rows, columns


def default_split(key: str) -> str:
    """70 / 15 / 15 by the name (or, where the table has one, the group): the same every time."""
    place = zlib.crc32(key.encode()) % 100
    return "train" if place < 70 else "validation" if place < 85 else "test"


def split_of(row: Mapping[str, str]) -> str:
    """The split that a row names, or else that of its group or name."""
    split = (row.get("split") or "").strip()
    return split or default_split((row.get("group") or "").strip() or row["file"])


def check_splits(rows: Sequence[Mapping[str, str]]) -> None:
    """Refuses unknown splits, and groups that lie in several.

    Raises:
        WsdemoError: What was found, with counts.
    """
    known = (*SPLITS, CALIBRATION)
    unknown = Counter(split for row in rows if (split := split_of(row)) not in known)
    if unknown:
        listed = ", ".join(f"{name[:20]!r} ({n} LoRAs)" for name, n in unknown.most_common(5))
        raise WsdemoError(
            "Unknown split",
            f"The column 'split' holds {listed}; expected {', '.join(known)}.",
            "Correct these cells, or leave them empty to split by name.",
        )
    groups: dict[str, set[str]] = {}
    for row in rows:
        if group := (row.get("group") or "").strip():
            groups.setdefault(group, set()).add(split_of(row))
    crossing = [group for group, splits in groups.items() if len(splits) > 1]
    if crossing:
        raise WsdemoError(
            "A group lies in several splits",
            f"{len(crossing)} of {len(groups)} groups, such as {crossing[0][:60]!r} in"
            f" {', '.join(sorted(groups[crossing[0]]))}: what is tested on would be trained on.",
            "Give every file of a group the same split, or leave the column 'split' out.",
        )


# ---- the LoRAs ------------------------------------------------------------------------


def read_member(folder: Path, file: str) -> Lora:
    """One LoRA of a folder; what is wrong with it is said with its name."""
    try:
        return read_lora(folder / file)
    except WsdemoError as error:
        raise WsdemoError(error.title, f"{file}: {error.message}", error.hint) from error


def slim(lora: Lora, rank: int) -> Lora:
    """A LoRA with at most ``rank`` directions a module, the strongest."""
    modules = []
    for module in lora.modules:
        P, s, Q = svd(module.U, module.V)
        U, V = ((X * s.sqrt())[:, :rank].to(module.U) for X in (P, Q))
        modules.append(dataclasses.replace(module, U=U, V=V))
    return dataclasses.replace(lora, modules=tuple(modules))


def labelled(
    table: Table,
    loras: Mapping[int, Lora],
    signature: Signature,
    index: Sequence[int],
    rank: int | None = None,
) -> LabelledLoras:
    """Some of a table's LoRAs as a batch: whole, or canonical of a rank in half precision."""
    packed = [pack(loras[i], signature) for i in index]
    if rank is not None:
        packed = [canonical(pairs, rank).to(torch.float16) for pairs in packed]
    return LabelledLoras(
        Pairs.join(packed),
        {c: torch.tensor([v[i] for i in index]) for c, v in table.values.items()},
        tuple(table.rows[i]["file"] for i in index),
    )


def load_collection(
    folder: Path, labels: Path, tasks: Sequence[Task] | None = None, rank: int | None = None
) -> Collection:
    """Reads a folder of LoRAs with a table of labels.

    The table has a column ``file`` (relative to the folder), columns of numbers, and
    optionally ``split`` (train, validation, test, calibration) and ``group`` (files of one group
    stay in one split). A LoRA without a split is in one of the first three by its name.

    Args:
        folder: With the LoRA files.
        labels: The CSV.
        tasks: What to predict; default: all 0/1 columns together, every other one alone, of words
            the class.
        rank: Of every module, the directions that are kept, the strongest; default: all. For
            families of many modules and mixed ranks, which take as much memory as the largest.

    Raises:
        WsdemoError: Nothing can be learnt from it; says what was found.
    """
    table = table_of(folder, *read_labels(labels))
    if len(table.rows) < MIN_LORAS:
        raise WsdemoError(
            "Too few LoRAs",
            f"{len(table.rows)} files of {folder.name} have labels"
            f" ({'; '.join(table.notes) or 'all do'}); at least {MIN_LORAS} are needed.",
            "Add LoRAs, or correct the column 'file'.",
        )
    if tasks is None:
        nominal = nominal_tasks(table, split_of)
        chosen = [*guess_tasks(table.values), *nominal]
    else:
        chosen = list(tasks)
    table = with_classes(table, chosen)
    check_columns(table, chosen)
    check_splits(table.rows)
    unused = unused_columns(table, chosen) if tasks is None else []
    loras, ranks_of = {}, {}
    for i, row in enumerate(table.rows):
        lora = read_member(folder, row["file"])
        ranks_of[i] = lora.ranks
        loras[i] = lora if rank is None else slim(lora, rank)
    everyone = list(loras.values())
    signature, kind = union_signature(everyone, folder.name), one_kind(everyone, folder.name)
    base, of_base = common_base(everyone)
    places: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, row in enumerate(table.rows):
        places.setdefault(split_of(row), []).append(i)
    for split, index in places.items():
        if not index:
            raise WsdemoError(
                "A split is empty",
                f"No LoRA is in {split!r}: {len(loras)} LoRAs in all.",
                "Name the splits train, validation and test in a column 'split', or add LoRAs.",
            )
    splits = {k: labelled(table, loras, signature, index, rank) for k, index in places.items()}
    check_classes(chosen, splits)
    ranks = Counter(rank for i in places["train"] for rank in ranks_of[i])
    notes = [*table.notes, *unused, *missing_labels(table, chosen), *of_base]
    return Collection(
        signature, splits, tuple(chosen), base, dict(ranks), tuple(notes), kind
    )  # fmt: skip
