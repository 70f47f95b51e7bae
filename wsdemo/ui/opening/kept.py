"""Results that ship with the page, written once and read at each start: nothing is computed."""

import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from wsdemo.domains.registry import DOMAINS
from wsdemo.files import write_whole

FOLDER = Path(__file__).parent / "kept"
QUALITY = 88
"""Of the pictures, as WebP."""


def stamp() -> dict[str, str]:
    """What recorded results belong to: the base of every domain."""
    return {name: str(domain.base[1]["hash"])[:16] for name, domain in DOMAINS.items()}


# ---- writing ---------------------------------------------------------------------------


def _packed(value: Any, folder: Path, name: str) -> Any:
    """A value as JSON, with pictures and files beside it."""
    if isinstance(value, Image.Image):
        path = folder / f"{name}.webp"
        value.convert("RGB").save(path, quality=QUALITY, method=6)
        return {"$picture": path.name}
    if isinstance(value, pd.DataFrame):
        return {
            "$table": json.loads(value.to_json(orient="split", index=False, double_precision=6))
        }
    if isinstance(value, Path):
        content = value.read_bytes()
        for path in folder.rglob(value.name):  # the same file may stand in two places
            if path.read_bytes() == content:
                return {"$file": str(path.relative_to(folder))}
        path = folder / name / value.name
        path.parent.mkdir()
        path.write_bytes(content)
        return {"$file": f"{name}/{value.name}"}
    if isinstance(value, Mapping):
        return {key: _packed(part, folder, f"{name}-{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(part, folder, f"{name}-{i}") for i, part in enumerate(value)]
    return value


def keep(part: str, values: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Writes a part: values by name, of pictures, tables, paths of files, and JSON."""
    place = folder / part
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    packed = {name: _packed(value, place, name) for name, value in values.items()}
    content = json.dumps({"stamp": stamp(), "values": packed}, indent=1, sort_keys=True)
    write_whole(place / "part.json", content + "\n")


# ---- reading ---------------------------------------------------------------------------


def _unpacked(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        for mark in ("$picture", "$file"):
            if mark in value:
                return str(folder / value[mark])
        if "$table" in value:
            return pd.DataFrame(value["$table"]["data"], columns=value["$table"]["columns"])
        return {key: _unpacked(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_unpacked(part, folder) for part in value]
    return value


@cache
def kept(part: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A part as it was recorded, pictures and files as paths; empty where it belongs to other
    checkpoints than those that are there, or is missing."""
    place = folder / part
    if not (place / "part.json").is_file():
        return {}
    content = json.loads((place / "part.json").read_text(encoding="utf-8"))
    now = stamp()
    if any(now.get(name) != value for name, value in content["stamp"].items()):
        return {}
    values: dict[str, Any] = _unpacked(content["values"], place)
    return values
