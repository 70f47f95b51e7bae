"""What a program makes of a file, and the little that all of them are asked with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

from wsdemo.lora.keys import split_key
from wsdemo.lora.modules import Lora, LoraModule

MAX_KEYS = 100
"""Lost keys that are listed; their number is given in full."""
WRAPPED = "base_model.model."
"""How PEFT's keys begin."""


@dataclass(frozen=True)
class Loads:
    """What a program makes of a file.

    Attributes:
        ok: Whether it reads every update; None if the base is not known, so it cannot be said.
        lost: Keys that it drops.
        strength: What it makes of the update, 1 as its author meant it; None if it loads nothing.
        why: In a sentence.
        version: Whose rule it is.
    """

    ok: bool | None
    lost: tuple[str, ...]
    strength: float | None
    why: str
    version: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the lost keys the first MAX_KEYS, and how many there are."""
        return {
            "ok": self.ok,
            "lost_keys": list(self.lost[:MAX_KEYS]),
            "lost": len(self.lost),
            "strength": self.strength,
            "why": self.why,
            "version": self.version,
        }


def roles(module: LoraModule) -> frozenset[str]:
    """The roles of a module's tensors: ``A``, ``alpha``."""
    return _roles(module.keys)


@lru_cache(100_000)
def _roles(keys: tuple[str, ...]) -> frozenset[str]:
    return frozenset(part.role for key in keys if (part := split_key(key)))


def is_wrapped(module: LoraModule) -> bool:
    """Whether its keys begin as PEFT's."""
    return not module.keys or module.keys[0].startswith(WRAPPED)


def keys_of(modules: Iterable[LoraModule]) -> tuple[str, ...]:
    """All their keys, once each; the name of a module without keys."""
    return tuple(dict.fromkeys(key for m in modules for key in (m.keys or (m.name,))))


def refused(lora: Lora, why: str, version: str) -> Loads:
    """The view of a program that loads nothing of a file, and why."""
    return Loads(False, keys_of(lora.modules), None, why, version)


def judged(
    lora: Lora,
    lost: Sequence[LoraModule],
    also: Sequence[str],
    strength: Callable[[LoraModule], float],
    version: str,
) -> Loads:
    """It loads all modules but some.

    Args:
        lora: The file.
        lost: Its modules that get no update, or a wrong one.
        also: Further keys that are dropped.
        strength: Of a module that is read.
        version: Whose rule it is.
    """
    if len(lost) == len(lora.modules):
        return refused(lora, "it has a name for none of its modules", version)
    lost_names = {m.name for m in lost}
    applied = median(strength(m) for m in lora.modules if m.name not in lost_names)
    why = f"it drops {len(lost)} of {len(lora.modules)} modules" if lost else "it reads all modules"
    if also:
        why += f", and drops {len(also)} tensors beside them, such as {also[0][:80]}"
    if abs(applied - 1) > 1e-3:
        why += f", and applies them at {applied:.3g} of their strength: it does not read their α"
    keys = tuple(dict.fromkeys((*keys_of(lost), *also)))
    return Loads(not keys, keys, applied, why, version)
