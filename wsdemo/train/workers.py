"""Processes of one recipe on this machine that share its work: ``--workers 2``."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def worker_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workers``, and ``--part``, by which a worker knows its share."""
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="share of this process: i/n")


def run_workers(recipe: Sequence[str], workers: int) -> int:
    """Runs a recipe in single-thread processes that share its work; returns the worst status.

    Args:
        recipe: Module and options, as given.
        workers: Processes; each gets ``--part i/workers``.
    """
    command = [sys.executable, "-m", *recipe, "--workers=1", "--threads=1"]
    started = [subprocess.Popen([*command, f"--part={i}/{workers}"]) for i in range(workers)]
    return max(abs(process.wait()) for process in started)


def share_of(part: str, work: Sequence[T]) -> Sequence[T]:
    """What the process with ``--part i/n`` does of some work: every n-th piece from the i-th."""
    i, n = (int(v) for v in part.split("/"))
    return work[i::n]
