"""One repository of many LoRAs with tables of labels: W2T's collections, and others made so.

The tables (CSV, TSV, JSON, JSON lines) are found by what they hold: a column, or keys, that name
the LoRAs by path, file, or folder. ``{"train": [names], …}`` and a table called train.csv say
splits.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.hub.client import read_text
from wsdemo.hub.repository import CONFIG, Candidate, Repository
from wsdemo.limits import MAX_LABELS_BYTES
from wsdemo.lol.imports.entry import (
    SPLITS,
    Entry,
    Listing,
    Say,
    column_name,
    joined,
    refuse_contradictions,
    safe_name,
)

ENDINGS = (".csv", ".tsv", ".json", ".jsonl")
IGNORED = {CONFIG, "manifest.json", "tokenizer.json", "tokenizer_config.json", "config.json",
           "special_tokens_map.json", "model_index.json", "trainer_state.json", "vocab.json",
           "dataset_info.json", "adapter_metadata.json"}  # fmt: skip
"""Files of programs, that say nothing of labels."""
NAMING = 0.5
"""Share of a column's cells that must name LoRAs."""
MOST_TABLES = 200
MAX_CELL = 200

Rows = list[dict[str, str]]
Labelled = tuple[str, dict[str, str], str]
"""Path of a LoRA, column → text, split."""


def list_tables(repository: Repository, token: str | None, say: Say) -> Listing:
    """The LoRAs of a repository that its tables name.

    Raises:
        WsdemoError: There is no such table, labels contradict, or the Hub fails.
    """
    names = names_of(repository.candidates)
    labels_of: dict[str, list[tuple[str, dict[str, str]]]] = {}
    splits: dict[str, list[tuple[str, dict[str, str]]]] = {}
    read = []
    for file in tables_of(repository):
        text = read_text(repository, file.path, token, MAX_LABELS_BYTES)
        count = 0
        for key, labels, split in rows_of(file.path, text, names):
            count += 1
            labels_of.setdefault(key, []).append((file.path, labels))
            if split:
                splits.setdefault(key, []).append((file.path, {"split": split}))
        if count:
            read.append(f"{file.path} ({count} rows)")
    if not labels_of:
        looked = ", ".join(f.path for f in tables_of(repository)[:8]) or "no table"
        raise WsdemoError(
            "No labels",
            f"{repository.repo} holds {len(repository.candidates)} safetensors files and no table"
            f" that names them; looked at {looked[:300]}.",
            "Write a labels.csv by hand: docs/method.md.",
        )
    say(f"labels from {', '.join(read[:8])}")
    faults: list[str] = []
    by_path = {c.path: c for c in repository.candidates}
    entries = []
    for path in sorted(labels_of):
        labels = joined(labels_of[path], path, faults)
        split = joined(splits.get(path, []), path, faults).get("split", "")
        if any(labels.values()):
            entries.append(
                Entry(_place(path), labels, split, "", repository.base_model, None, repository,
                      by_path[path])
            )  # fmt: skip
    refuse_contradictions(faults, len(labels_of))
    unlabelled = len(by_path) - len(entries)
    notes = [f"{unlabelled} files have no labels"] if unlabelled else []
    licence = repository.licence or "none stated"
    return Listing(entries, {licence: len(entries)}, notes, "one repository with tables of labels")


def tables_of(repository: Repository) -> list[Candidate]:
    """The files of a repository that may hold labels."""
    tables = [
        file
        for file in repository.files
        if file.path.lower().endswith(ENDINGS)
        and PurePosixPath(file.path).name not in IGNORED
        and file.size <= MAX_LABELS_BYTES
    ]
    return sorted(tables, key=lambda f: (f.path.count("/"), f.path))[:MOST_TABLES]


def names_of(candidates: tuple[Candidate, ...]) -> dict[str, str]:
    """Every name that means one LoRA alone → its path."""
    by_name: dict[str, str] = {}
    twice: set[str] = set()
    for candidate in candidates:
        place = PurePosixPath(candidate.path)
        parts = place.parts
        names = {candidate.path, str(place.with_suffix("")), place.name, place.stem}
        names |= {"/".join(parts[i:]) for i in range(len(parts))}
        names |= {"/".join(parts[i:-1]) for i in range(len(parts) - 1)}
        for name in names:
            if name in by_name and by_name[name] != candidate.path:
                twice.add(name)
            by_name[name] = candidate.path
    return {name: path for name, path in by_name.items() if name not in twice}


