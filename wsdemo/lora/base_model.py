"""Which base model a LoRA was made for, from every source that says so.

Strongest first: adapter_config.json, the card of its repository on the Hub,
modelspec.architecture, the trainer's ss_base_model_version, the keys and shapes themselves. A
disagreement is shown.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wsdemo.lora.modules import BaseModel
from wsdemo.safetensors_header import Header

_ARCHITECTURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SDXL", ("sdxl", "stable-diffusion-xl", "xl-base", "xl_v1", "xl-v1")),
    ("SD 3", ("stable-diffusion-3", "sd3", "stable-diffusion-v3")),
    ("SD 2", ("stable-diffusion-v2", "stable-diffusion-2", "sd_v2", "sd2")),
    ("SD 1", ("stable-diffusion-v1", "sd_v1", "sd1", "sd-1", "v1-5", "v1-4", "v1.5", "v1.4")),
    ("FLUX", ("flux",)),
    ("Qwen-Image", ("qwen-image", "qwen_image", "qwenimage")),
    ("Llama", ("llama",)),
    ("Qwen", ("qwen",)),
    ("Mistral", ("mistral",)),
    ("RoBERTa", ("roberta",)),
    ("wsdemo's face generator", ("faces-generator",)),
    ("SmolLM2", ("smollm2",)),
    ("OPT", ("opt-",)),
)  # fmt: skip


ORIGIN = "wsdemo_origin"
"""Key of adapter_config.json under which a download keeps its repository, commit and card."""
_LLAMA_LIKE = ("Llama", "Qwen", "Mistral", "SmolLM2")
"""Families whose layers have the names that the fingerprint calls Llama-like."""


def architecture(text: str) -> str:
    """The architecture that a model's name speaks of; empty if none is known."""
    lowered = text.lower()
    for name, words in _ARCHITECTURES:
        if any(word in lowered for word in words):
            return name
    return ""


def fingerprint(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The architecture that module names and shapes speak of; empty if unclear."""
    joined = "\n".join(names)
    widths = {s[1] for s in shapes.values() if len(s) >= 2}
    if "double_blocks" in joined or "single_transformer_blocks" in joined:
        return "FLUX"
    if "single_blocks" in joined:
        return "FLUX"
    if "transformer_blocks" in joined and ("img_mlp" in joined or "add_q_proj" in joined):
        return "Qwen-Image" if "img_mlp" in joined or "img_mod" in joined else "FLUX"
    unet = any(w in joined for w in ("down_blocks", "input_blocks", "up_blocks", "output_blocks"))
    if unet or "attn2" in joined:
        if 2048 in widths or "te2_" in joined or "text_encoder_2" in joined:
            return "SDXL"
        if 1024 in widths and 768 not in widths:
            return "SD 2"
        return "SD 1" if 768 in widths else ""
    for word, name in (
        ("roberta", "RoBERTa"), ("decoder.layers", "OPT"), ("gate_proj", "Llama-like"),
        ("self_attn.q_proj", "Llama-like"), ("c_attn", "GPT-2"),
    ):  # fmt: skip
        if word in joined:
            return name
    return ""


def _instance_base(text: str | None) -> str | None:
    """The base field that an instance of this app names, with the start of its hash."""
    try:
        base = json.loads(text or "{}")["base"]
        return f"wsdemo/{base['name']}@{str(base['hash'])[:12]}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def origin_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Repository, commit and path of a LoRA from the Hub; empty for any other."""
    origin = config.get(ORIGIN)
    if not isinstance(origin, dict):
        return {}
    return {k: str(origin.get(k, ""))[:400] for k in ("repo", "commit", "path")}


def decide_base(
    header: Header,
    config: Mapping[str, Any],
    names: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> BaseModel:
    """Collects the evidence and decides."""
    meta, origin = header.metadata, config.get(ORIGIN)
    sources = (
        ("wsdemo instance", _instance_base(meta.get("wsdemo"))),
        ("adapter_config.json", config.get("base_model_name_or_path")),
        ("card on the Hub", origin.get("base_model") if isinstance(origin, dict) else None),
        ("modelspec.architecture", meta.get("modelspec.architecture")),
        ("ss_base_model_version", meta.get("ss_base_model_version")),
        ("ss_sd_model_name", meta.get("ss_sd_model_name")),
    )
    evidence = [(s, str(v)[:200]) for s, v in sources if isinstance(v, str) and v.strip()]
    shape = fingerprint(names, shapes)
    if shape:
        evidence.append(("keys and shapes", shape))
    told = [(source, architecture(text)) for source, text in evidence]
    known = [(source, a) for source, a in told if a]
    disagreement = ""
    for source, other in known[1:]:
        is_like = source == "keys and shapes" and shape == "Llama-like"
        if other != known[0][1] and not (is_like and known[0][1] in _LLAMA_LIKE):
            disagreement = f"{known[0][0]} says {known[0][1]}, {source} says {other}"
    name = evidence[0][1] if evidence else ""
    return BaseModel(name, tuple(evidence), disagreement)
