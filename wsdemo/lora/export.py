"""A LoRA for a program: its modules under that program's names, fused as it fuses them."""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.lora import styles
from wsdemo.lora.arithmetic import check_additive
from wsdemo.lora.bases.canonical import by_table, candidates, place, spelled_for
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, Spelling
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.styles import Content
from wsdemo.lora.writing import Written, write_content, write_lora

PROGRAMS = ("comfyui", "diffusers", "kohya", "peft")
_ALSO = {"kohya": ("kohya", "musubi")}
"""A program → the trainers that share its format."""


def export(lora: Lora, program: str, path: Path, dtype: str = "same") -> Written:
    """Writes a LoRA as a program reads it.

    Args:
        lora: What to write.
        program: One of PROGRAMS, or ``same``.
        path: The .safetensors file.
        dtype: As write_lora.

    Raises:
        WsdemoError: The program is unknown or does not know the base; the base is not known and
            its names matter; as write_lora.
    """
    if program == "same":
        return write_lora(lora, path, "same", dtype)
    if program not in PROGRAMS:
        raise WsdemoError(
            "Unknown program", f"Found {program[:20]!r}.", f"Use {', '.join(PROGRAMS)}."
        )
    check_additive(lora)
    possible = candidates(lora)
    if not possible:
        if program in ("kohya", "peft"):
            return write_content(lora, styles.STYLES[program](lora), path, program, dtype)
        raise WsdemoError(
            "Base not known",
            f"{lora.modules[0].name[:80]!r} and the others are no modules of a base that is known"
            f" here, so their names for {program} are not either.",
            "Export it for peft or kohya, which keep names.",
        )
    base = possible[0]
    content = content_for(lora, base, program)
    others = [b for b in possible[1:] if _differs(lora, base, b, program)]
    if others:
        content.warnings.append(
            f"Written as {base.name}; as {', '.join(b.name for b in others)}, which it may be"
            " too, its names would differ."
        )
    return write_content(lora, content, path, program, dtype)


def content_for(lora: Lora, base: Base, program: str) -> Content:
    """The tensors of a LoRA of a known base, in a program's keys.

    Raises:
        WsdemoError: The program does not know this base.
    """
    spelling = next(
        (s for p in _ALSO.get(program, (program,)) if (s := base.writes(p)) is not None), None
    )
    if spelling is None:
        knows = [p for p in PROGRAMS if base.writes(p) or any(map(base.writes, _ALSO.get(p, ())))]
        raise WsdemoError(
            f"Not for {program}",
            f"{program} has no LoRAs of {base.name} that are known here.",
            f"Export it for {' or '.join(knows)}.",
        )
    modules = by_table(lora, base)
    content = Content()
    parts: dict[str, dict[str, int]] = {}
    lost: list[str] = []
    by_part: dict[str, dict[str, LoraModule]] = {}
    for key, module in modules.items():
        part, dot, name = key.partition(".")
        if ":" in part or not dot:
            lost.append(module.name)
        else:
            by_part.setdefault(part, {})[name] = module
    written: dict[str, LoraModule] = {}
    for part, in_part in by_part.items():
        named, missing = _named(in_part, base, part, program, spelling)
        written |= named
        lost += missing
    alpha = styles.usual_rank([m.rank for m in written.values()]) if written else 1
    for name, module in written.items():
        if re.match(r"lora_|lycoris_", name):
            styles.put_kohya(content, module, name, alpha)
        else:
            styles.put_peft(content, module, name)
        if program == "diffusers":
            first, _, rest = name.partition(".")
            parts.setdefault(first, {})[rest] = module.rank
        elif program == "peft":
            content.ranks[name.removeprefix("base_model.model.")] = module.rank
    content.names = _own_names(lora, base, written)
    content.texts |= styles.pipeline_texts(parts)
    if not written:
        raise WsdemoError(
            f"Not for {program}",
            f"{program} has a name for none of its modules: {lost[0][:80]} …",
            "Export it for another program.",
        )
    _warn(content, lora, modules, written, lost, program)
    return content


def _named(
    modules: Mapping[str, LoraModule], base: Base, part: str, program: str, spelling: Spelling
) -> tuple[dict[str, LoraModule], list[str]]:
    """One part of a pipeline in a program's names, and what has none."""
    if part == "model":
        return spelled_for(modules, base, spelling)
    if part == "model_2":
        second = Spelling(program, "transformer_2.", "canonical")
        return spelled_for(modules, base, second) if program == "diffusers" else ({}, list(modules))
    number = int(part.removeprefix("text_encoder_") or 1)
    prefix = _encoder_prefix(base, number, program)
    if prefix is None:
        return {}, list(modules)
    flat = Spelling(program, prefix, "canonical")
    return {flat.of(name): module for name, module in modules.items()}, []


