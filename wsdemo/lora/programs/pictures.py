"""ComfyUI and kohya's programs: by the tables' spellings of a base."""

from functools import lru_cache

from wsdemo.lora.bases.recognise import encoder_of
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, all_tables
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.programs.view import WRAPPED, Loads, judged, roles

VERSIONS = {"comfyui": "a125cd8 (October 2025)", "kohya": "sd-scripts 48d368f"}


def in_pictures(lora: Lora, base: Base | None, program: str) -> Loads:
    """What ``comfyui`` or ``kohya`` makes of a file."""
    version = VERSIONS[program]
    if base is None:
        return Loads(None, (), None, "the base is not known, so its names are not", version)
    lost = [m for m in lora.modules if not _reads(m, base, program)]
    return judged(lora, lost, (), _strength, version)


def _reads(module: LoraModule, base: Base, program: str) -> bool:
    if program == "kohya" and module.keys and not roles(module) & {"down", "up"}:
        return False
    return _by_name(module, base, program)


def _by_name(module: LoraModule, base: Base, program: str) -> bool:
    """Whether a program reads a module's name as the file spells it."""
    name = spelled(module.name)
    if not name.part.startswith("model"):
        return _encoder_by_name(module, base, program)
    entry = base.find(name.flat)
    if entry is None:
        return False
    prefix = name.prefix
    if module.keys and module.keys[0].startswith(WRAPPED):
        prefix = WRAPPED + prefix
    known = _spellings(base, program)
    return any((prefix, naming) in known for naming in entry.namings)


@lru_cache(maxsize=256)
def _spellings(base: Base, program: str) -> frozenset[tuple[str, str]]:
    """(prefix, naming) of the spellings that a program reads."""
    programs = ("kohya", "musubi") if program == "kohya" else (program,)
    return frozenset((s.prefix, s.naming) for s in base.spellings if s.program in programs)


def _encoder_by_name(module: LoraModule, base: Base, program: str) -> bool:
    name = spelled(module.name)
    encoder = encoder_of(base, name.part)
    if encoder is None or all_tables()[encoder].find(name.flat) is None:
        return False
    return name.is_flat if program == "kohya" else True


def _strength(module: LoraModule) -> float:
    """adapter_config.json is not read: without α in the file the scale is 1."""
    module_roles = roles(module)
    if "alpha" in module_roles or not module_roles & {"A", "embedding_A"} or module.scale == 0:
        return 1.0
    return 1.0 / module.scale
