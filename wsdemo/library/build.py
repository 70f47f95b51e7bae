"""Builds a library: every LoRA of a source, a row each, on one core, several, or a cluster."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from wsdemo.checkpoints import checkpoint_names
from wsdemo.files import check_folder
from wsdemo.library.members import Known, Member, is_new, members_of, rows_of
from wsdemo.library.row import Row
from wsdemo.library.table import building, opened, parts, write_part
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lol.predictor.shipped import shipped_predictors
from wsdemo.runtime import choose_threads, tune_allocator

ROWS_A_PART = 256
SECONDS_A_PART = 30.0
"""A part is written when it is full or so old: what a killed build has read is lost no more."""

Task = tuple[Member, Known]


class Say(Protocol):
    """Takes the progress, a line at a time."""

    def __call__(self, text: str, /) -> None: ...


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


def build(source: Path | str, out: Path, say: Say, workers: int = 1, ray: str = "") -> Built:
    """Reads all files of a source that are new or changed, and writes a row each.

    Args:
        source: As ``members_of``.
        out: The library's folder; what an earlier build has done is kept.
        say: Takes the progress.
        workers: Processes on this machine.
        ray: Address of a Ray cluster, whose workers read instead (``local``: one of this machine).
            They must see the same files.

    Raises:
        WsdemoError: As ``members_of``; another process is building it; the folder cannot be
            written; Ray is not there.
    """
    started = time.monotonic()
    if not checkpoint_names("lol-"):
        say("no predictor is among the checkpoints: nothing is predicted")
    check_folder(out)
    members = members_of(str(source), own_token)  # before the folder: a refusal leaves none
    out.mkdir(parents=True, exist_ok=True)
    with building(out):
        known = _known(out)
        # Files of the Hub are only known once their repository was asked.
        work = [m for m in members if m.path is None or _is_due(m, known)]
        tasks = ((m, _known_of(m, known)) for m in work)
        if ray:
            from wsdemo.library.cluster import by_ray

            answers: Iterator[list[Row]] = by_ray(list(tasks), ray, say)
        else:
            answers = by_processes(tasks, workers)
        progress = Progress(len(work), started, say)
        waiting: list[Row] = []
        try:
            for rows in answers:
                waiting += rows
                if progress.count(rows) or len(waiting) >= ROWS_A_PART:
                    write_part(out, waiting)
                    waiting = []
                    progress.tell()
        finally:  # a stop or a full disk costs nothing that was read
            if waiting:
                write_part(out, waiting)
    kept = len(members) - len(work) + progress.unchanged
    return Built(progress.read, progress.failed, kept, time.monotonic() - started)


class Progress:
    """How far a build is."""

    def __init__(self, total: int, started: float, say: Say) -> None:
        self.total, self.started, self.say = total, started, say
        self.done = self.read = self.failed = self.unchanged = 0
        self._reported = time.monotonic()

    def count(self, rows: Sequence[Row]) -> bool:
        """Counts a member's rows; returns whether it is time to write and to tell."""
        self.done += 1
        self.read += len(rows)
        self.failed += sum(bool(row["error"]) for row in rows)
        self.unchanged += not rows
        return time.monotonic() - self._reported > SECONDS_A_PART

    def tell(self) -> None:
        """Says rate and time left."""
        self._reported = time.monotonic()
        rate = self.done / (self._reported - self.started)
        left = (self.total - self.done) / rate / 60
        self.say(f"{self.done:,} of {self.total:,}: {self.read:,} files read, {self.failed:,}"
                 f" refused; {rate:.1f} a second, {left:.1f} minutes left")  # fmt: skip


def _known(out: Path) -> dict[str, tuple[int | None, int | None, str | None, str | None]]:
    """File → its identity when it was read. What the Hub refused is asked for again."""
    if not parts(out):
        return {}
    with opened(out) as database:
        rows = database.execute(
            'SELECT file, bytes, modified_ns, "commit", sha256 FROM loras'
            " WHERE error = '' OR modified_ns IS NOT NULL"
        ).fetchall()
    return {name: tuple(identity) for name, *identity in rows}


def _is_due(member: Member, known: Known) -> bool:
    assert member.path is not None
    return is_new(known.get(member.name), member.path)


def _known_of(member: Member, known: Known) -> Known:
    """What is known of a repository's files: those that its worker may leave out."""
    if member.path is not None:
        return {}
    start = f"{member.name.partition(':')[0]}:"
    return {name: identity for name, identity in known.items() if name.startswith(start)}


# ---- workers -------------------------------------------------------------------------------


def read_task(task: Task) -> list[Row]:
    """All rows of a member: what a worker does."""
    member, known = task
    return list(rows_of(member, known, _predictors(), own_token() if member.reference else None))


def own_token() -> str | None:
    """The token of this machine's own Hub tools."""
    from wsdemo.hub import client  # huggingface_hub takes a second to import

    return client.own_token()


@cache
def _predictors() -> tuple[Predictor, ...]:
    return shipped_predictors() if checkpoint_names("lol-") else ()


def start_worker() -> None:
    """Settles a process that reads LoRAs, one thread each."""
    tune_allocator()
    choose_threads()


def by_processes(tasks: Iterable[Task], workers: int) -> Iterator[list[Row]]:
    """Rows as they come; only a few files a worker are under way, so that memory stays flat."""
    if workers <= 1:
        yield from map(read_task, tasks)
        return
    left = iter(tasks)
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
        under_way: set[Future[Any]] = {pool.submit(read_task, t) for t in islice(left, 4 * workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            under_way |= {pool.submit(read_task, t) for t in islice(left, len(done))}
            for future in done:
                yield future.result()
