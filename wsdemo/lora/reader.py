"""Reads any LoRA file: guard, tensors, pairs by name, scale, passport."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_CONFIG_BYTES, MAX_LORA_BYTES
from wsdemo.lora.assembly import Assembly, Read, Take, form_of
from wsdemo.lora.base_model import decide_base
from wsdemo.lora.keys import Part, split_key, what_else, why_ignored
from wsdemo.lora.modules import IgnoredKey, Lora, LoraModule
from wsdemo.lora.scales import Scales
from wsdemo.safetensors_header import TYPES, Header, read_header


def _refuse(title: str, message: str, hint: str) -> WsdemoError:
    return WsdemoError(title, message, hint)


def read_lora(
    path: Path,
    config: Mapping[str, Any] | None = None,
    take: Take | None = None,
) -> Lora:
    """Reads a .safetensors file as a LoRA.

    Args:
        path: The file.
        config: PEFT's adapter_config.json; default: the one beside the file, if any.
        take: Takes the factors of modules as soon as they are read. Of them only the shapes are
            kept then, on torch's device "meta".

    Raises:
        WsdemoError: The file is damaged or beyond limits, holds no LoRA (the message says
            what it holds), or values that are not finite.
    """
    size = path.stat().st_size
    if size > MAX_LORA_BYTES:
        raise _refuse(
            "File too large",
            f"It has {size / 2**30:.1f} GB; {MAX_LORA_BYTES / 2**30:.0f} GB are allowed.",
            "Give the adapter alone, without its base model.",
        )
    header = read_header(path)
    _check_texts(header)
    doubts: list[str] = []
    if config is None:
        config, doubts = _config_beside(path)
    groups, ignored = group(header)
    _check_kind(header, groups)
    with _opened(path, header) as read:
        scales = Scales(config, header.metadata)
        kind = "multiplicative" if _multiplies(config, header.metadata) else "additive"
        found = Assembly(read, header, scales, kind, take)
        found.add(groups)
    lora = _lora(found, ignored, header, config, scales)
    return replace(lora, warnings=(*doubts, *lora.warnings)) if doubts else lora


def _check_texts(header: Header) -> None:
    """JSON can escape half of a character, which no output can show and no file name."""
    try:
        "".join((*header.tensors, *header.metadata, *header.metadata.values())).encode()
    except UnicodeEncodeError as error:
        raise _refuse(
            "Not a readable safetensors file",
            "A name or text in it is no Unicode: it holds half of a surrogate pair.",
            "Save the file again.",
        ) from error


def judge_header(header: Header) -> str:
    """What a header alone says, before a file is downloaded: modules, ranks, base.

    Raises:
        WsdemoError: It holds no LoRA; the message says what it holds.
    """
    _check_texts(header)
    groups, ignored = group(header)
    _check_kind(header, groups)
    groups = {name: roles for name, roles in groups.items() if form_of(tuple(roles))}
    ranks: dict[int, int] = {}
    shapes = {}
    for name, roles in groups.items():
        sides = {role: header.tensors[key][1] for role, (key, _) in roles.items()}
        matrices = [side for role, side in sides.items() if role != "magnitude" and len(side) > 1]
        shapes[name] = tuple(max(side[:2]) for side in matrices)[:2]
        rank = next((sides[role][axis] for role, axis in _RANK_AXES.items()
                     if len(sides.get(role, ())) > axis), 0)  # fmt: skip
        if rank:
            ranks[rank] = ranks.get(rank, 0) + 1
    base = decide_base(header, {}, list(groups), shapes)
    told = ", ".join(f"{r} ({n})" if len(ranks) > 1 else str(r) for r, n in sorted(ranks.items()))
    said = f"{len(groups):,} modules of rank {told or 'unknown'}"
    said += f", for {base.name}" if base.name else ", base model not named"
    return said + (f"; {len(ignored):,} tensors would be ignored." if ignored else ".")


_RANK_AXES = {"down": 0, "A": 0, "embedding_A": 0, "mlx_a": 1, "vit_a": 0, "own_A": 0,
              "hada_w1_b": 0, "lokr_w1_b": 0, "lokr_w2_b": 0}  # fmt: skip
"""Where a tensor's shape has the rank. A LoKr of whole factors and a difference have none."""


