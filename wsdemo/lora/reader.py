"""Reads any LoRA: guard, tensors, pairs by name, scale, passport."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_CONFIG_BYTES
from wsdemo.lora.assembly import Assembly, Take
from wsdemo.lora.base_model import decide_base
from wsdemo.lora.columns import columns
from wsdemo.lora.containers import finding
from wsdemo.lora.containers.container import Container
from wsdemo.lora.forms.choice import form_of
from wsdemo.lora.grouping import Beside, Groups, group
from wsdemo.lora.llama_cpp import straightened
from wsdemo.lora.modules import IgnoredKey, KeptTensor, Lora, LoraModule
from wsdemo.lora.refused import READ_TYPES, REPEATED, refused_type, what_else
from wsdemo.lora.scales import Scales
from wsdemo.lora.settings import Settings
from wsdemo.lora.twins import count_once
from wsdemo.safetensors_header import Header


def _refuse(title: str, message: str, hint: str) -> WsdemoError:
    return WsdemoError(title, message, hint)


def read_lora(
    path: Path,
    config: Mapping[str, Any] | None = None,
    take: Take | None = None,
    adapter: str = "",
) -> Lora:
    """Reads a LoRA: .safetensors, its shards or their index, .npz, GGUF, or a folder with one.

    Args:
        path: The file or folder.
        config: PEFT's adapter_config.json; default: the one beside the file, if any.
        take: Takes the factors of modules as soon as they are read. Of them only the shapes are
            kept then, on torch's device "meta".
        adapter: The name of one of several adapters, in the file or in the folder.

    Raises:
        WsdemoError: There is no adapter of this name; the file is damaged or beyond limits, holds
            no LoRA (the message says what it holds), or values that are not finite.
    """
    file, adapter = finding.chosen(path, adapter)
    doubts = _others_of(path, file)
    if config is None:
        config, damaged = _config_beside(file)
        doubts += damaged
    with finding.opened(file) as container:
        header = container.header
        _check_texts(header)
        settings = Settings({**container.config, **config}, header.metadata)
        groups = group(header, adapter)
        settings.columns = columns(groups, header, settings)
        _check_kind(header, groups, settings.peft_type, bool(settings.columns))
        count_once(groups, header, container.read)
        scales = Scales(settings, header.metadata)
        kind = "multiplicative" if _multiplies(config, header.metadata) else "additive"
        assembly = Assembly(container.read, header, settings, scales, kind, take)
        assembly.add(groups.modules)
        findings = _Findings(groups, assembly, settings, scales, container, doubts)
        return _lora(findings, config, file)


def _others_of(path: Path, file: Path) -> list[str]:
    """Says which other adapters lie in a folder."""
    others = [name for name in finding.adapters_below(path) if name != file.parent.name]
    if not others:
        return []
    shown = ", ".join(name[:40] for name in others[:8])
    return [f"The folder holds other adapters: {shown}. Choose one with --adapter NAME."]


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
    groups = group(header)
    _check_kind(header, groups, "")
    modules = {name: roles for name, roles in groups.modules.items() if form_of(tuple(roles))}
    ranks: dict[int, int] = {}
    shapes = {}
    for name, roles in modules.items():
        sides = {role: header.tensors[key][1] for role, (key, _) in roles.items()}
        matrices = [side for role, side in sides.items() if role != "magnitude" and len(side) > 1]
        shapes[name] = tuple(max(side[:2]) for side in matrices)[:2]
        rank = next((sides[role][axis] for role, axis in _RANK_AXES.items()
                     if len(sides.get(role, ())) > axis), 0)  # fmt: skip
        if rank:
            ranks[rank] = ranks.get(rank, 0) + 1
    base = decide_base(header, {}, list(modules), shapes)
    counts = ", ".join(f"{r} ({n})" if len(ranks) > 1 else str(r) for r, n in sorted(ranks.items()))
    text = f"{len(modules):,} modules of rank {counts or 'unknown'}"
    text += f", for {base.name}" if base.name else ", base model not named"
    left = len(groups.beside)
    return text + (f"; {left:,} tensors would be ignored." if left else ".")


_RANK_AXES = {"down": 0, "A": 0, "embedding_A": 0, "mlx_a": 1, "vit_a": 0, "own_A": 0,
              "hada_w1_b": 0, "lokr_w1_b": 0, "lokr_w2_b": 0, "hira_A": 0, "gralora_A": 2,
              "miss_block": 0,
              "down.0": 0}  # fmt: skip
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
        settings = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}, doubt
    return (settings, []) if isinstance(settings, dict) else ({}, doubt)


def _check_kind(
    header: Header, groups: Groups, peft_type: str, knows_columns: bool = False
) -> None:
    """Refuses by name what is no LoRA, or a method whose update is not in its file."""
    keys = list(header.tensors)
    is_refused = refused_type(peft_type) and not (peft_type in REPEATED and knows_columns)
    is_repeated = all("miss_block" in roles for roles in groups.modules.values())
    if groups.has_update and not is_refused and (knows_columns or not is_repeated):
        return
    what = what_else(keys, peft_type)
    message = "The file holds no tensors."
    if keys:
        message = f"The file holds {what} ({len(keys):,} tensors, such as {keys[0][:60]!r})."
    if groups.pruned:
        message = f"All of its {len(groups.pruned):,} modules were pruned to rank 0: it is nothing."
    elif groups.notes and any(0 in shape for _, shape in header.tensors.values()):
        message += f" {groups.notes[0]}."
    raise _refuse("No LoRA", message, "Give a LoRA, LoCon, LoHa, LoKr or DoRA as .safetensors.")


class _Findings:
    """All that is to be said of what was read, and the tensors that were not.

    Attributes:
        assembly: The modules.
        beside: The tensors that are no part of them.
        doubts: Why the file is not exact.
        warnings: What its author should know, the doubts included.
        settings: Of the adapter.
        container: What it lies in.
    """

    def __init__(
        self,
        groups: Groups,
        assembly: Assembly,
        settings: Settings,
        scales: Scales,
        container: Container,
        damaged: Sequence[str],
    ) -> None:
        self.assembly, self.settings, self.container = assembly, settings, container
        self.beside = sorted([*groups.beside, *assembly.beside], key=lambda b: b.key)
        self.modules = [assembly.modules[name] for name in sorted(assembly.modules)]
        self.doubts = [*groups.doubts, *settings.doubts, *_config_doubts(settings, self.modules)]
        notes = list(groups.notes)
        if container.is_gguf:
            self.modules, note = straightened(self.modules, container.header.metadata)
            notes += [note] if note else []
        if not container.is_whole:
            self.doubts.append("parts of the adapter are missing")
        self.warnings = [*damaged, *container.notes, *map(_sentence, self.doubts)]
        self.warnings += [*scales.warnings(self.modules), *_cuts(self.modules)]
        self.warnings += [
            f"{name}: {assembly.problems[name]}; left out." for name in sorted(assembly.problems)
        ]
        self.warnings += map(_sentence, notes)
        self.warnings += _of_modules(assembly, self.modules)
        self.warnings += _of_kept(self.beside)


def _sentence(text: str) -> str:
    first = text[0] if "_" in text.split()[0] else text[0].upper()
    return first + text[1:].rstrip(".") + "."


def _config_doubts(settings: Settings, modules: Sequence[LoraModule]) -> list[str]:
    doubts = []
    kind = settings.peft_type
    if kind and kind not in READ_TYPES:
        doubts.append(f"peft_type is {kind!r}, which is not known here")
    if settings.config.get("use_dora") and not any(m.magnitude is not None for m in modules):
        doubts.append("use_dora is set, and the file has no magnitudes")
    return doubts


def _of_modules(assembly: Assembly, modules: Sequence[LoraModule]) -> list[str]:
    texts = []
    if assembly.second:
        texts.append(
            f"{len(assembly.second)} modules hold a second update that was left out:"
            f" {assembly.second[0]} …"
        )
    for doubt, names in sorted(assembly.doubtful.items()):
        texts.append(f"{len(names)} modules are not exact ({names[0][:80]} …): {doubt}.")
    if any(m.magnitude is not None for m in modules):
        texts.append(
            "DoRA: the update depends on the base's own weights; U and V hold the direction "
            "before the magnitude is applied."
        )
    return texts


_WHOLE = {
    "head": "whole weights of heads and other modules", "embedding": "embeddings",
    "tokens": "new rows of an embedding (trainable_token_indices)",
    "difference": "whole differences", "bias": "biases", "norm": "normalisation layers",
}  # fmt: skip


def _of_kept(beside: Sequence[Beside]) -> list[str]:
    """Whole tensors beside the update, which act on the base as well."""
    kinds: dict[str, list[str]] = {}
    for tensor in beside:
        if tensor.what in _WHOLE:
            kinds.setdefault(tensor.what, []).append(tensor.key)
    if not kinds:
        return []
    counted = [f"{_WHOLE[what]} ({len(keys)}: {keys[0][:80]}{' …' if len(keys) > 1 else ''})"
            for what, keys in kinds.items()]  # fmt: skip
    return [f"Beside the updates it holds {'; '.join(counted)}."]


def _lora(findings: _Findings, config: Mapping[str, Any], file: Path) -> Lora:
    """The passport of the modules that were found."""
    assembly, modules, container = findings.assembly, findings.modules, findings.container
    header = container.header
    if not modules:
        count = len(assembly.problems) + assembly.halves
        why = next((b.why for b in findings.beside if b.what == "unread"), "nothing fits")
        raise _refuse(
            "No LoRA",
            f"None of its {count:,} modules is usable: {why[:120]}.",
            "Save the adapter again from its trainer.",
        )
    kept = tuple(
        KeptTensor(b.key, *header.tensors[b.key], container.path_of(b.key), b.what, b.why, b.module)
        for b in findings.beside
    )
    return Lora(
        _family(assembly.families, header),
        tuple(modules),
        decide_base(header, config, [m.name for m in modules], {m.name: m.shape for m in modules}),
        tuple(sorted(assembly.alphas)),
        dict(Counter(dtype for dtype, _ in header.tensors.values())),
        assembly.used,
        tuple(IgnoredKey(b.key, b.why) for b in findings.beside),
        tuple(findings.warnings),
        dict(header.metadata),
        dict(config),
        len(assembly.problems) + assembly.halves,
        kept,
        file,
        dict(container.places),
        tuple(findings.doubts),
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
    instance = metadata.get("wsdemo", "")
    return bool(config.get("use_mlora")) or '"representation": "mlora' in instance


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
