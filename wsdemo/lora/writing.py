"""A LoRA as a file: its modules in a program's keys, and everything else that was in the input."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.lora.arithmetic import check_additive
from wsdemo.lora.base_model import ORIGIN
from wsdemo.lora.kept import read_kept
from wsdemo.lora.modules import KeptTensor, Lora
from wsdemo.lora.styles import STYLES, Content, patterns, pipeline_texts, usual_rank
from wsdemo.safetensors_header import TYPES

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What ``--dtype`` may be, beside ``same``."""
_HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
_STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        bytes: Its size.
        dtype: Of its factors.
        warnings: What the input has and the file has not.
    """

    bytes: int
    dtype: str
    warnings: tuple[str, ...]


def save_lora(lora: Lora, path: Path, style: str = "kohya", dtype: str = "float32") -> int:
    """Writes a LoRA as ``write_lora`` does; returns the bytes of the file."""
    return write_lora(lora, path, style, dtype).bytes


def write_lora(lora: Lora, path: Path, style: str = "same", dtype: str = "same") -> Written:
    """Writes a LoRA; the scale is in the factors of what was changed.

    Args:
        lora: What to write.
        path: The .safetensors file; a PEFT adapter's adapter_config.json goes beside it.
        style: ``same`` as the input, ``kohya`` or ``peft``.
        dtype: ``same`` as the input, or one of DTYPES.

    Raises:
        WsdemoError: The LoRA multiplies or is a DoRA and was changed, its modules have no names in
            that style, style or type are unknown, a value is too large for the type, the file
            cannot be written, or another adapter's configuration stands where its own would.
    """
    if style not in STYLES:
        raise WsdemoError("Unknown style", f"Found {style[:20]!r}.", f"Use {', '.join(STYLES)}.")
    if style != "same" or any(m.is_rewritten for m in lora.modules):
        check_additive(lora)
    return write_content(lora, STYLES[style](lora), path, style, dtype)


def write_content(lora: Lora, content: Content, path: Path, style: str, dtype: str) -> Written:
    """Writes what a style made of a LoRA, with all that stands beside its modules."""
    beside = path.parent / "adapter_config.json"
    has_config = bool(content.ranks) and (style == "peft" or _is_peft(lora) or _is_mlx(lora, style))
    if has_config and beside.exists() and not path.exists():
        raise WsdemoError(
            "File exists",
            f"{beside} belongs to another adapter, and would be replaced.",
            "Write into a folder of its own.",
        )
    kept = _beside(lora, content, style)
    stored_type = _dtype(lora, dtype)
    tensors = {
        key: tensor
        if key in content.stored and dtype == "same"
        else _cast(key, tensor, stored_type)
        for key, tensor in content.tensors.items()
    } | kept
    metadata = _metadata(lora, content)
    _write(path, {k: t.contiguous() for k, t in tensors.items()}, metadata)
    if has_config:
        is_mlx = _is_mlx(lora, style)
        config = _mlx_config(lora, content) if is_mlx else _config(lora, content, kept)
        write_whole(beside, json.dumps(config, indent=1) + "\n")
    name = next(
        (n for n, t in DTYPES.items() if t == stored_type), str(stored_type).removeprefix("torch.")
    )
    return Written(path.stat().st_size, name, tuple(content.warnings))


# ---- precision --------------------------------------------------------------------


def _dtype(lora: Lora, dtype: str) -> torch.dtype:
    if dtype in DTYPES:
        return DTYPES[dtype]
    if dtype != "same":
        raise WsdemoError(
            "Unknown type", f"Found {dtype[:20]!r}.", f"Use same, {', '.join(DTYPES)}."
        )
    counts: dict[torch.dtype, int] = {}
    for module in lora.modules:
        stored = TYPES.get(module.dtype, torch.float32)
        counts[stored] = counts.get(stored, 0) + 1
    most = max(counts, key=lambda stored: counts[stored])
    return most if most in _STORED else torch.bfloat16  # of 8 bits: the next that programs read


def _cast(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    cast = tensor.to(dtype)
    if bool(cast.isinf().any()) and not bool(tensor.isinf().any()):
        raise WsdemoError(
            "Values too large",
            f"{key[:80]!r} has values that {str(dtype).removeprefix('torch.')} cannot hold.",
            "Write it with --dtype bfloat16 or float32.",
        )
    return cast


# ---- what stands beside the modules --------------------------------------------------


def _beside(lora: Lora, content: Content, style: str) -> dict[str, Tensor]:
    """Biases, heads, norms, embeddings: by their keys in the new file, as they are stored."""
    if lora.carried is not None:
        tensors, lost = {}, []
        module = {t.key: t.module for t in lora.kept}
        for key, tensor in lora.carried.items():
            new = key if style == "same" else _respelled(key, module.get(key, ""), content, style)
            if new is None:
                lost.append(key)
            else:
                tensors[new] = tensor
        _say_lost(content, lost)
        return tensors
    written: list[KeptTensor] = []
    places: dict[str, str] = {}
    left: list[str] = []
    unread: list[str] = []
    for kept in lora.kept:
        if kept.what == "mark":
            continue
        if kept.what == "unread" or 0 in kept.shape:
            unread.append(kept.key)
            continue
        place = kept.key if style == "same" else _respelled(kept.key, kept.module, content, style)
        if place is None:
            left.append(kept.key)
            continue
        written.append(kept)
        places[kept.key] = place
    _say_lost(content, left)
    if unread:
        content.warnings.append(
            f"{len(unread)} tensors that could not be read are not in the file: {unread[0]} …"
        )
    return {places[k]: t for k, t in _scaled(lora, written, read_kept(written), content).items()}


def _scaled(
    lora: Lora, written: list[KeptTensor], tensors: Mapping[str, Tensor], content: Content
) -> dict[str, Tensor]:
    """Biases of a factor times the scale that is now in the factor."""
    modules = {m.name: m for m in lora.modules}
    stored = {m.name for m in lora.modules if m.keys and m.keys[0] in content.stored}
    scaled = dict(tensors)
    for kept in written:
        module = modules.get(kept.module)
        is_factor = kept.what == "bias" and ".lora_" in kept.key
        if module and is_factor and kept.module not in stored and module.scale != 1:
            tensor = tensors[kept.key]
            scaled[kept.key] = (tensor.float() * module.scale).to(tensor.dtype)
    return scaled


def _respelled(key: str, module: str, content: Content, style: str) -> str | None:
    """A tensor's key in another program's spelling, None if that has none for it.

    ComfyUI reads the bias of an update as ``diff_b``, PEFT as ``lora_B.bias``.
    """
    for ending in (".lora_B.bias", ".diff_b", ".lora_up.bias"):
        if key.endswith(ending) and module in content.names:
            new = ".lora_B.bias" if style in ("peft", "diffusers") else ".diff_b"
            return content.names[module] + new
    if style == "peft":
        return key if key.startswith("base_model.model.") else f"base_model.model.{key}"
    return None


def _say_lost(content: Content, lost: list[str]) -> None:
    if lost:
        content.warnings.append(
            f"Lost: {len(lost)} tensors for which this format has no place (heads, norms, whole"
            f" differences): {lost[0]} …"
        )


# ---- texts ------------------------------------------------------------------------


def _metadata(lora: Lora, content: Content) -> dict[str, str]:
    """The input's texts, with ranks and α brought up to date."""
    texts = {k: v for k, v in lora.metadata.items() if k not in _HASHES}
    is_changed = any(m.is_rewritten for m in lora.modules) or not content.stored
    if is_changed:
        texts.pop("lora_adapter_metadata", None)
        for key in ("alpha", "lora_alpha", "network_alpha", "rank", "r"):
            texts.pop(key, None)
        if "ss_network_dim" in texts or "ss_network_alpha" in texts:
            ranks = sorted({m.rank for m in lora.modules})
            rank = str(ranks[0]) if len(ranks) == 1 else "Dynamic"
            texts |= {"ss_network_dim": rank, "ss_network_alpha": rank}
        texts["wsdemo"] = "scale folded in"
    texts |= content.texts
    if "lora_adapter_metadata" in lora.metadata and "lora_adapter_metadata" not in texts:
        texts |= _diffusers_texts(lora, content)
    return texts | {k: "" for k in _HASHES[:1] + _HASHES[2:] if k in lora.metadata}


