"""The factor before U Vᵀ: from α in the file or from a configuration, by each program's own rule.

A tensor ``X.scale`` (stable-diffusion.cpp) comes before α, α before the configuration. Where
neither is there: kohya's programs take α = r, diffusers, ComfyUI and ai-toolkit scale 1 in their
own spellings of A and B; PEFT and MLX need their configuration.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from wsdemo.lora.modules import LoraModule
from wsdemo.lora.settings import Settings, number

_ALPHAS = ("lora_alpha", "alpha", "network_alpha", "adapter.lora.alpha")
"""Where a file's own texts may have α, where its tensors do not."""
_PIPELINE = re.compile(
    r"(diffusion_model|transformer(_\d)?(?!\.(h|layers|encoder|wte|wpe|word_embeddings)\.)|unet|text_encoder(_\d)?|text_encoders|pipe|dit|model"
    r"\.diffusion_model|prior|controlnet)\.|"
    r"(?:\w+\.)?((single_|double_|joint_|noise_|layers_)?(transformer_)?blocks|down_blocks|"
    r"up_blocks|mid_block|double_blocks|single_blocks|double_stream_blocks|input_blocks|"
    r"output_blocks|middle_block|joint_blocks|double_stream_layers|noise_refiner|"
    r"context_refiner|visual_transformer_blocks)\."
)
"""Names of diffusion networks, whose programs take a missing α as scale 1."""
_NO_SCALE = ("diff", "c3a_kernel", "shira_weight", "hira_A", "hira_embedding_A",
             "miss_block")  # fmt: skip
"""Roles of forms without a scale."""


