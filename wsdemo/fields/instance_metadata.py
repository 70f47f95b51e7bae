"""The metadata of an instance file, field by field: there, of its type, and within bounds."""

import math
from collections.abc import Sequence
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_MEASURED, MAX_SEED

PLACE = ("centre_x", "centre_y", "centre_z", "scale")
"""Where a mesh stood: all of them, or none."""
LARGEST = 1e30
"""Of a measured value; coordinates beyond it cannot be computed with."""


def _wrong(name: str, found: Any, expected: str) -> WsdemoError:
    return WsdemoError(
        "Not an instance of this app",
        f"Its metadata have {name} = {str(found)[:40]!r}; expected {expected}.",
        "Give a file that Fit or Sample wrote, as they wrote it.",
    )


MISSING = object()


def _field(table: Any, path: str, default: Any = MISSING) -> Any:
    """The value at a dotted path."""
    value = table
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            if default is not MISSING:
                return default
            raise WsdemoError(
                "Not an instance of this app",
                f"Its metadata lack {path}.",
                "Give a file that Fit or Sample wrote, as they wrote it.",
            )
        value = value[name]
    return value


def _text(table: Any, path: str) -> str:
    value = _field(table, path)
    if not isinstance(value, str):
        raise _wrong(path, value, "a text")
    return value


def _whole(table: Any, path: str, low: int, high: int, default: Any = MISSING) -> int:
    """A whole number; 5.0 counts as one, as some programs write it so."""
    value = _field(table, path, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value or abs(value) == math.inf or value != int(value):
        raise _wrong(path, value, "a whole number")
    if not low <= value <= high:
        raise _wrong(path, value, f"{low} to {high:,}")
    return int(value)


def _number(value: Any, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(path, value, "a number")
    if not abs(value) <= LARGEST:
        raise _wrong(path, value, "a finite number")
    return float(value)


def _one_of(table: Any, path: str, allowed: Sequence[Any]) -> Any:
    value = _field(table, path)
    if isinstance(value, bool) or value not in allowed:
        raise _wrong(path, value, " or ".join(map(repr, allowed)))
    return value


def checked_metadata(meta: Any, version: int) -> dict[str, Any]:
    """Checks the parsed metadata of an instance.

    Args:
        meta: What the JSON holds.
        version: Of the format.

    Returns:
        The metadata with whole numbers as int and measured ones as float.

    Raises:
        WsdemoError: A field is missing, of another type, not finite or out of bounds: it is named.
    """
    if not isinstance(meta, dict):
        raise _wrong("wsdemo", meta, "a JSON object")
    _one_of(meta, "kind", ("instance",))
    _one_of(meta, "version", (version,))
    for path in ("domain", "base.name", "base.hash", "adapter.representation"):
        _text(meta, path)
    canonical = _field(meta, "canonical", False)
    if not isinstance(canonical, bool):
        raise _wrong("canonical", canonical, "true or false")
    adapter = dict(_field(meta, "adapter"))
    adapter["rank"] = _whole(meta, "adapter.rank", 1, 10**9)
    adapter["seed"] = _whole(meta, "adapter.seed", 0, MAX_SEED)
    return {
        **meta,
        "adapter": adapter,
        "size": _whole(meta, "size", 1, 4096),
        "measured": _measured(_field(meta, "measured")),
        "canonical": canonical,
    }


def _measured(measured: Any) -> dict[str, float]:
    if not isinstance(measured, dict) or len(measured) > MAX_MEASURED:
        raise _wrong("measured", measured, f"an object of at most {MAX_MEASURED} numbers")
    values = {
        name[:80]: _number(value, f"measured.{name[:40]}") for name, value in measured.items()
    }
    placed = [name for name in PLACE if name in values]
    if placed and len(placed) < len(PLACE):
        missing = ", ".join(f"measured.{name}" for name in PLACE if name not in values)
        raise WsdemoError(
            "Not an instance of this app",
            f"Its metadata have measured.{placed[0]} and lack {missing}: where the mesh stood.",
            "Fit the mesh again, or remove all of " + ", ".join(PLACE) + ".",
        )
    if placed and not values["scale"] > 0:
        raise _wrong("measured.scale", values["scale"], "a number above 0")
    return values
