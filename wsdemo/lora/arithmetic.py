"""LoRAs as vectors: resize, re-gauge, merge; and files that other programs read."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.limits import MAX_SEED
from wsdemo.lora.decomposition import truncated
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.names import (
    by_canonical_name,
    component,
    is_lost,
    kohya_name,
    pipeline_name,
)


def _additive(*loras: Lora) -> None:
    for lora in loras:
        if any(m.magnitude is not None for m in lora.modules):
            raise WsdemoError(
                "A DoRA does not add",
                "Its update depends on the base's weights, which are not here; U and V alone are"
                " another update.",
                "Use the program that made it.",
            )
        if lora.kind != "additive":
            raise WsdemoError(
                "Not additive",
                "Factors of a multiplicative adapter do not add: W ⊙ (BA) has no sum.",
                "Use additive LoRAs.",
            )


def _with(lora: Lora, modules: Sequence[LoraModule]) -> Lora:
    return dataclasses.replace(lora, modules=tuple(modules))


def _share(energy: float) -> None:
    if not 0 < energy <= 1:
        raise WsdemoError("Value out of range", f"energy is {energy:g}.", "Choose 0 to 1.")


def _measurable(name: str, U: Tensor, V: Tensor) -> None:
    norms = (float(torch.linalg.vector_norm(X, dtype=torch.float64)) for X in (U, V))
    size = math.prod(norms)
    if not size < 1e37:  # also NaN
        raise WsdemoError(
            "Values too large",
            f"The factors of {name[:80]!r} multiply to a norm of {size:.3g}; float32 ends at 3e38.",
            "Choose smaller weights.",
        )


def resize(lora: Lora, energy: float = 0.999) -> tuple[Lora, float]:
    """The fewest ranks that keep a share of ‖ΔW‖² in every module.

    Returns:
        The smaller LoRA, and the share of energy kept over all modules, less what reading cut.

    Raises:
        WsdemoError: The share is not in (0, 1].
    """
    _share(energy)
    modules, kept, total = [], 0.0, 0.0
    for module in lora.modules:
        _measurable(module.name, module.U, module.V)
        U, V, share = truncated(module.U, module.V, energy)
        own = float((U.double().T @ U.double() * (V.double().T @ V.double())).sum())
        kept, total = kept + own, total + own / max(share * module.kept, 1e-30)
        modules.append(
            dataclasses.replace(module, U=U, V=V, stored_rank=U.shape[1], scale=1.0, kept=1.0)
        )
    return _with(lora, modules), kept / total if total > 0 else 1.0


def regauge(lora: Lora, seed: int) -> Lora:
    """The same updates from other factors: (U R, V R⁻ᵀ), R well-conditioned and random.

    Args:
        lora: What to re-gauge.
        seed: Of R, 0 to MAX_SEED.

    Raises:
        WsdemoError: The seed is out of range, or reading cut the update, whose factors are then
            not the same update.
    """
    if not 0 <= seed <= MAX_SEED:
        raise WsdemoError(
            "Value out of range", f"The seed is {str(seed)[:30]}.", f"Choose 0 to {MAX_SEED:,}."
        )
    cut = [m for m in lora.modules if m.is_cut]
    if cut:
        raise WsdemoError(
            "Not the same update",
            f"{len(cut)} of {len(lora.modules)} modules have more ranks than were read; the least"
            f" keeps {min(m.kept for m in cut):.1%} of its energy.",
            "Resize it instead, which says what is lost.",
        )
    g = torch.Generator().manual_seed(seed)
    modules = []
    for module in lora.modules:
        r = module.rank
        left, _ = torch.linalg.qr(torch.randn(r, r, generator=g, dtype=torch.float64))
        right, _ = torch.linalg.qr(torch.randn(r, r, generator=g, dtype=torch.float64))
        stretch = torch.rand(r, generator=g, dtype=torch.float64) * 2 + 0.5
        U = module.U.double() @ (left * stretch) @ right
        V = module.V.double() @ (left / stretch) @ right
        modules.append(dataclasses.replace(module, U=U.float(), V=V.float(), scale=1.0))
    return _with(lora, modules)


def merge(loras: Sequence[Lora], weights: Sequence[float], energy: float = 1.0) -> Lora:
    """Σ w_i ΔW_i, exactly: factors side by side, then as few ranks as hold ``energy`` of it.

    Modules are matched in any program's spelling, and keep that of the first LoRA that has them.

    Raises:
        WsdemoError: One shares no module with the others, they adapt modules of different shapes
            under one name, multiply or are DoRAs, or a weight or the sum is not finite.
    """
    _additive(*loras)
    _share(energy)
    if not all(map(math.isfinite, weights)):
        raise WsdemoError(
            "Value out of range", f"The weights are {list(weights)}.", "Choose finite numbers."
        )
    tables = [by_canonical_name(lora) for lora in loras]
    for i, own in enumerate(tables):
        others = set[str]().union(*(t for j, t in enumerate(tables) if j != i))
        if others and not others & set(own):
            raise WsdemoError(
                "Nothing to merge",
                f"They adapt no module in common: {loras[i].modules[0].name[:60]} … against"
                f" {loras[i - 1].modules[0].name[:60]} …",
                "Take LoRAs of one base model.",
            )
    modules = []
    for name in sorted(set[str]().union(*tables)):
        found = [(t[name], w) for t, w in zip(tables, weights, strict=True) if name in t]
        sides = {(len(m.U), len(m.V)) for m, _ in found}
        if len(sides) > 1:
            raise WsdemoError(
                "These do not merge",
                f"{name[:80]!r} has the shapes {' and '.join(f'{a}x{b}' for a, b in sides)}.",
                "Merge LoRAs of the same base model.",
            )
        U = torch.cat([m.U * w for m, w in found], dim=1)
        V = torch.cat([m.V for m, _ in found], dim=1)
        _measurable(name, U, V)
        U, V, _ = truncated(U, V, energy)
        modules.append(
            dataclasses.replace(
                found[0][0], U=U, V=V, stored_rank=U.shape[1], scale=1.0, kept=1.0, note="merged"
            )
        )
    return _with(loras[0], modules)


# ---- files -----------------------------------------------------------------------


def _pair(module: LoraModule) -> tuple[Tensor, Tensor]:
    """(down, up) of a module, split evenly; convolutions get their kernel back."""
    down, up = module.V.T.contiguous(), module.U.contiguous()
    if len(module.shape) > 2:
        down = down.reshape(module.rank, *module.shape[1:])
        up = up.reshape(*up.shape, *[1] * (len(module.shape) - 2))
    return down, up


def save_lora(lora: Lora, path: Path, style: str = "kohya") -> int:
    """Writes a LoRA for other programs; the scale is in the factors.

    Modules of a diffusers pipeline (``unet.``, ``text_encoder.`` …) are written in PEFT style as
    diffusers writes them, and in kohya's with its flattened names.

    Args:
        lora: What to write.
        path: The .safetensors file; a PEFT adapter's adapter_config.json goes beside it.
        style: ``kohya`` or ``peft``.

    Returns:
        Bytes of the file.

    Raises:
        WsdemoError: The LoRA multiplies or is a DoRA, its modules have no names in that style,
            the style is unknown, the file cannot be written, or another adapter's configuration
            stands where its own would.
    """
    _additive(lora)
    if style not in _STYLES:
        raise WsdemoError("Unknown style", f"Found {style[:20]!r}.", "Use kohya or peft.")
    beside = path.parent / "adapter_config.json"
    if style == "peft" and beside.exists() and not path.exists():
        raise WsdemoError(
            "File exists",
            f"{beside} belongs to another adapter, and would be replaced.",
            "Write into a folder of its own.",
        )
    tensors, texts = _STYLES[style](lora)
    metadata = {k: v for k, v in lora.metadata.items() if k != "lora_adapter_metadata"}
    content = save(tensors, {**metadata, **texts, "wsdemo": "scale folded in"})
    try:
        write_whole(path, content)
    except OSError as error:
        raise WsdemoError(
            "File not written", f"{path}: {error.strerror}.", "Choose another path."
        ) from error
    if style == "peft" and any(key.startswith("base_model.") for key in tensors):
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": lora.config.get("base_model_name_or_path"),
            "bias": "none",
            **_ranks({m.name: m.rank for m in lora.modules}),
            "target_modules": sorted({m.name.split(".")[-1] for m in lora.modules}),
        }
        write_whole(beside, json.dumps(config, indent=1) + "\n")
    return len(content)


def _kohya(lora: Lora) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors in kohya's names with one α for all, and no texts.

    Diffusers loses the α of a module that differs from the others'.
    """
    alpha = _usual([m.rank for m in lora.modules])
    has_two = any(m.name.startswith("text_encoder_2.") for m in lora.modules)
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        if module.is_embedding:
            raise WsdemoError(
                "Not for kohya",
                f"{module.name[:80]!r} is an embedding, which kohya's programs do not adapt.",
                "Write it for PEFT.",
            )
        name = kohya_name(module.name, lora.family, has_two)
        down, up = _pair(module)
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = up * (module.rank / alpha)
        tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    if len(tensors) < 3 * len(lora.modules):
        raise WsdemoError(
            "Not for kohya",
            "Two modules differ in dots and underscores only.",
            "Write it for PEFT.",
        )
    return tensors, {}


