"""A collection becomes a folder of LoRAs with a labels.csv; what is there already is kept."""

import csv
import io
import json
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.hub import client
from wsdemo.hub.listing import COLLECTIONS, SCHEME
from wsdemo.hub.reference import Reference, parse_reference
from wsdemo.hub.repository import CONFIG, Repository
from wsdemo.limits import MAX_IMPORTED_FILES
from wsdemo.lol.imports.bundles import is_bundle, list_bundle
from wsdemo.lol.imports.entry import Entry, Listing, Say, distinct
from wsdemo.lol.imports.headers import list_folder
from wsdemo.lol.imports.owners import list_owner
from wsdemo.lol.imports.tables import list_tables
from wsdemo.lol.imports.wise import chosen_shards, rows_to_files, shards_of, subset_of
from wsdemo.lora.reader import judge_header
from wsdemo.safetensors_header import read_header

LABELS, CARDS, STATE = "labels.csv", ".cards.json", ".import.json"
IN_A_ROW = 5
"""Files that fail one after the other before the import stops."""
SECONDS = 10.0
"""Between two lines of progress."""
SPARE = 256 * 2**20
"""Bytes that stay free on the disk."""


@dataclass
class Imported:
    """What an import did.

    Attributes:
        files: In the table.
        columns: Labels.
        splits: Split → files; ``by name`` where the collection says none.
        licences: Licence → how many repositories or files state it.
        base: The base model; empty if nothing names it.
        notes: What was left out.
        layout: What the collection was recognised as.
        seconds: Used.
    """

    files: int
    columns: list[str]
    splits: dict[str, int]
    licences: dict[str, int]
    base: str
    notes: list[str] = field(default_factory=list)
    layout: str = ""
    seconds: float = 0.0