def _config_beside(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The adapter_config.json beside a file, and what is wrong with it."""
    beside = path.with_name("adapter_config.json")
    if not beside.is_file():
        return {}, []
    doubt = ["The adapter_config.json beside the file is damaged, and was not used."]
    if beside.stat().st_size > MAX_CONFIG_BYTES:
        return {}, doubt
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}, doubt
    return (found, []) if isinstance(found, dict) else ({}, doubt)


def group(header: Header) -> tuple[dict[str, dict[str, tuple[str, Part]]], list[IgnoredKey]]:
    """Sorts keys into modules: module → role → (key, part); and the keys that fit nowhere."""
    groups: dict[str, dict[str, tuple[str, Part]]] = {}
    ignored = []
    for key in sorted(header.tensors):
        part = split_key(key)
        if part is None:
            ignored.append(IgnoredKey(key, why_ignored(key)))
        elif part.role in groups.setdefault(part.module, {}):
            other = groups[part.module][part.role][0]
            ignored.append(IgnoredKey(key, f"a second {part.role} of the same module, as {other}"))
        else:
            groups[part.module][part.role] = (key, part)
    return groups, ignored


def _check_kind(header: Header, groups: Mapping[str, Mapping[str, Any]]) -> None:
    if any(form_of(tuple(roles)) for roles in groups.values()):
        return
    keys = list(header.tensors)
    what = what_else(keys)
    raise _refuse(
        "No LoRA",
        f"The file holds {what} ({len(keys):,} tensors, such as {keys[0][:60]!r})."
        if keys
        else "The file holds no tensors.",
        "Give a LoRA, LoCon, LoHa, LoKr or DoRA as .safetensors.",
    )


SMALL_BYTES = 2**23
"""A file that is read at once: a system call a tensor costs more than its copy."""


@contextmanager
def _opened(path: Path, header: Header) -> Iterator[Read]:
    """A function that reads tensors of one type and shape; never the file as a whole.

    They are read and not mapped: a map of a file that shrinks meanwhile kills the process.
    """
    with path.open("rb", buffering=0) as opened:
        is_small = path.stat().st_size <= SMALL_BYTES
        file = io.BytesIO(opened.read()) if is_small else opened

        def read(keys: Sequence[str]) -> Tensor:
            (dtype, shape), (start, stop) = header.tensors[keys[0]], header.places[keys[0]]
            content = torch.empty(len(keys), stop - start, dtype=torch.uint8)
            for key, own in zip(keys, content.numpy(), strict=True):
                file.seek(header.places[key][0])
                if file.readinto(own) != len(own):
                    raise _refuse(
                        "Not a readable safetensors file",
                        f"Tensor {key[:80]!r} cannot be read.",
                        "Download it again.",
                    )
            return content.view(TYPES[dtype]).view(len(keys), *shape).float()

        yield read


def _lora(
    found: Assembly,
    ignored: Sequence[IgnoredKey],
    header: Header,
    config: Mapping[str, Any],
    scales: Scales,
) -> Lora:
    """The passport of the modules that were found."""
    ignored = [*ignored, *(i for name in sorted(found.ignored) for i in found.ignored[name])]
    if not found.modules:
        count = len(found.ignored)
        raise _refuse(
            "No LoRA",
            f"None of its {count:,} modules is usable: {ignored[0].why[:120]}.",
            "Save the adapter again from its trainer.",
        )
    modules = [found.modules[name] for name in sorted(found.modules)]
    warnings = [*scales.warnings(modules), *_cuts(modules)]
    warnings += [f"{name}: {found.problems[name]}; left out." for name in sorted(found.problems)]
    if found.second:
        warnings.append(
            f"{len(found.second)} modules hold a second update that was left out:"
            f" {found.second[0]} …"
        )
    if any(m.magnitude is not None for m in modules):
        warnings.append(
            "DoRA: the update depends on the base's own weights; U and V hold the direction "
            "before the magnitude is applied."
        )
    return Lora(
        _family(found.families, header),
        tuple(modules),
        decide_base(header, config, [m.name for m in modules], {m.name: m.shape for m in modules}),
        tuple(sorted(found.alphas)),
        dict(Counter(dtype for dtype, _ in header.tensors.values())),
        found.used,
        tuple(ignored),
        tuple(warnings),
        dict(header.metadata),
        dict(config),
        len(found.problems) + found.halves,
    )


def _cuts(modules: Sequence[LoraModule]) -> list[str]:
    """What was lost where a product of factors or a full difference has too many columns."""
    cut = [m for m in modules if m.is_cut]
    if not cut:
        return []
    columns = sorted({m.rank for m in cut})
    to = f"{columns[0]} to {columns[-1]}" if len(columns) > 1 else f"{columns[0]}"
    least = min(cut, key=lambda m: m.kept)
    return [
        f"{len(cut)} of {len(modules)} modules are cut to {to} columns; the least, {least.name},"
        f" keeps {least.kept:.1%} of its energy. Norms are those of the whole update."
    ]


def _multiplies(config: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    """Whether W' = W ⊙ (U Vᵀ): a PEFT fork's ``use_mlora``, or an mLoRA instance of wsdemo."""
    own = metadata.get("wsdemo", "")
    return bool(config.get("use_mlora")) or '"representation": "mlora' in own


def _family(families: set[str], header: Header) -> str:
    """A name for the format from the families of its keys."""
    keys = list(header.tensors)
    if families == {"PEFT"}:
        if any(k.startswith("diffusion_model.") for k in keys):
            return "ComfyUI / ai-toolkit"
        if any(k.startswith(("unet.", "transformer.", "text_encoder.")) for k in keys):
            return "diffusers (PEFT layers)"
    if families == {"kohya"} and any(k.startswith("lora_transformer_") for k in keys):
        return "ComfyUI / musubi"
    if not families:
        return "unknown"
    order = sorted(families, key=lambda f: (f in ("PEFT", "kohya"), f))
    return " + ".join(order)
