"""LoRAs as vectors: resize, re-gauge, merge; and files that PEFT or kohya's programs read."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_SEED
from wsdemo.lora.convert import truncated
from wsdemo.lora.modules import Lora, LoraModule


def _additive(*loras: Lora) -> None:
    for lora in loras:
        if lora.kind != "additive":
            raise WsdemoError(
                "Not additive",
                "Factors of a multiplicative adapter do not add: W ⊙ (BA) has no sum.",
                "Use additive LoRAs.",
            )


def _with(lora: Lora, modules: Sequence[LoraModule]) -> Lora:
    return dataclasses.replace(lora, modules=tuple(modules))


def resize(lora: Lora, energy: float = 0.999) -> tuple[Lora, float]:
    """The fewest ranks that keep a share of ‖ΔW‖² in every module.

    Returns:
        The smaller LoRA, and the share of energy kept over all modules, less what reading cut.

    Raises:
        WsdemoError: The share is not in (0, 1].
    """
    if not 0 < energy <= 1:
        raise WsdemoError("Value out of range", f"energy is {energy:g}.", "Choose 0 to 1.")
    modules, kept, total = [], 0.0, 0.0
    for module in lora.modules:
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

    Raises:
        WsdemoError: They adapt modules of different shapes under one name, or multiply.
    """
    _additive(*loras)
    names = sorted({m.name for lora in loras for m in lora.modules})
    modules = []
    for name in names:
        found = [
            (m, w)
            for lora, w in zip(loras, weights, strict=True)
            for m in lora.modules
            if m.name == name
        ]
        sides = {(len(m.U), len(m.V)) for m, _ in found}
        if len(sides) > 1:
            raise WsdemoError(
                "These do not merge",
                f"{name[:80]!r} has the shapes {' and '.join(f'{a}x{b}' for a, b in sides)}.",
                "Merge LoRAs of the same base model.",
            )
        U = torch.cat([m.U * w for m, w in found], dim=1)
        V = torch.cat([m.V for m, _ in found], dim=1)
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
    """Writes a LoRA for other programs; the scale is in the factors, α = r.

    Args:
        lora: What to write.
        path: The .safetensors file; for ``peft`` adapter_config.json goes beside it.
        style: ``kohya`` or ``peft``.

    Returns:
        Bytes of the file.

    Raises:
        WsdemoError: The LoRA multiplies, or the style is unknown.
    """
    _additive(lora)
    tensors: dict[str, Tensor] = {}
    for module in lora.modules:
        down, up = _pair(module)
        if style == "kohya":
            tensors[f"{module.name}.lora_down.weight"] = down
            tensors[f"{module.name}.lora_up.weight"] = up
            tensors[f"{module.name}.alpha"] = torch.tensor(float(module.rank))
        elif style == "peft":
            tensors[f"base_model.model.{module.name}.lora_A.weight"] = down
            tensors[f"base_model.model.{module.name}.lora_B.weight"] = up
        else:
            raise WsdemoError("Unknown style", f"Found {style[:20]!r}.", "Use kohya or peft.")
    metadata = {k: v for k, v in lora.metadata.items() if k != "lora_adapter_metadata"}
    save_file(tensors, path, metadata={**metadata, "wsdemo": "scale folded in, alpha = rank"})
    if style == "peft":
        ranks = {m.name: m.rank for m in lora.modules}
        usual = max(set(ranks.values()), key=list(ranks.values()).count)
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": lora.config.get("base_model_name_or_path"),
            "r": usual,
            "lora_alpha": usual,
            "rank_pattern": {n: r for n, r in ranks.items() if r != usual},
            "alpha_pattern": {n: r for n, r in ranks.items() if r != usual},
            "target_modules": sorted({n.split(".")[-1] for n in ranks}),
            "bias": "none",
        }
        path.with_name("adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return path.stat().st_size