def _diffusers_texts(lora: Lora, content: Content) -> dict[str, str]:
    parts: dict[str, dict[str, int]] = {}
    for name, rank in content.ranks.items():
        part, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(part, {})[rest] = rank
    return pipeline_texts(parts)


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes the file, with the hashes of its tensors if its metadata have such fields.

    Kohya's programs take them over the bytes behind the header, which the texts do not change.
    """
    try:
        content = save(dict(tensors), metadata)
        if "sshs_model_hash" in metadata or "modelspec.hash_sha256" in metadata:
            start = 8 + int.from_bytes(content[:8], "little")
            digest = hashlib.sha256(memoryview(content)[start:]).hexdigest()
            for key, text in (("sshs_model_hash", digest),
                              ("modelspec.hash_sha256", f"0x{digest}")):  # fmt: skip
                if key in metadata:
                    metadata[key] = text
            content = save(dict(tensors), metadata)
        write_whole(path, content)
    except (SafetensorError, OSError) as error:
        raise WsdemoError(
            "File not written", f"{path}: {str(error)[:200]}.", "Choose another path."
        ) from error


# ---- the configuration beside it ------------------------------------------------------


def _is_peft(lora: Lora) -> bool:
    """Whether the input is an adapter with a configuration that the new file needs too."""
    return "r" in lora.config or "lora_alpha" in lora.config


def _is_mlx(lora: Lora, style: str) -> bool:
    """Whether the scale stands in MLX's configuration, which is kept."""
    return style == "same" and isinstance(lora.config.get("lora_parameters"), dict)


