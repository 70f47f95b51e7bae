"""One LoRA file as a row of the library: passport, geometry, sketch, or why it was not read."""

import hashlib
import json
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.library.sketch import sketch
from wsdemo.lora.geometry import findings
from wsdemo.lora.reading import read

COLUMNS = {
    "file": "VARCHAR", "bytes": "BIGINT", "modified_ns": "BIGINT", "sha256": "VARCHAR",
    "error": "VARCHAR", "family": "VARCHAR", "kind": "VARCHAR", "base": "VARCHAR",
    "modules": "INTEGER", "rank": "INTEGER", "ranks": "VARCHAR", "alpha": "DOUBLE",
    "dtype": "VARCHAR", "norm": "DOUBLE", "energy_rank": "INTEGER", "effective_rank": "DOUBLE",
    "no_op": "BOOLEAN", "exact": "BOOLEAN", "notes": "VARCHAR", "trigger": "VARCHAR",
    "sketch": "FLOAT[]",
}  # fmt: skip
"""Column → type. ``error`` is empty where the file was read; ``rank`` the largest of its modules;
``norm`` is ‖ΔW‖_F; ``notes`` is a JSON list of sentences."""


def identity(path: Path) -> tuple[int, int]:
    """(bytes, time of change in ns): a file of which neither changed is not read again."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def row_of(path: Path, name: str) -> dict[str, Any]:
    """Reads one file; never raises for what is wrong with the file."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"file": name, "error": ""}
    try:
        row["bytes"], row["modified_ns"] = identity(path)
        row["sha256"] = _digest(path)
        row |= _facts(path)
    except WsdemoError as error:
        row["error"] = f"{error.title}: {error.message}"[:500]
    except OSError as error:
        row["error"] = f"File not accessible: {error.strerror}"
    return row


def _facts(path: Path) -> dict[str, Any]:
    reading = read(path)
    lora, geometry = reading.lora, reading.geometry
    modules = geometry.modules
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
        "sketch": sketch(reading.whole()).tolist(),
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
