"""The factor before U Vᵀ, from α in a file or from its configuration."""

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from wsdemo.lora.modules import LoraModule


class Scales:
    """The factor before U Vᵀ: from α in the file, or from a configuration.

    Attributes:
        assumed: Names of modules that need a configuration that is not there.
    """

    def __init__(self, config: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        self.config = dict(config)
        self.from_metadata = _adapter_metadata(metadata)
        self.assumed: set[str] = set()
        self._reasons: set[str] = set()
        self._mismatch: set[tuple[int, int]] = set()

    def of(
        self, name: str, roles: Collection[str], rank: int, alpha: float | None, kept: float | None
    ) -> float:
        """The scale of a module.

        Args:
            name: Of the module.
            roles: Those of its tensors.
            rank: That of the file.
            alpha: As the file gives it.
            kept: AdaLoRA's count of ranks, as the file gives it.
        """
        r = max(1, rank)
        if "diff" in roles:
            return 1.0
        if alpha is not None:
            whole = "lokr_w1" in roles and "lokr_w2" in roles
            return 1.0 if whole else alpha / r
        if "embedding_A" in roles or "A" in roles:
            ranks = (float(r) if kept is None else kept) if "E" in roles else None
            return self._configured(name, r, ranks)
        if "mlx_a" in roles:
            return self._mlx(name)
        return 1.0  # kohya without alpha, diffusers, cloneofsimo, LoRA-ViT

    def _configured(self, name: str, r: int, kept: float | None) -> float:
        """By the configuration; ``kept`` are AdaLoRA's ranks, None for other families."""
        config = self.config if "lora_alpha" in self.config else self._metadata_for(name)
        if "lora_alpha" not in config:
            if not self.from_metadata:
                self._reasons.add("α is not in the file and there is no adapter_config.json")
                self.assumed.add(name)
            return 1.0
        alpha = _number(_pattern(config.get("alpha_pattern"), name), config["lora_alpha"])
        wanted = _number(_pattern(config.get("rank_pattern"), name), config.get("r", r))
        if kept is not None:
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

    def _mlx(self, name: str) -> float:
        found = self.config.get("lora_parameters", {})
        scale = found.get("scale") if isinstance(found, dict) else None
        if isinstance(scale, int | float) and math.isfinite(scale):
            return float(scale)
        self._reasons.add("MLX keeps its scale (20 by default) in adapter_config.json")
        self.assumed.add(name)
        return 1.0

    def warnings(self, modules: list[LoraModule]) -> list[str]:
        """What was assumed, and where configuration and tensors disagree."""
        texts = [f"{a}: the scale is taken as 1." for a in sorted(self._reasons)]
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