def import_collection(
    source: str, out: Path, say: Say, token: str | None = None, *,
    base: str = "", most: int | None = None, allow_missing: bool = False,
) -> Imported:  # fmt: skip
    """Writes a collection's LoRAs and their labels.csv.

    Args:
        source: A folder, ``owner``, ``owner/name``, ``datasets/owner/name[:subset]``, or
            ``collections/owner/slug``; ``hf://`` may stand before the names.
        out: The folder.
        say: Takes the progress.
        token: Of the user.
        base: Of several base models, the one to take.
        most: LoRAs at the most, drawn by their names.
        allow_missing: Write the table though some files could not be fetched.

    Raises:
        WsdemoError: The source is of no known layout, says no labels, or contradicts itself; holds
            several bases; the Hub or the disk fails; another process imports into the folder.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".importing", timeout=0):
            imported = _import(source, out, say, token, base, most, allow_missing)
    except Timeout as error:
        raise WsdemoError(
            "Folder in use",
            f"Another process imports into {out}.",
            "Wait, or choose another --out.",
        ) from error
    return replace(imported, seconds=time.monotonic() - started)


def _import(
    source: str, out: Path, say: Say, token: str | None, base: str, most: int | None,
    allow_missing: bool,
) -> Imported:  # fmt: skip
    listing = _listed(source, out, say, token)
    for licence, count in listing.licences.items():
        say(f"licence of {count:,}: {licence}")
    listing.entries = distinct(listing.entries, listing.notes)
    _of_one_base(listing, base)
    _drawn(listing, most)
    say(f"{listing.layout}: {len(listing.entries):,} LoRAs,"
        f" {sum(e.bytes for e in listing.entries) / 2**30:.2f} GB")  # fmt: skip
    _check_room(listing.entries, out)
    failed = _fetched(listing.entries, out, say, token)
    if failed and not allow_missing:
        file, why = next(iter(failed.items()))
        raise WsdemoError(
            "Files are missing",
            f"{len(failed):,} of {len(listing.entries):,}, such as {file[:80]}: {why[:200]}",
            "Give the same command again to try these, or --allow-missing to do without.",
        )
    if failed:
        listing.notes.append(f"{len(failed)} files could not be fetched and are left out")
    kept = [entry for entry in listing.entries if entry.file not in failed]
    kept = _of_base_in_files(kept, out, listing, base)
    return _written(kept, listing, out)


# ---- what is there -----------------------------------------------------------------------


def _listed(source: str, out: Path, say: Say, token: str | None) -> Listing:
    """The collection, by whichever layout it has."""
    if Path(source).is_dir():
        return list_folder(Path(source), say)
    name = source.removeprefix(SCHEME)
    if name.startswith(COLLECTIONS) or ("/" not in name and name):
        return list_owner(name, token, say)
    reference = parse_reference(name)
    repository = _looked_at(replace(reference, path=None), token, say)
    if shards_of(repository):
        return _list_parquet(repository, reference, out, say, token)
    if is_bundle(repository):
        place = out / CARDS
        known: dict[str, str] = json.loads(place.read_text()) if place.is_file() else {}
        try:
            return list_bundle(repository, token, say, known)
        finally:  # cards that were read are not read again
            write_whole(place, json.dumps(known))
    if repository.candidates:
        return list_tables(repository, token, say)
    kinds = Counter(Path(f.path).suffix or "no ending" for f in repository.files)
    counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5)) or "nothing"
    raise WsdemoError(
        "No LoRAs",
        f"{reference.repo} holds {counts}, and no .safetensors file.",
        f"Was a data set meant? Then name it datasets/{reference.repo}."
        if reference.kind == "model" else "Give a collection as wsdemo lol import --help lists.",
    )  # fmt: skip


def _looked_at(reference: Reference, token: str | None, say: Say) -> Repository:
    """A repository of models or, where there is none of that name, of data."""
    try:
        return client.look_at(reference, token)
    except WsdemoError as error:
        if reference.kind != "model":
            raise
        try:
            repository = client.look_at(replace(reference, kind="dataset"), token)
        except WsdemoError:
            raise error from None
    say(f"{reference.repo} is a data set")
    return repository


def _list_parquet(
    repository: Repository, reference: Reference, out: Path, say: Say, token: str | None
) -> Listing:
    """Rows of Parquet become files at once; shards that are done are known by the state file."""
    shards = chosen_shards(repository, reference.path)
    place = out / STATE
    state: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
    for number, shard in enumerate(shards, 1):
        key = f"{shard.path}@{shard.sha256 or repository.commit}"
        if key in state and all((out / file).is_file() for file, *_ in state[key]):
            continue
        _check_free(shard.size * 3 // 2, out)
        copy = out / ".shard.parquet"
        try:
            client.download_to(repository, shard, copy, token)
            state[key] = [list(row) for row in rows_to_files(copy, shard.path, out)]
        finally:
            copy.unlink(missing_ok=True)
        write_whole(place, json.dumps(state))
        say(f"{number} of {len(shards)} Parquet files, {sum(map(len, state.values())):,} LoRAs")
    keys = [f"{shard.path}@{shard.sha256 or repository.commit}" for shard in shards]
    entries = [
        Entry(file, labels, "", f"{subset_of(key)}/{group}" if group else "",
              repository.base_model, out / file)
        for key in keys
        for file, labels, group in state[key]
    ]  # fmt: skip
    licence = repository.licence or "none stated"
    return Listing(entries, {licence: len(entries)}, [], "rows of Parquet (LoRA-WiSE)")


def _of_one_base(listing: Listing, base: str) -> None:
    """Refuses several bases, before anything is fetched, with counts; or takes the one named."""
    counts = Counter(entry.base for entry in listing.entries if entry.base)
    if base and counts:
        kept = [e for e in listing.entries if e.base in ("", base)]
        if base not in counts:
            raise _two_bases(counts, f"None is {base[:80]}.")
        if len(kept) < len(listing.entries):
            listing.notes.append(
                f"{len(listing.entries) - len(kept)} LoRAs of other bases left out"
            )
        listing.entries = kept
    elif len(counts) > 1:
        raise _two_bases(counts, "One predictor is for one base.")


def _two_bases(counts: Counter[str], why: str) -> WsdemoError:
    listed = ", ".join(f"{name[:60]} ({n:,})" for name, n in counts.most_common(6))
    return WsdemoError(
        "Several base models", f"Found {listed}. {why}", "Choose one of them with --base."
    )


def _of_base_in_files(kept: list[Entry], out: Path, listing: Listing, base: str) -> list[Entry]:
    """Those of one base, by what files say themselves where the collection did not."""
    silent = [e for e in kept if not e.base]
    if not silent:
        return kept
    from wsdemo.lol.imports.headers import base_of

    named = {}
    for entry in silent:
        path = out / entry.file
        named[entry.file] = base_of(path, read_header(path).metadata)
    entries = [replace(e, base=e.base or named.get(e.file, "")) for e in kept]
    again = replace(listing, entries=entries)
    _of_one_base(again, base)
    return again.entries


def _drawn(listing: Listing, most: int | None) -> None:
    """Some of the LoRAs, by their names: the same ones every time."""
    total = len(listing.entries)
    if total > MAX_IMPORTED_FILES and most is None:
        raise WsdemoError(
            "Too many LoRAs", f"Found {total:,}; {MAX_IMPORTED_FILES:,} are taken.", "Give --most."
        )
    if most is not None and most < total:
        order = sorted(listing.entries, key=lambda e: (zlib.crc32(e.file.encode()), e.file))
        listing.entries = sorted(order[:most], key=lambda e: e.file)
        listing.notes.append(f"{most:,} of {total:,} LoRAs are drawn by their names")


# ---- fetching --------------------------------------------------------------------------------


def _check_room(entries: Sequence[Entry], out: Path) -> None:
    lacking = [e for e in entries if not _is_there(e, out)]
    _check_free(sum(e.bytes for e in lacking if e.candidate is not None), out)


def _check_free(needed: int, out: Path) -> None:
    free = shutil.disk_usage(out).free
    if needed + SPARE > free:
        raise WsdemoError(
            "Not enough room",
            f"{needed / 2**30:.1f} GB are to be written to {out}, and {free / 2**30:.1f} GB are"
            " free.",
            "Choose another disk with --out, or take fewer with --most.",
        )


def _is_there(entry: Entry, out: Path) -> bool:
    """Whether a file was fetched before: it has its place only if its hash was right."""
    path = out / entry.file
    return path.is_file() and path.stat().st_size == entry.bytes


def _fetched(entries: Sequence[Entry], out: Path, say: Say, token: str | None) -> dict[str, str]:
    """Brings all files to their places; returns those that could not be brought, and why."""
    failed: dict[str, str] = {}
    in_a_row, reported = 0, time.monotonic()
    for number, entry in enumerate(entries, 1):
        try:
            _bring(entry, out, token)
            in_a_row = 0
        except WsdemoError as error:
            failed[entry.file] = f"{error.title}: {error.message}"
            in_a_row += 1
            if in_a_row == IN_A_ROW:
                brought = number - len(failed)
                raise WsdemoError(
                    "Import stopped",
                    f"{IN_A_ROW} files in a row failed, the last with: {error.message}"
                    f" {brought:,} of {len(entries):,} files are here,"
                    f" {len(entries) - brought:,} lack.",
                    "Give the same command again: it goes on from there.",
                ) from error
        if time.monotonic() - reported > SECONDS:
            reported = time.monotonic()
            say(f"{number:,} of {len(entries):,}, {len(failed):,} failed")
    return failed


def _bring(entry: Entry, out: Path, token: str | None) -> None:
    path = out / entry.file
    if _is_there(entry, out):
        return
    if entry.repository is None or entry.candidate is None:
        assert entry.path is not None
        _linked(entry.path, path)
        return
    judge_header(client.peek(entry.repository, entry.candidate, token).header)
    config = client.read_config(entry.repository, entry.candidate, token)
    if config is not None and path.name == "adapter_model.safetensors":
        write_whole(path.with_name(CONFIG), config)
    client.download_to(entry.repository, entry.candidate, path, token)


def _linked(source: Path, path: Path) -> None:
    """The same file at another place, without a copy where the disk allows it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.unlink()
    try:
        os.link(source, path)
    except OSError:
        write_whole(path, source.read_bytes())
    beside = source.with_name(CONFIG)
    if beside.is_file() and not path.with_name(CONFIG).exists():
        shutil.copy(beside, path.with_name(CONFIG))


# ---- the table -------------------------------------------------------------------------------


def _written(entries: list[Entry], listing: Listing, out: Path) -> Imported:
    """labels.csv, whole, once all files are there."""
    columns = list(dict.fromkeys(c for e in entries for c in e.labels))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "split", "group", *columns], restval="")
    writer.writeheader()
    for entry in entries:
        labels = {c: entry.labels.get(c, "") for c in columns}
        writer.writerow({"file": entry.file, "split": entry.split, "group": entry.group, **labels})
    write_whole(out / LABELS, text.getvalue())
    splits = Counter(entry.split or "by name" for entry in entries)
    bases = Counter(entry.base for entry in entries if entry.base)
    base = bases.most_common(1)[0][0] if bases else ""
    return Imported(
        len(entries), columns, dict(splits), listing.licences, base, listing.notes, listing.layout
    )