def _place(path: str) -> str:
    """A place of its own: PEFT calls all its files alike, so the folder is kept."""
    place = PurePosixPath(path)
    if place.name == "adapter_model.safetensors":
        return "/".join(safe_name(part) for part in place.parts)
    return f"{safe_name('-'.join(place.with_suffix('').parts))}.safetensors"


def rows_of(name: str, text: str, names: Mapping[str, str]) -> Iterator[Labelled]:
    """(path, column → text, split) of the rows of a table that name LoRAs."""
    if name.lower().endswith(".json"):
        yield from _of_json(name, text, names)
        return
    try:
        if name.lower().endswith(".jsonl"):
            rows = [_cells(json.loads(line)) for line in text.splitlines() if line.strip()]
        else:
            delimiter = "\t" if name.lower().endswith(".tsv") else ","
            rows = [dict(row) for row in csv.DictReader(io.StringIO(text), delimiter=delimiter)]
    except (ValueError, csv.Error, RecursionError):
        return
    yield from _of_rows(name, rows, names)


def _of_rows(name: str, rows: Rows, names: Mapping[str, str]) -> Iterator[Labelled]:
    column = naming_column(rows, names)
    if column is None:
        return
    by_name = SPLITS.get(PurePosixPath(name).stem.lower(), "")
    for row in rows:
        path = names.get(_key(row.get(column)))
        if path is not None:
            yield _row(path, row, column, by_name)


def _row(path: str, row: Mapping[str, Any], column: str, split: str) -> Labelled:
    labels = {}
    for key, value in row.items():
        clean = column_name(key or "")
        if key == column or not clean or value in (None, ""):
            continue
        if clean in ("split", "subset", "partition"):
            split = SPLITS.get(str(value).strip().lower(), split)
        else:
            labels[clean] = str(value).strip()[:MAX_CELL]
    return path, labels, split


def naming_column(rows: Rows, names: Mapping[str, str]) -> str | None:
    """The column whose cells name LoRAs, if one does."""
    counts: Counter[str] = Counter()
    for row in rows:
        for key, value in row.items():
            if key and isinstance(value, str) and _key(value) in names:
                counts[key] += 1
    if not counts:
        return None
    column, count = counts.most_common(1)[0]
    return column if count >= NAMING * len(rows) else None


def _key(value: object) -> str:
    return str(value or "").strip().removeprefix("./").rstrip("/")


def _cells(value: Any) -> dict[str, str]:
    """A JSON object as a row: nested ones by ``outer_inner``, true and false as 1 and 0."""
    cells: dict[str, str] = {}
    for key, cell in value.items() if isinstance(value, dict) else ():
        if isinstance(cell, dict):
            cells |= {f"{key}_{inner}": text for inner, text in _cells(cell).items()}
        elif isinstance(cell, bool):
            cells[str(key)] = str(int(cell))
        elif isinstance(cell, str | int | float):
            cells[str(key)] = str(cell)
    return cells


def _of_json(name: str, text: str, names: Mapping[str, str]) -> Iterator[Labelled]:
    """Objects in a list, objects by name, numbers by name, or lists of names by split."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(content, list):
        yield from _of_rows(name, [_cells(row) for row in content], names)
        return
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        split = SPLITS.get(str(key).lower())
        if split and isinstance(value, list):
            for item in value:
                path = names.get(_key(item)) if isinstance(item, str) else None
                if path is not None:
                    yield path, {}, split
                elif isinstance(item, dict):
                    for path, labels, _ in _of_rows("", [_cells(item)], names):
                        yield path, labels, split
        elif (path := names.get(_key(key))) is not None:
            stem = column_name(PurePosixPath(name).stem) or "label"
            cells = _cells(value) if isinstance(value, dict) else _cells({stem: value})
            yield _row(path, cells, "", "")