def _encoder_prefix(base: Base, number: int, program: str) -> str | None:
    """How the names of a text encoder's modules begin; None if the program has no place for it."""
    if program == "diffusers":
        return "text_encoder." if number == 1 else f"text_encoder_{number}."
    if program == "peft":
        return None
    if len(base.encoders) == 1:
        return "lora_te_"
    is_t5_of_two = base.encoders[number - 1] == "t5_xxl" and number == 2
    return "lora_te3_" if is_t5_of_two else f"lora_te{number}_"


def _own_names(lora: Lora, base: Base, written: Mapping[str, LoraModule]) -> dict[str, str]:
    """The names of modules that kept all their rows: module → full name in the file."""
    names = {}
    for name, module in written.items():
        sources = [m for m in lora.modules if m.V is module.V and len(m.U) == len(module.U)]
        if len(sources) == 1:
            names[sources[0].name] = name
    return names


def _warn(
    content: Content,
    lora: Lora,
    modules: Mapping[str, LoraModule],
    written: Mapping[str, LoraModule],
    lost: Sequence[str],
    program: str,
) -> None:
    if lost:
        content.warnings.append(f"Lost: {program} has no name for {len(lost)} modules: {lost[0]} …")
    before = max(m.rank for m in lora.modules)
    after = max(m.rank for m in written.values())
    if after > before:
        content.warnings.append(
            f"Ranks grow from {before} to {after}: {program} fuses modules that have factors of"
            " their own here. Resize it if it is to be smaller."
        )
    cut = [m for m in lora.modules if m.is_cut]
    if cut:
        content.warnings.append(
            f"{len(cut)} modules are cut; the least keeps {min(m.kept for m in cut):.1%} of its"
            " energy."
        )


def _differs(lora: Lora, base: Base, other: Base, program: str) -> bool:
    """Whether a LoRA's modules have other names in another base, for this program."""
    first, second = base.writes(program), other.writes(program)
    if first is None or second is None:
        return False
    if first.prefix != second.prefix:
        return True
    for module in lora.modules:
        in_base, in_other = place(module.name, base), place(module.name, other)
        if (in_base is None) != (in_other is None):
            return True
        if (
            in_base
            and in_other
            and [p.module for p in in_base[2].pieces] != [p.module for p in in_other[2].pieces]
        ):
            return True
    return False


# ---- some of the modules -------------------------------------------------------------

_BLOCKS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def select(lora: Lora, only: Sequence[str] = (), without: Sequence[str] = ()) -> Lora:
    """The modules that one of ``only`` means (all, if it is empty) and none of ``without``.

    Args:
        lora: Of which modules are taken.
        only: Each a part of a name, a pattern with ``*``, or numbers of blocks, ``7`` or
            ``8-11``; several in one text with commas between them. Names are the file's own, or
            the canonical ones.
        without: The same.

    Raises:
        WsdemoError: That leaves nothing, or a text means no module at all.
    """
    base = next(iter(candidates(lora)), None)
    names = {m.name: _names(m.name, base) for m in lora.modules}

    def meant(texts: Sequence[str]) -> set[str]:
        named: set[str] = set()
        for text in (t.strip() for listed in texts for t in listed.split(",")):
            meant_by = {name for name, known in names.items() if text and _means(text, known)}
            if not meant_by:
                raise WsdemoError(
                    "No such module",
                    f"{text[:80]!r} means none of the {len(names):,} modules, such as"
                    f" {lora.modules[0].name[:80]!r}.",
                    "Give a part of a name, a pattern with *, or numbers of blocks.",
                )
            named |= meant_by
        return named

    taken = (meant(only) if only else set(names)) - (meant(without) if without else set())
    if not taken:
        raise WsdemoError("Nothing left", "Every module is left out.", "Leave out fewer.")
    modules = tuple(m for m in lora.modules if m.name in taken)
    kept = tuple(t for t in lora.kept if not t.module or t.module in taken)
    return dataclasses.replace(lora, modules=modules, kept=kept)


def _names(name: str, base: Base | None) -> tuple[str, ...]:
    placed = place(name, base) if base else None
    return (name, *(p.module for p in placed[2].pieces)) if placed else (name, spelled(name).rest)


def _means(text: str, names: Sequence[str]) -> bool:
    blocks = _BLOCKS.fullmatch(text)
    if blocks:
        low, high = int(blocks[1]), int(blocks[2] or blocks[1])
        numbers = [re.search(r"(?:^|[._])(\d{1,4})(?=[._]|$)", name) for name in names]
        return any(n is not None and low <= int(n[1]) <= high for n in numbers)
    if "*" in text or "?" in text:
        return any(fnmatch.fnmatchcase(name, text) for name in names)
    return any(text in name for name in names)
