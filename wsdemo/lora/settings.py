"""What an adapter's configuration says of the meaning of its tensors, and what it leaves in doubt.

``exact`` is a whitelist: a setting that is not known here to leave U Vᵀ as it is, is a doubt.
"""

import json
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from wsdemo.lora.base_model import ORIGIN

_INERT = {
    "alpha", "alpha_pattern", "auto_mapping", "base_model_name_or_path", "beta1", "beta2", "bias",
    "block_size", "block_size_pattern", "config", "corda_config", "decompose_both",
    "decompose_factor", "deltaT", "enable_lora", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "gralora_dropout", "gralora_k", "hira_dropout",
    "hybrid_r", "inference_mode", "init_lora_weights", "init_r", "init_weights", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "lora_dtype",
    "lora_ga_config", "lora_parameters", "lora_plus_ratio", "lorap_lr_ratio", "mask_type",
    "megatron_config", "megatron_core", "merge_weights", "mini_r", "miss_dropout", "model_type",
    "module_dropout", "modules_to_save", "modules_to_tie", "monteclora_config", "orth_reg_weight",
    "parent_library", "path_initial_model_for_weight_conversion", "peft_type", "peft_version",
    "qalora_group_size", "r", "random_seed", "rank_dropout", "rank_dropout_scale", "rank_pattern",
    "revision", "runtime_config", "target_modules", "target_modules_to_tie", "target_parameters",
    "target_r", "task_type", "tfinal", "tinit", "total_step", "trainable_token_indices",
    "unsloth_fixed", "use_bdlora", "use_dora", "use_effective_conv2d", "use_lora_fa", "use_mlora",
    "use_qalora", "use_rslora", "velora_config", "version",
    ORIGIN,
}  # fmt: skip
"""Settings that say nothing of the update, and those that the reader follows."""

_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga", "lora-ga", "loraga")
_PLAIN_STARTS = (
    "true", "false", "none", "", "gaussian", "eva", "orthogonal", "mica", "default", "kaiming",
    "kaiming_uniform", "xavier_uniform", "normal", "random", "lycoris", "mini",
)  # fmt: skip
_CHANGING: tuple[tuple[str, str], ...] = (
    ("kasa_config", "the base's smallest singular values are cut away (KaSA)"),
    ("alora_invocation_tokens", "it acts on the tokens after an invocation only (aLoRA)"),
    ("layer_replication", "it is for a base with repeated layers, which its numbers count"),
    ("arrow_config", "it is one of several that a router mixes (Arrow)"),
    ("xlora_config", "it is one of several that a router mixes (X-LoRA)"),
)
"""Settings that change what the factors mean, whatever they are set to: (name, how)."""


PATTERN_SECONDS = 2.0
"""For all regular expressions of a configuration, which anybody may have written."""


