"""One row of the library: passport, geometry, sketch, predictions, or why it was not read."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.library.sketch import fingerprint
from wsdemo.lol.predictor.answers import ask
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lora.geometry import findings
from wsdemo.lora.reading import Reading, read

COLUMNS = {
    "file": "VARCHAR", "bytes": "BIGINT", "modified_ns": "BIGINT", "commit": "VARCHAR",
    "sha256": "VARCHAR", "error": "VARCHAR", "family": "VARCHAR", "kind": "VARCHAR",
    "base": "VARCHAR", "modules": "INTEGER", "rank": "INTEGER", "ranks": "VARCHAR",
    "alpha": "DOUBLE", "dtype": "VARCHAR", "norm": "DOUBLE", "energy_rank": "INTEGER",
    "effective_rank": "DOUBLE", "no_op": "BOOLEAN", "exact": "BOOLEAN", "notes": "VARCHAR",
    "trigger": "VARCHAR", "predictor": "VARCHAR", "reason": "VARCHAR",
    "predictions": "MAP(VARCHAR, DOUBLE)", "largest": "FLOAT[]", "sketch": "FLOAT[]",
}  # fmt: skip
"""Column → type. ``error`` is empty where the file was read; ``rank`` the largest of its modules;
``norm`` is ‖ΔW‖_F; ``notes`` is a JSON list of sentences; ``commit`` is the Hub's; ``reason`` says
why nothing is predicted; ``largest`` has the largest singular value of every module in the order of
their canonical names."""
UNSHOWN = ("largest", "sketch")
"""Columns of numbers that say nothing to people."""

Row = dict[str, Any]


def identity(path: Path) -> tuple[int, int]:
    """(bytes, time of change in ns): a file of which neither changed is not read again."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def row_of(path: Path, name: str, predictors: Sequence[Predictor] = ()) -> Row:
    """Reads one file; never raises for what is wrong with the file."""
    row = empty_row(name)
    try:
        row["bytes"], row["modified_ns"] = identity(path)
        row["sha256"] = _digest(path)
        row |= facts_of(read(path), predictors)
    except (WsdemoError, OSError) as error:
        row["error"] = error_text(error)
    return row


def empty_row(name: str, error: str = "") -> Row:
    """A row of which nothing is known yet, or of what was refused."""
    return {**dict.fromkeys(COLUMNS), "file": name, "error": error}


def error_text(error: WsdemoError | OSError) -> str:
    """What a row says of a file that was not read."""
    if isinstance(error, WsdemoError):
        return f"{error.title}: {error.message}"[:500]
    return f"File not accessible: {error.strerror}"


def facts_of(reading: Reading, predictors: Sequence[Predictor] = ()) -> Row:
    """What a row says of a LoRA that was read."""
    lora, geometry = reading.lora, reading.geometry
    modules = geometry.modules
    sketched, largest = fingerprint(reading)
    answer = ask(reading, predictors)[0] if predictors else None
    return {
        "family": lora.family,
        "kind": lora.kind,
        "base": lora.base.name,
        "modules": len(lora.modules),
        "rank": max(lora.ranks),
        "ranks": json.dumps(lora.ranks),
        "alpha": lora.alphas[0] if lora.alphas else None,
        "dtype": max(lora.dtypes, key=lambda d: lora.dtypes[d]),
        "norm": geometry.frobenius,
        "energy_rank": geometry.energy_rank,
        "effective_rank": sum(m.effective_rank for m in modules) / len(modules),
        "no_op": geometry.is_no_op,
        "exact": lora.is_exact,
        "notes": json.dumps([*lora.warnings, *findings(lora, geometry)]),
        "trigger": lora.metadata.get("modelspec.trigger_phrase", "")[:500],
        "predictor": answer.predictor if answer else None,
        "reason": answer.reason if answer else "No predictor was asked.",
        "predictions": {p.name: p.value if p.probability is None else p.probability
                        for p in answer.predictions} if answer else None,
        "largest": largest.tolist(),
        "sketch": sketched.tolist(),
    }  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
