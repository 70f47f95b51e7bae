"""Dropped LoRAs that are kept at hand, so that each file is read once whatever is done with it."""

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_CONFIG_BYTES, MAX_HELD_READINGS
from wsdemo.lora.reading import Reading, read

Key = tuple[str, int, int, str]


class Readings:
    """The readings of an app, within a bound; the one looked at least recently goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: OrderedDict[Key, Reading] = OrderedDict()
        self._being_read: dict[Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, path: Path, config: dict[str, Any] | None) -> Reading:
        """The reading of a file as it is now; listeners that ask at once wait for one reading.

        Raises:
            WsdemoError: As ``read``.
        """
        facts = path.stat()
        key = (str(path), facts.st_mtime_ns, facts.st_size, json.dumps(config, sort_keys=True))
        with self._lock:
            turn = self._being_read.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    return self._held[key]
            try:
                reading = read(path, config)
                with self._lock:
                    self._held[key] = reading
                    self._make_room()
            finally:
                with self._lock:
                    self._being_read.pop(key, None)
        return reading

    def _make_room(self) -> None:
        def taken() -> int:
            return sum(r.factor_bytes for r in self._held.values() if r.has_factors)

        while len(self._held) > 1 and taken() > self._most:
            self._held.popitem(last=False)

    def clear(self) -> None:
        """Forgets all readings."""
        with self._lock:
            self._held.clear()


HELD = Readings(MAX_HELD_READINGS)


def reading_of(path: str | None, config: str | None = None) -> Reading:
    """The reading of a dropped file, with adapter_config.json if that was dropped too.

    Raises:
        WsdemoError: There is no file, or as ``read``.
    """
    if path is None:
        raise WsdemoError("No file", "There is nothing to read yet.", "Drop a .safetensors file.")
    return HELD.get(Path(path), settings(config))


def settings(config: str | None) -> dict[str, Any] | None:
    """The adapter_config.json that a visitor dropped, if any.

    Raises:
        WsdemoError: It is none.
    """
    if config is None:
        return None
    place = Path(config)
    if place.stat().st_size > MAX_CONFIG_BYTES:
        raise WsdemoError(
            "File too large",
            f"adapter_config.json has {place.stat().st_size:,} bytes; {MAX_CONFIG_BYTES:,} are"
            " allowed.",
            "Take it from the adapter's folder.",
        )
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WsdemoError(
            "Not a configuration",
            f"adapter_config.json is no JSON ({type(error).__name__}).",
            "Take it from the adapter's folder.",
        ) from error
    if not isinstance(values, dict):
        raise WsdemoError("Not a configuration", "It is no JSON object.", "Take PEFT's own.")
    return values