def _mlx_config(lora: Lora, content: Content) -> dict[str, Any]:
    """MLX's configuration, whose factors keep its scale, with the new rank."""
    old = {k: v for k, v in lora.config.items() if k != ORIGIN}
    rank = usual_rank(list(content.ranks.values()))
    is_new = not content.tensors.keys() <= content.stored
    if is_new and "alpha" not in old["lora_parameters"]:
        old["lora_parameters"] = {**old["lora_parameters"], "rank": rank}
    return old


_COMMON = ("base_model_name_or_path", "revision", "task_type", "inference_mode", "target_modules",
           "exclude_modules", "modules_to_save", "auto_mapping", "layers_to_transform")  # fmt: skip
"""Settings that all of PEFT's methods have."""


def _config(lora: Lora, content: Content, kept: Mapping[str, Tensor]) -> dict[str, Any]:
    """The input's configuration with new ranks and α; a new one if it had none."""
    old = dict(lora.config) if "peft_type" in lora.config or "r" in lora.config else {}
    for key in (ORIGIN, "init_r", "target_r", "rank_dropout", "layers_pattern"):
        old.pop(key, None)
    is_changed = any(m.is_rewritten for m in lora.modules) or not content.stored
    if not is_changed or content.tensors.keys() <= content.stored:
        return old
    if content.stored:
        return _in_part(lora, content, old)
    if old.get("peft_type", "LORA") != "LORA":
        old = {k: v for k, v in old.items() if k in _COMMON}
    new = patterns(content.ranks)
    if isinstance(old.get("target_modules"), list | str):
        new.pop("target_modules")
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "bias": "none",
        **old,
        **new,
    }
    config["peft_type"] = "LORA"
    config["use_rslora"] = False
    if any(key.endswith(".lora_B.bias") for key in kept):
        config["lora_bias"] = True
    return config


def _in_part(lora: Lora, content: Content, old: dict[str, Any]) -> dict[str, Any]:
    """The input's configuration, with scale 1 for the modules that were rewritten."""
    ranks = {m.name: m.rank for m in lora.modules if not m.keys or m.keys[0] not in content.stored}
    is_root = bool(old.get("use_rslora"))
    exact = {f"^{name.replace('.', chr(92) + '.')}": r for name, r in ranks.items()}
    alphas = {key: math.sqrt(r) if is_root else r for key, r in exact.items()}
    return old | {
        "rank_pattern": exact | dict(old.get("rank_pattern") or {}),
        "alpha_pattern": alphas | dict(old.get("alpha_pattern") or {}),
    }