def _peft(lora: Lora) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors in PEFT's names, and for parts of a pipeline the texts that diffusers reads."""
    tensors: dict[str, Tensor] = {}
    parts: dict[str, dict[str, int]] = {}
    for module in lora.modules:
        if is_lost(module.name):
            raise WsdemoError(
                "Not for PEFT",
                f"{module.name[:80]!r} matches no module of a model: kohya's flattened names have"
                " lost their dots, and others are mere numbers.",
                "Write it for kohya.",
            )
        name = pipeline_name(module.name, lora.family)
        part = component(name, lora.family)
        if not part:
            name = f"base_model.model.{name}"
        if module.is_embedding:
            tensors[f"{name}.lora_embedding_A"] = module.U.T.contiguous()
            tensors[f"{name}.lora_embedding_B"] = module.V.contiguous()
        else:
            down, up = _pair(module)
            tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = down, up
        if part and part != "diffusion_model":  # whose modules diffusers renames
            parts.setdefault(part, {})[name.split(".", 1)[1]] = module.rank
    found = {f"{part}.{k}": v for part, own in parts.items() for k, v in _ranks(own).items()}
    return tensors, {"lora_adapter_metadata": json.dumps(found)} if found else {}


def _usual(ranks: list[int]) -> int:
    return max(sorted(set(ranks)), key=ranks.count)


def _ranks(ranks: dict[str, int]) -> dict[str, Any]:
    """A configuration of PEFT for modules of these ranks, α = r."""
    usual = _usual(list(ranks.values()))
    unusual = {name: r for name, r in ranks.items() if r != usual}
    return {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": unusual,
        "alpha_pattern": unusual,
        "target_modules": sorted(ranks),
    }


_STYLES = {"kohya": _kohya, "peft": _peft}
