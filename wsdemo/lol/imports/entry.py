"""What an import knows of a collection before it fetches anything large."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.hub.repository import Candidate, Repository

SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "dev": "validation", "test": "test", "testing": "test",
    "calibration": "calibration",
}  # fmt: skip
"""What collections call their splits → what ``lol train`` calls them."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """One LoRA of a collection.

    Attributes:
        file: Its place in the folder that is written.
        labels: Column → text.
        split: ``train``, ``validation``, ``test``, ``calibration``, or empty.
        group: Files of one group stay in one split; empty for none.
        base: The base model, as the collection names it; empty if it does not.
        path: The file, where it is on this machine.
        repository, candidate: Where it is on the Hub.
    """

    file: str
    labels: Mapping[str, str]
    split: str = ""
    group: str = ""
    base: str = ""
    path: Path | None = None
    repository: Repository | None = None
    candidate: Candidate | None = None

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        if self.candidate is not None:
            return self.candidate.size
        return self.path.stat().st_size if self.path is not None else 0


@dataclass
class Listing:
    """A collection, listed.

    Attributes:
        entries: Its LoRAs.
        licences: Licence → how many repositories or files state it.
        notes: What was left out, with counts.
        layout: What it was recognised as.
    """

    entries: list[Entry]
    licences: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    layout: str = ""


def column_name(text: str) -> str:
    """A label's name for a table: ``N Training Samples`` → ``n_training_samples``."""
    return re.sub(r"[^0-9a-z]+", "_", text.strip().lower()).strip("_")[:80]


def safe_name(text: str) -> str:
    """A name of a file, of a text from outside."""
    return re.sub(r"[^0-9A-Za-z._-]+", "-", text).strip(".-")[:120] or "lora"


def joined(
    sources: Sequence[tuple[str, Mapping[str, str]]], file: str, faults: list[str]
) -> dict[str, str]:
    """What several sources say of one LoRA; where two contradict, that is added to ``faults``.

    Args:
        sources: (source, column → text).
        file: The LoRA.
        faults: Contradictions found so far.
    """
    merged: dict[str, tuple[str, str]] = {}
    for source, labels in sources:
        for column, text in labels.items():
            if column in merged and not _equal(merged[column][1], text):
                first, known = merged[column]
                faults.append(
                    f"{file[:80]}: {column[:40]} is {known[:30]!r} in {first[:60]} and"
                    f" {text[:30]!r} in {source[:60]}"
                )
            merged.setdefault(column, (source, text))
    return {column: text for column, (_, text) in merged.items()}


def distinct(entries: Sequence[Entry], notes: list[str]) -> list[Entry]:
    """Each file once, at a place of its own.

    Of files that the Hub says are the same, byte for byte, the first is kept, and ``notes`` counts
    the others.

    Raises:
        WsdemoError: Equal files have different labels.
    """
    by_hash: dict[str, Entry] = {}
    places: set[str] = set()
    kept: list[Entry] = []
    faults: list[str] = []
    again = 0
    for entry in entries:
        sha256 = entry.candidate.sha256 if entry.candidate is not None else None
        first = by_hash.setdefault(sha256, entry) if sha256 else entry
        if first is not entry:
            again += 1
            joined(
                [(first.file, first.labels), (entry.file, entry.labels)], "the same file", faults
            )
            continue
        stem, dot, ending = entry.file.rpartition(".")
        file, number = entry.file, 2
        while file.lower() in places:  # as disks that ignore case see it
            file, number = f"{stem}-{number}{dot}{ending}", number + 1
        places.add(file.lower())
        kept.append(entry if file == entry.file else replace(entry, file=file))
    refuse_contradictions(faults, len(entries))
    if again:
        notes.append(f"{again} files are the same as others, byte for byte, and are left out")
    return kept


def _equal(a: str, b: str) -> bool:
    """Whether two cells mean the same: 3e-05 and 0.00003 do."""
    try:
        return float(a) == float(b)
    except ValueError:
        return a.strip() == b.strip()


def refuse_contradictions(faults: list[str], total: int) -> None:
    """Raises WsdemoError where labels contradict, with counts."""
    if faults:
        raise WsdemoError(
            "Labels contradict",
            f"{len(faults)} times in {total:,} LoRAs; the first: {faults[0]}.",
            "Tell the collection's authors, or write the labels.csv by hand.",
        )