class Scales:
    """The factor before U Vᵀ of each module.

    Attributes:
        assumed: Names of modules that need a configuration that is not there, or whose α two
            programs take differently.
    """

    def __init__(self, settings: Settings, metadata: Mapping[str, str]) -> None:
        self._settings, self._config = settings, settings.config
        self._own_alpha = _own_alpha(metadata)
        self.assumed: set[str] = set()
        self._reasons: set[str] = set()
        self._mismatch: set[tuple[int, int]] = set()
        self._zero: set[str] = set()
        self._notes: set[str] = set()

    @staticmethod
    @lru_cache(256)
    def rule(roles: tuple[str, ...]) -> str:
        """Which rule modules with these roles follow where the file has no α."""
        if any(role in roles for role in _NO_SCALE):
            return "none"
        if "lokr_w1" in roles and "lokr_w2" in roles:
            return "whole"
        if "E" in roles:
            return "adalora"
        if "A" in roles or "embedding_A" in roles:
            return "peft"
        if any(role.startswith(("hada_", "lokr_", "gralora_")) for role in roles):
            return "lycoris"
        return "mlx" if "mlx_a" in roles else "plain"

    def of(
        self, name: str, key: str, rule: str, rank: int, alpha: float | None, kept: float | None
    ) -> float:
        """The scale of a module.

        Args:
            name: Of the module.
            key: One of its keys as the file spells it, with the program's prefix.
            rule: Which it follows where the file has no α.
            rank: That of the file.
            alpha: As the file gives it.
            kept: AdaLoRA's count of ranks, as the file gives it.
        """
        r = max(1, rank)
        if rule == "none":
            return 1.0
        if alpha is not None:
            if alpha == 0 and rule != "whole":
                self._zero.add(name)
                self.assumed.add(name)
            return 1.0 if rule == "whole" else alpha / r
        if rule == "peft":
            return self._configured(name, key, r, None)
        if rule == "adalora":
            return self._configured(name, key, r, float(r) if kept is None else kept)
        if rule in ("lycoris", "whole"):
            return self._lycoris(name, key, r)
        if rule == "mlx":
            return self._mlx(name, r, is_vision=key.endswith((".A", ".B")))
        if self._own_alpha is not None:
            return self._from_texts(r)
        return 1.0  # kohya without alpha, diffusers, cloneofsimo, LoRA-ViT

    def _configured(self, name: str, key: str, r: int, kept: float | None) -> float:
        """By the configuration; ``kept`` are AdaLoRA's ranks, None for other families."""
        config = self._config if "lora_alpha" in self._config else self._metadata_for(name)
        if "lora_alpha" not in config:
            if self._own_alpha is not None:
                return self._from_texts(r)
            is_peft = key.startswith("base_model.model.") or self._settings.is_peft
            if not self._settings.from_metadata and (is_peft or not _PIPELINE.match(key)):
                self._reasons.add("α is not in the file and there is no adapter_config.json")
                self.assumed.add(name)
            return 1.0
        parameter = self._settings.parameter(name) or name.replace(".base_layer", "")
        parameter = (
            parameter if config is self._config else parameter.partition(".")[2] or parameter
        )
        alpha = number(self._of(config, "alpha_pattern", parameter, name), config["lora_alpha"])
        rank = number(self._of(config, "rank_pattern", parameter, name), config.get("r", r))
        if kept is not None:
            return (alpha if alpha > 0 else r) / (kept + 1e-5)
        if int(rank) != r:
            self._mismatch.add((int(rank), r))
        return alpha / (math.sqrt(r) if config.get("use_rslora") else r)

    def _of(self, config: Mapping[str, Any], field: str, parameter: str, name: str) -> object:
        """A pattern's value by the model's own name of a module; else with its component."""
        value = self._settings.matched(config.get(field), parameter)
        if value is None and parameter != name:
            return self._settings.matched(config.get(field), name)
        return value

    def _lycoris(self, name: str, key: str, r: int) -> float:
        """PEFT's LoHa, LoKr and GraLoRA have ``alpha`` in the configuration, over its r."""
        config = self._config
        if "alpha" not in config:
            if key.startswith("base_model.model."):
                self._reasons.add("α is not in the file and there is no adapter_config.json")
                self.assumed.add(name)
            return self._from_texts(r) if self._own_alpha is not None else 1.0
        alpha = number(self._settings.matched(config.get("alpha_pattern"), name), config["alpha"])
        rank = self._settings.rank(name)
        rank += number(config.get("hybrid_r"), 0.0) if "gralora_k" in config else 0.0
        return alpha / (rank if rank > 0 else r)

    def _metadata_for(self, name: str) -> dict[str, Any]:
        """The settings of a module's component, of which diffusers keeps one set each: ``unet.r``.

        All of them if there are none for it.
        """
        component, metadata = name.split(".")[0], self._settings.from_metadata
        in_part = {
            k.removeprefix(f"{component}."): v
            for k, v in metadata.items()
            if k.startswith(f"{component}.")
        }
        return in_part or metadata

    def _from_texts(self, r: int) -> float:
        """α in the file's own texts; in GGUF 0 is none."""
        where, alpha = self._own_alpha or ("", 0.0)
        if where == "adapter.lora.alpha":
            return alpha / r if alpha else 1.0
        self._notes.add(
            f"α = {alpha:g} stands in the file's metadata alone ({where}); diffusers and ComfyUI"
            " do not look there, and take scale 1."
        )
        return alpha / r

    def _mlx(self, name: str, r: int, is_vision: bool) -> float:
        parameters = self._config.get("lora_parameters", {})
        scale = parameters.get("scale") if isinstance(parameters, dict) else None
        if isinstance(scale, int | float) and math.isfinite(scale):
            # mlx-lm's first configurations have α as well: scale · α / r.
            alpha = parameters.get("alpha")
            share = alpha / r if isinstance(alpha, int | float) and math.isfinite(alpha) else 1.0
            return float(scale) * share
        alpha = self._config.get("alpha")
        if is_vision and isinstance(alpha, int | float) and math.isfinite(alpha):
            self._notes.add(
                f"mlx-vlm: α = {alpha:g} over rank is taken as the scale; its first versions took α"
                " itself."
            )
            self.assumed.add(name)
            return alpha / r
        self._reasons.add("MLX keeps its scale (20 by default) in adapter_config.json")
        self.assumed.add(name)
        return 1.0

    def warnings(self, modules: list[LoraModule]) -> list[str]:
        """What was assumed, and where configuration and tensors disagree."""
        texts = [f"{a}: the scale is taken as 1." for a in sorted(self._reasons)]
        texts += sorted(self._notes)
        if self._zero:
            texts.append(
                f"α is 0 in {len(self._zero)} of {len(modules)} modules: ComfyUI takes scale 0, as"
                " here; sd-scripts, musubi-tuner and LyCORIS take α = rank, scale 1."
            )
        for configured, stored in sorted(self._mismatch):
            count = sum(m.stored_rank == stored for m in modules)
            texts.append(
                f"The configuration says rank {configured}; {count} modules have rank {stored}."
                " The scale follows the tensors."
            )
        return texts


def _own_alpha(metadata: Mapping[str, str]) -> tuple[str, float] | None:
    """Where the file's texts have α, and which; None if they do not."""
    for key in _ALPHAS:
        try:
            alpha = float(metadata[key]) if len(metadata.get(key, "")) < 40 else math.nan
        except (KeyError, ValueError):
            continue
        if math.isfinite(alpha):
            return key, alpha
    return None
