"""Reads any LoRA file: guard, tensors, pairs by name, scale, passport."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_LORA_BYTES, MAX_RANK
from wsdemo.lora import convert
from wsdemo.lora.base_model import decide_base
from wsdemo.lora.convert import Factors, Unusable
from wsdemo.lora.keys import Part, split_key, what_else, why_ignored
from wsdemo.lora.modules import IgnoredKey, Lora, LoraModule
from wsdemo.safetensors_header import Header, read_header

Parts = dict[str, tuple[str, Tensor]]
"""Role → (key, tensor) of one module."""


def _refuse(title: str, message: str, hint: str) -> WsdemoError:
    return WsdemoError(title, message, hint)


def read_lora(path: Path, config: Mapping[str, Any] | None = None) -> Lora:
    """Reads a .safetensors file as a LoRA.

    Args:
        path: The file.
        config: PEFT's adapter_config.json; default: the one beside the file, if any.

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
    if config is None:
        config = _config_beside(path)
    groups, ignored = group(header)
    _check_kind(header, groups)
    tensors = _load(path, header, groups)
    return assemble(tensors, groups, ignored, header, config or {})


def judge_header(header: Header) -> str:
    """What a header alone says, before a file is downloaded: modules, ranks, base.

    Raises:
        WsdemoError: It holds no LoRA; the message says what it holds.
    """
    groups, ignored = group(header)
    _check_kind(header, groups)
    ranks: dict[int, int] = {}
    shapes = {}
    for name, roles in groups.items():
        sides = [header.tensors[key][1] for key, _ in roles.values()]
        matrices = [side for side in sides if len(side) > 1]
        if matrices:
            rank = min(min(side[:2]) for side in matrices)
            ranks[rank] = ranks.get(rank, 0) + 1
            shapes[name] = tuple(max(side[:2]) for side in matrices)[:2]
    base = decide_base(header, {}, list(groups), shapes)
    told = ", ".join(f"{r} ({n})" if len(ranks) > 1 else str(r) for r, n in sorted(ranks.items()))
    said = f"{len(groups):,} modules of rank {told or 'unknown'}"
    said += f", for {base.name}" if base.name else ", base model not named"
    return said + (f"; {len(ignored):,} tensors would be ignored." if ignored else ".")


def _config_beside(path: Path) -> dict[str, Any]:
    beside = path.with_name("adapter_config.json")
    if not beside.is_file() or beside.stat().st_size > 2**20:
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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


_CORES = (
    {"down", "up"}, {"A", "B"}, {"embedding_A", "embedding_B"}, {"mlx_a", "mlx_b"},
          {"vit_a", "vit_b"}, {"own_A", "own_B"}, {"diff"})  # fmt: skip


def _has_update(roles: set[str]) -> bool:
    return any(core <= roles for core in _CORES) or any(
        role.startswith(("hada_", "lokr_")) for role in roles
    )


def _check_kind(header: Header, groups: Mapping[str, Mapping[str, Any]]) -> None:
    if any(_has_update(set(roles)) for roles in groups.values()):
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


