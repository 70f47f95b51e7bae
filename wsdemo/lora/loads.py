"""Does it load? Which tensors a program reads under this file's names, and how strong it then is.

By each program's own rules, as the tables and the versions below have them. A tensor that a
program has no name for is dropped by it, mostly without a word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from wsdemo.lora.bases.canonical import candidates
from wsdemo.lora.bases.recognise import encoder_of
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, all_tables
from wsdemo.lora.keys import split_key
from wsdemo.lora.modules import Lora, LoraModule

VERSIONS = {
    "diffusers": "0.42.1", "comfyui": "a125cd8 (October 2025)", "kohya": "sd-scripts 48d368f",
    "peft": "0.21.2", "vllm": "PEFT adapters, as its documentation has them",
    "llama.cpp": "convert_lora_to_gguf.py",
}  # fmt: skip
"""Whose rules these are."""
MAX_KEYS = 100
"""Lost keys that are listed; their number is given in full."""
_WRAPPED = "base_model.model."
_LYCORIS = ("hada_", "lokr_")


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
        """Plain values."""
        return {
            "ok": self.ok,
            "lost_keys": list(self.lost[:MAX_KEYS]),
            "lost": len(self.lost),
            "strength": self.strength,
            "why": self.why,
            "version": self.version,
        }


def loads_in(lora: Lora) -> dict[str, Loads]:
    """Every program's view of a LoRA."""
    base = next(iter(candidates(lora)), None)
    reads: dict[str, Callable[[LoraModule], bool]] = {
        "diffusers": lambda m: _by_name(m, base, "diffusers") and _diffusers_form(m),
        "comfyui": lambda m: _by_name(m, base, "comfyui"),
        "kohya": lambda m: _by_name(m, base, "kohya") and _has(m, ("down", "up")),
        "peft": lambda m: _is_wrapped(m) and _has(m, ("A", "B", "embedding_A")),
        "vllm": lambda m: _is_wrapped(m) and _has(m, ("A", "B")) and m.magnitude is None,
        "llama.cpp": lambda m: _is_wrapped(m) and _has(m, ("A", "B")) and m.magnitude is None,
    }
    is_language = base is not None and not base.component
    found = {}
    for program, read in reads.items():
        is_for_languages = program in ("vllm", "llama.cpp")
        if is_for_languages and not is_language:
            continue
        needs_config = program in ("peft", "vllm", "llama.cpp")
        if needs_config and "lora_alpha" not in lora.config and "alpha" not in lora.config:
            found[program] = _refused(lora, program, "it needs adapter_config.json beside the file")
        elif base is None and program in ("diffusers", "comfyui", "kohya"):
            found[program] = Loads(
                None, (), None, "the base is not known, so its names are not", VERSIONS[program]
            )
        else:
            found[program] = _judged(lora, program, read)
    return found


def _judged(lora: Lora, program: str, read: Callable[[LoraModule], bool]) -> Loads:
    known = [read(m) for m in lora.modules]
    lost = [m for m, is_read in zip(lora.modules, known, strict=True) if not is_read]
    keys = tuple(dict.fromkeys(k for m in lost for k in (m.keys or (m.name,))))
    if len(lost) == len(lora.modules):
        return _refused(lora, program, "it has a name for none of its modules")
    strengths = [
        _strength(lora, m, program)
        for m, is_read in zip(lora.modules, known, strict=True)
        if is_read
    ]
    told = median(strengths)
    why = f"it drops {len(lost)} of {len(lora.modules)} modules" if lost else "it reads all modules"
    if abs(told - 1) > 1e-3:
        why += f", and applies them at {told:.3g} of their strength: it does not read their α"
    return Loads(not lost, keys, told, why, VERSIONS[program])


def _refused(lora: Lora, program: str, why: str) -> Loads:
    keys = tuple(dict.fromkeys(k for m in lora.modules for k in (m.keys or (m.name,))))
    return Loads(False, keys, None, why, VERSIONS[program])


def _strength(lora: Lora, module: LoraModule, program: str) -> float:
    """ComfyUI and diffusers do not read adapter_config.json: without α in the file it is 1."""
    roles = _roles(module)
    is_configured = ("A" in roles or "embedding_A" in roles) and "alpha" not in roles
    reads_config = program in ("peft", "vllm", "llama.cpp")
    reads_texts = program == "diffusers" and "lora_adapter_metadata" in lora.metadata
    if not is_configured or reads_config or reads_texts or module.scale == 0:
        return 1.0
    return 1.0 / module.scale


def _roles(module: LoraModule) -> set[str]:
    return {part.role for key in module.keys if (part := split_key(key))}


def _has(module: LoraModule, roles: tuple[str, ...]) -> bool:
    return bool(_roles(module) & set(roles)) or not module.keys


def _diffusers_form(module: LoraModule) -> bool:
    """Diffusers reads pairs; LoHa, and LoKr but for a few bases, it does not."""
    return not any(role.startswith(_LYCORIS) or role == "diff" for role in _roles(module))


def _is_wrapped(module: LoraModule) -> bool:
    return not module.keys or module.keys[0].startswith(_WRAPPED)


def _by_name(module: LoraModule, base: Base | None, program: str) -> bool:
    """Whether a program reads a module's name as the file spells it."""
    if base is None:
        return False
    own = spelled(module.name)
    if not own.part.startswith("model"):
        return _encoder_by_name(module, base, program)
    entry = base.find(own.flat)
    if entry is None:
        return False
    prefix = own.prefix
    if module.keys and module.keys[0].startswith(_WRAPPED):
        prefix = _WRAPPED + prefix
    programs = ("kohya", "musubi") if program == "kohya" else (program,)
    return any(
        s.program in programs and s.prefix == prefix and s.naming in entry.namings
        for s in base.spellings
    )


def _encoder_by_name(module: LoraModule, base: Base, program: str) -> bool:
    own = spelled(module.name)
    encoder = encoder_of(base, own.part)
    if encoder is None or all_tables()[encoder].find(own.flat) is None:
        return False
    return own.is_flat if program == "kohya" else own.part != encoder or program == "comfyui"
