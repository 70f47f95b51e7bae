"""What builders of collections of LoRAs share: the order, one LoRA after the other, the table."""

import csv
import importlib
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.train.loop import log

T = TypeVar("T")


def needed(package: str) -> Any:
    """Imports a package that only this recipe uses.

    Raises:
        WsdemoError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise WsdemoError(
            "A package is missing",
            f"This recipe needs {package}, which cannot be imported ({error}).",
            "pip install diffusers transformers peft ray",
        ) from error


def in_turn(splits: Iterable[Sequence[T]]) -> list[T]:
    """The plans of several splits, each spread over the whole: every beginning has some of all."""
    placed = [(i / len(plans), plan) for plans in splits for i, plan in enumerate(plans)]
    return [plan for _, plan in sorted(placed, key=lambda pair: pair[0])]


def make_missing(
    work: Sequence[tuple[Path, T]], make: Callable[[Path, T], str], minutes: float, every: int
) -> None:
    """Makes what is not there yet, until the time is over.

    Args:
        work: (file that is there once a LoRA is made, plan).
        make: Makes a LoRA; returns what to say of it.
        minutes: After which no other is begun.
        every: LoRAs between two lines of the log.
    """
    began, done = time.monotonic(), 0
    for path, plan in work:
        if path.exists():
            continue
        if time.monotonic() - began > minutes * 60:
            break
        text = make(path, plan)
        done += 1
        if done % every == 0:
            log(f"{done} LoRAs, {(time.monotonic() - began) / done:.1f} s each; {text}")


def write_table(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> None:
    """Rows as CSV, whole or not at all; columns: by default all, in the order they come up."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or list(dict.fromkeys(k for row in rows for k in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