def _load(path: Path, header: Header, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of all groups, float32."""
    wanted = [key for roles in groups.values() for key, _ in roles.values()]
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key).float() for key in wanted}
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise _refuse(
            "Not a readable safetensors file",
            f"Its tensors cannot be read ({type(error).__name__}).",
            "Download it again.",
        ) from error


def assemble(
    tensors: Mapping[str, Tensor],
    groups: Mapping[str, Mapping[str, tuple[str, Part]]],
    ignored: list[IgnoredKey],
    header: Header,
    config: Mapping[str, Any],
) -> Lora:
    """Turns grouped tensors into modules and writes the passport."""
    scales = Scales(config, header.metadata)
    kind = "multiplicative" if _multiplies(config, header.metadata) else "additive"
    modules, warnings, families, alphas = [], [], set[str](), set[float]()
    ignored, used = list(ignored), 0
    for name in sorted(groups):
        roles = groups[name]
        parts = {role: tensors[key] for role, (key, _) in roles.items()}
        if not _has_update(set(parts)):
            lone = ", ".join(sorted(set(parts)))
            ignored += [
                IgnoredKey(key, f"its module has only {lone}: no pair") for key, _ in roles.values()
            ]
            continue
        try:
            factors = _factors(parts)
            if factors.stored_rank > MAX_RANK and "diff" not in parts:
                raise Unusable(f"rank {factors.stored_rank}, of {MAX_RANK} allowed")
        except (Unusable, RuntimeError, IndexError) as error:
            # torch's own complaints are about shapes that no family has
            problem = str(error) if isinstance(error, Unusable) else "its shapes do not fit"
            ignored += [IgnoredKey(key, problem) for key, _ in roles.values()]
            warnings.append(f"{name}: {problem}; left out.")
            continue
        for tensor in (factors.U, factors.V):
            if not bool(torch.isfinite(tensor).all()):
                raise _refuse(
                    "Values that are not finite",
                    f"Module {name[:80]!r} holds NaN or infinite values.",
                    "The training diverged; use an earlier checkpoint.",
                )
        scale = scales.of(name, parts, factors)
        if "alpha" in parts and parts["alpha"].numel() == 1:
            alphas.add(float(parts["alpha"]))
        families |= {part.family for _, part in roles.values() if part.family}
        used += len(roles)
        magnitude = parts.get("magnitude")
        modules.append(
            LoraModule(
                name,
                (factors.U * scale).contiguous(),
                factors.V.contiguous(),
                scale,
                factors.stored_rank,
                factors.shape,
                kind=kind,
                note=factors.note,
                is_exact=factors.is_exact and scales.is_certain and magnitude is None,
                magnitude=None if magnitude is None else magnitude.flatten(),
            )
        )
    if not modules:
        raise _refuse(
            "No LoRA",
            f"None of its {len(groups):,} modules is usable: {ignored[0].why[:120]}.",
            "Save the adapter again from its trainer.",
        )
    warnings = [*scales.warnings(modules), *warnings]
    if any(m.magnitude is not None for m in modules):
        warnings.append(
            "DoRA: the update depends on the base's own weights; U and V hold the direction "
            "before the magnitude is applied."
        )
    family = _family(families, header, bool(config))
    return Lora(
        family,
        tuple(modules),
        decide_base(header, config, [m.name for m in modules], {m.name: m.shape for m in modules}),
        tuple(sorted(alphas)),
        _count(dtype for dtype, _ in header.tensors.values()),
        used,
        tuple(ignored),
        tuple(warnings),
        dict(header.metadata),
        dict(config),
    )


def _multiplies(config: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    """Whether W' = W ⊙ (U Vᵀ): a PEFT fork's ``use_mlora``, or an mLoRA instance of wsdemo."""
    own = metadata.get("wsdemo", "")
    return bool(config.get("use_mlora")) or '"representation": "mlora' in own


def _count(values: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _factors(parts: Mapping[str, Tensor]) -> Factors:
    """U and V of a module by the first family that its parts allow."""
    roles = set(parts)
    if any(r.startswith("hada_") for r in roles):
        return convert.loha(dict(parts))
    if any(r.startswith("lokr_") for r in roles):
        return convert.lokr(dict(parts))
    if {"down", "up"} <= roles:
        return convert.pair(parts["down"], parts["up"], parts.get("mid"))
    if {"A", "B", "E"} <= roles:
        return convert.adalora(parts["A"], parts["B"], parts["E"])
    if {"A", "B"} <= roles:
        return convert.pair(parts["A"], parts["B"])
    if {"embedding_A", "embedding_B"} <= roles:
        return convert.embedding(parts["embedding_A"], parts["embedding_B"])
    if {"mlx_a", "mlx_b"} <= roles:
        return convert.mlx(parts["mlx_a"], parts["mlx_b"])
    if {"vit_a", "vit_b"} <= roles:
        return convert.pair(parts["vit_a"], parts["vit_b"])
    if {"own_A", "own_B"} <= roles:
        return convert.pair(parts["own_A"], parts["own_B"])
    return convert.difference(parts["diff"])


class Scales:
    """The factor before U Vᵀ: from α in the file, or from a configuration.

    Attributes:
        is_certain: False if a family needs a configuration that is not there.
    """

    def __init__(self, config: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        self.config = dict(config)
        self.from_metadata = _adapter_metadata(metadata)
        self.is_certain = True
        self._assumed: set[str] = set()
        self._mismatch: set[tuple[int, int]] = set()

    def of(self, name: str, parts: Mapping[str, Tensor], factors: Factors) -> float:
        """The scale of a module."""
        r = max(1, factors.stored_rank)
        if "diff" in parts:
            return 1.0
        if "alpha" in parts and parts["alpha"].numel() == 1:
            whole = "lokr_w1" in parts and "lokr_w2" in parts
            return 1.0 if whole else float(parts["alpha"]) / r
        if "embedding_A" in parts or "A" in parts:
            return self._configured(name, parts, r)
        if "mlx_a" in parts:
            return self._mlx()
        return 1.0  # kohya without alpha, diffusers, cloneofsimo, LoRA-ViT

    def _configured(self, name: str, parts: Mapping[str, Tensor], r: int) -> float:
        config = self.config or self._metadata_for(name)
        if "lora_alpha" not in config:
            if not self.from_metadata:
                self._assumed.add("α is not in the file and there is no adapter_config.json")
                self.is_certain = False
            return 1.0
        alpha = _number(_pattern(config.get("alpha_pattern"), name), config["lora_alpha"])
        wanted = _number(_pattern(config.get("rank_pattern"), name), config.get("r", r))
        if "E" in parts:
            kept = float(parts["ranknum"]) if "ranknum" in parts else float(r)
            return (alpha if alpha > 0 else r) / (kept + 1e-5)
        if int(wanted) != r:
            self._mismatch.add((int(wanted), r))
        return alpha / (math.sqrt(r) if config.get("use_rslora") else r)

    def _metadata_for(self, name: str) -> dict[str, Any]:
        """Diffusers' third generation: one configuration per component, ``unet.r`` …"""
        component = name.split(".")[0]
        own = {
            k.removeprefix(f"{component}."): v
            for k, v in self.from_metadata.items()
            if k.startswith(f"{component}.")
        }
        return own or self.from_metadata

    def _mlx(self) -> float:
        found = self.config.get("lora_parameters", {})
        scale = found.get("scale") if isinstance(found, dict) else None
        if isinstance(scale, int | float) and math.isfinite(scale):
            return float(scale)
        self._assumed.add("MLX keeps its scale (20 by default) in adapter_config.json")
        self.is_certain = False
        return 1.0

    def warnings(self, modules: list[LoraModule]) -> list[str]:
        """What was assumed, and where configuration and tensors disagree."""
        texts = [f"{a}: the scale is taken as 1." for a in sorted(self._assumed)]
        for said, found in sorted(self._mismatch):
            count = sum(m.stored_rank == found for m in modules)
            texts.append(
                f"The configuration says rank {said}; {count} modules have rank {found}. The scale"
                " follows the tensors."
            )
        return texts


def _number(value: object, default: object) -> float:
    for candidate in (value, default):
        if isinstance(candidate, int | float) and math.isfinite(candidate):
            return float(candidate)
    return 1.0


def _pattern(patterns: object, name: str) -> object:
    """PEFT's rank_pattern and alpha_pattern: a regular expression that ends the name."""
    if not isinstance(patterns, dict):
        return None
    for pattern, value in patterns.items():
        text = str(pattern)
        if name == text or name.endswith(f".{text}"):
            return value
        # User texts are matched literally, but for the common anchors and dots.
        literal = re.escape(text.strip("^$")).replace(r"\.\*", ".*").replace(r"\\\.", r"\.")
        if len(text) < 200 and re.fullmatch(rf"(.*\.)?({literal})", name):
            return value
    return None


def _adapter_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get("lora_adapter_metadata", "")
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _family(families: set[str], header: Header, has_config: bool) -> str:
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
