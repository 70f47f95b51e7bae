"""Builds a library: every LoRA of a folder or a list, a row each, on one core or several."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.library.row import identity, row_of
from wsdemo.library.table import building, opened, parts, write_part
from wsdemo.limits import MAX_LIBRARY_FILES
from wsdemo.runtime import choose_threads, tune_allocator

ENDINGS = (".safetensors", ".npz", ".gguf")
ROWS_A_PART = 256
SECONDS_A_PART = 30.0
"""A part is written when it is full or so old: what a killed build has read is lost no more."""

Row = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        read: Files that were read now.
        failed: Of these, refused ones; each is a row that says why.
        kept: Files that had not changed since an earlier build.
        seconds: Used.
    """

    read: int
    failed: int
    kept: int
    seconds: float


def files_of(source: Path) -> dict[str, Path]:
    """Name → file of all LoRAs of a folder (below it, too), or of a list, one path a line.

    Raises:
        WsdemoError: There is no such source, it holds no file, or too many.
    """
    if source.is_dir():
        found = sorted(p for p in source.rglob("*") if p.suffix in ENDINGS and p.is_file())
        named = {str(p.relative_to(source)): p for p in found}
    elif source.is_file():
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
        named = {line: source.parent / line for line in lines if line and line[0] != "#"}
    else:
        raise WsdemoError("Nothing there", f"{source} is no folder and no list.", "Give either.")
    if not named:
        raise WsdemoError(
            "No LoRAs",
            f"{source} holds no {', '.join(ENDINGS)} file.",
            "Give a folder of LoRAs, or a list of paths, one a line.",
        )
    if len(named) > MAX_LIBRARY_FILES:
        raise WsdemoError(
            "Too many files",
            f"Found {len(named):,}; a library takes {MAX_LIBRARY_FILES:,}.",
            "Build several.",
        )
    return named


def build(source: Path, out: Path, say: Say, workers: int = 1) -> Built:
    """Reads all files of a source that are new or changed, and writes a row each.

    Args:
        source: As ``files_of``.
        out: The library's folder; what an earlier build has done is kept.
        say: Takes the progress, a line at a time.
        workers: Processes on this machine.

    Raises:
        WsdemoError: As ``files_of``; another process is building it.
    """
    started = time.monotonic()
    named = files_of(source)
    out.mkdir(parents=True, exist_ok=True)
    with building(out):
        known = _known(out)
        work = [(str(p), name) for name, p in named.items() if _is_new(known.get(name), p)]
        rows = _by_processes(work, workers)
        read = failed = 0
        waiting: list[Row] = []
        written = time.monotonic()
        for row in rows:
            waiting.append(row)
            read, failed = read + 1, failed + bool(row["error"])
            if len(waiting) == ROWS_A_PART or time.monotonic() - written > SECONDS_A_PART:
                write_part(out, waiting)
                waiting, written = [], time.monotonic()
                rate = read / (written - started)
                left = (len(work) - read) / rate
                say(f"{read:,} of {len(work):,} read, {failed:,} refused; {rate:.1f} files a"
                    f" second, {left / 60:.1f} minutes left")  # fmt: skip
        if waiting:
            write_part(out, waiting)
    return Built(read, failed, len(named) - len(work), time.monotonic() - started)


def _known(out: Path) -> dict[str, tuple[int, int]]:
    """File → its identity when it was read."""
    if not parts(out):
        return {}
    with opened(out) as database:
        rows = database.execute("SELECT file, bytes, modified_ns FROM loras").fetchall()
    return {name: (size, modified) for name, size, modified in rows}


def _is_new(known: tuple[int, int] | None, path: Path) -> bool:
    """Whether a file was not read yet, has changed since, or is not there."""
    try:
        return known != identity(path)
    except OSError:
        return True


def _row(task: tuple[str, str]) -> Row:
    path, name = task
    return row_of(Path(path), name)


def _start_worker() -> None:
    tune_allocator()
    choose_threads()


def _by_processes(work: Iterable[tuple[str, str]], workers: int) -> Iterator[Row]:
    """Rows as they come; only a few files a worker are under way, so that memory stays flat."""
    if workers <= 1:
        yield from map(_row, work)
        return
    tasks = iter(work)
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        under_way: set[Future[Row]] = {pool.submit(_row, t) for t in islice(tasks, 4 * workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            under_way |= {pool.submit(_row, t) for t in islice(tasks, len(done))}
            for future in done:
                yield future.result()