class Settings:
    """The configuration of an adapter, with its patterns by PEFT's rules.

    Attributes:
        config: As it stands in adapter_config.json.
        doubts: Why the update may be another than the factors say.
        columns: Sides of layers that a file's own tensors do not say, by its modules' names.
    """

    def __init__(self, config: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        self.config = dict(config)
        self.from_metadata = adapter_metadata(metadata)
        self.doubts: list[str] = []
        self.columns: Mapping[str, tuple[int, int]] = {}
        self._seconds = PATTERN_SECONDS
        for part in (self.config, *_components(self.from_metadata)):
            self.doubts += [doubt for doubt in _doubts(part) if doubt not in self.doubts]

    @property
    def is_peft(self) -> bool:
        """Whether PEFT wrote the configuration."""
        return "peft_type" in self.config

    @property
    def peft_type(self) -> str:
        """PEFT's name of the method, in capitals; empty if it is not said."""
        name = self.config.get("peft_type", "")
        return name.upper()[:40] if isinstance(name, str) else ""

    @property
    def enabled(self) -> tuple[bool, ...]:
        """MergedLinear's ``enable_lora``: which parts of a fused layer are adapted."""
        flags = self.config.get("enable_lora")
        if not isinstance(flags, list) or not 1 < len(flags) <= 16 or not any(flags):
            return ()
        return tuple(bool(x) for x in flags)

    @property
    def pooled(self) -> int:
        """QALoRA's group of inputs; 0 if they are not pooled."""
        group = self.config.get("qalora_group_size", 16)
        is_on = self.config.get("use_qalora") and isinstance(group, int) and 0 < group < 2**20
        return int(group) if is_on else 0

    def diagonal(self, name: str) -> tuple[str, int]:
        """BD-LoRA: which factor of a module is block-diagonal, and of how many blocks."""
        bdlora = self.config.get("use_bdlora")
        blocks = bdlora.get("nblocks") if isinstance(bdlora, dict) else None
        if not isinstance(bdlora, dict) or not isinstance(blocks, int) or not 1 < blocks < 2**12:
            return "", 0
        for side, key in (("A", "target_modules_bd_a"), ("B", "target_modules_bd_b")):
            patterns = bdlora.get(key) or []
            if any(str(p) in name for p in patterns if p):
                return side, blocks
        return "", 0

    def parameter(self, name: str) -> str:
        """The parameter that a module of ``target_parameters`` adapts: its full name.

        PEFT nests one wrapper in another where a module has several: the first of its parameters
        is the innermost, ``module.base_layer``.
        """
        targets = self.config.get("target_parameters")
        if not isinstance(targets, list):
            return ""
        depth = name.split(".").count("base_layer")
        module = name.replace(".base_layer", "")
        parameters = []
        for target in map(str, targets):
            parent, _, parameter = target.rpartition(".")
            if parent and (module == parent or module.endswith(f".{parent}")):
                parameters.append(parameter)
        parameters = sorted(
            dict.fromkeys(parameters), key=lambda p: (p in _LATER, parameters.index(p))
        )
        at = len(parameters) - 1 - depth
        return f"{module}.{parameters[at]}" if 0 <= at < len(parameters) else ""

    def rank(self, name: str) -> float:
        """r of a module by the configuration; 0 if it does not say."""
        configured = self.matched(self.config.get("rank_pattern"), name)
        return number(configured, self.config.get("r", 0), 0.0)

    def matched(self, patterns: object, name: str) -> object:
        """Of rank_pattern or alpha_pattern the value of the first key that matches a name.

        A key is a regular expression, which PEFT asks as ``re.match(rf"(.*\\.)?({key})$", name)``:
        it ends the name and begins it, or a part of it; with ``^`` it begins it. All searches of a
        file together have PATTERN_SECONDS; keys are taken literally then, which is a doubt.
        """
        if not isinstance(patterns, dict) or not patterns:
            return None
        began = time.perf_counter()
        for key, value in patterns.items():
            if isinstance(value, list | dict):  # AdaLoRA's rank_pattern is another thing
                continue
            if _matches(str(key), name, self._seconds > 0):
                break
        else:
            value = None
        self._seconds -= time.perf_counter() - began
        late = "its patterns take too long to match, and were taken literally"
        if self._seconds < 0 and late not in self.doubts:
            self.doubts.append(late)
        return value


_LATER = ("down_proj", "w2", "output_linear", "wo")
"""Parameters of experts that models define after the one that they stand beside."""


def _components(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Diffusers' configurations of the parts of a pipeline; ``unet.r`` is r of ``unet``."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in metadata.items():
        part, dot, field = key.partition(".")
        parts.setdefault(part if dot else "", {})[field if dot else key] = value
    return list(parts.values())


def _doubts(config: Mapping[str, Any]) -> list[str]:
    """What the settings of a configuration leave in doubt."""
    doubts = []
    for field in ("init_lora_weights", "init_weights"):
        start = str(config.get(field, "")).lower()
        if start.startswith(_CHANGING_STARTS):
            doubts.append(
                f"{field} is {start[:30]!r}: the base itself was changed at the start of the"
                " training, so B A is not the update of the published base"
            )
        elif start not in _PLAIN_STARTS:
            doubts.append(f"{field} is {start[:30]!r}, which is not known here")
    for field, how in _CHANGING:
        if config.get(field):
            doubts.append(f"{field} is set: {how}")
    if "peft_type" in config:
        unknown = [k for k, v in config.items() if v and k not in _INERT and k not in _CHANGES]
        if unknown:
            shown = ", ".join(repr(str(k)[:40]) for k in sorted(unknown, key=str)[:4])
            doubts.append(f"the configuration has settings that are not known here: {shown}")
    return doubts


_CHANGES = {field for field, _ in _CHANGING}


def number(value: object, *defaults: object) -> float:
    """The first of these that is a finite number; else 1."""
    for candidate in (value, *defaults):
        if isinstance(candidate, int | float) and not isinstance(candidate, bool):
            try:
                as_float = float(candidate)
            except OverflowError:
                continue
            if as_float - as_float == 0:
                return as_float
    return 1.0


_RISKY = re.compile(r"[*+?}][^()]*\)[*+{]|\([^()]*\|[^()]*\)[*+{]|\\[1-9]|\(\?P?[=(<]")
"""Repetitions of repetitions and back references, whose search may take forever."""
_LONGEST_KEY, _LONGEST_NAME, _MOST_REPETITIONS = 300, 200, 3


@lru_cache(4096)
def _expression(key: str) -> re.Pattern[str] | None:
    """The compiled pattern; None where it is taken literally."""
    repetitions = sum(key.count(x) for x in "*+{")
    if len(key) > _LONGEST_KEY or repetitions > _MOST_REPETITIONS or _RISKY.search(key):
        return None
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except (re.error, OverflowError, RecursionError):
        return None


def _matches(key: str, name: str, is_free: bool) -> bool:
    if key.isidentifier():  # almost all are: the last part of a name
        return name == key or name.endswith(f".{key}")
    expression = _expression(key) if is_free and len(name) <= _LONGEST_NAME else None
    if expression is None:
        return name == key or name.endswith(f".{key}")
    return expression.match(name) is not None


def adapter_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Diffusers' configuration in the file itself; empty if there is none."""
    text = metadata.get("lora_adapter_metadata", "")
    try:
        config = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
