"""Which base model a LoRA was made for, from every source that says so.

Strongest first: adapter_config.json, the card of its repository on the Hub,
modelspec.architecture or GGUF's, the trainer's ss_base_model_version, the keys and shapes
themselves. A disagreement is shown.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from wsdemo.lora.bases.recognise import Recognised, listed, recognise
from wsdemo.lora.bases.sizes import fitting, spoken
from wsdemo.lora.bases.tables import Base, bases
from wsdemo.lora.modules import BaseModel
from wsdemo.safetensors_header import Header

_OTHERS = {"faces-generator": "wsdemo's face generator"}
"""Words that speak of a model that has no table."""

ORIGIN = "wsdemo_origin"
"""Key of adapter_config.json under which a download keeps its repository, commit and card."""
KEYS = "keys and shapes"
"""The source that a file itself is."""
SIZES = "layers and dimensions"
"""The same for models that share their layers' names."""
GGUF = "general.architecture"
"""Where llama.cpp's files say what they are for."""


@lru_cache(1)
def _words() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """(word, how it stands in a text, family), the longest word first."""
    families = [(w, b.family) for b in bases() for w in b.words]
    families += [(w, m) for b in bases() for m, words in b.members.items() for w in words]
    families += _OTHERS.items()
    entries = {
        w: (w, re.compile(rf"(?<![a-z]){re.escape(w)}(?![a-z])|{re.escape(w)}(?=-)"), family)
        for w, family in families
    }
    return tuple(sorted(entries.values(), key=lambda entry: -len(entry[0])))


@lru_cache(1000)
def architecture(text: str) -> str:
    """The family of models that a model's name speaks of; empty if none is known."""
    lowered = text.lower()
    return next((family for _, word, family in _words() if word.search(lowered)), "")


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
        (GGUF, meta.get("general.architecture")),
        ("ss_base_model_version", meta.get("ss_base_model_version")),
        ("ss_sd_model_name", meta.get("ss_sd_model_name")),
    )
    evidence = [(s, str(v)[:200]) for s, v in sources if isinstance(v, str) and v.strip()]
    recognised = recognise(names, shapes)
    architectures = [(source, architecture(text)) for source, text in evidence]
    families = [(source, family) for source, family in architectures if family]
    name, disagreement = _decided(recognised)
    agreeing = _agreeing(recognised, families)
    models = fitting(agreeing[0], names, shapes) if agreeing else ()
    disagreement = (
        disagreement
        or _contradiction(recognised, families)
        or _other_size(agreeing, models, evidence)
    )
    name = agreeing[0].name if models else name
    if name:
        evidence.append((KEYS, name))
    if models:
        evidence.append((SIZES, listed(models)))
    first = evidence[0][1] if evidence else ""
    if evidence and evidence[0][0] == KEYS and models:
        first = f"{name} of the size of {listed(models)}"
    return BaseModel(
        first,
        tuple(evidence),
        disagreement,
        tuple(b.key for b in agreeing),
        recognised.sizes_fit,
    )


def _other_size(
    agreeing: Sequence[Base], models: Sequence[str], evidence: Sequence[tuple[str, str]]
) -> str:
    """A text that names a model of another size; empty if there is none."""
    for source, text in evidence:
        model = spoken(agreeing[0], text) if models else ""
        if model and model not in models:
            return f"{source} says {model}, its sizes are those of {listed(models)}"
    return ""


def _decided(recognised: Recognised) -> tuple[str, str]:
    """What keys and shapes say, in words; and what is wrong with it."""
    if recognised.mixed:
        first, second = recognised.mixed
        return f"{first} and {second}", f"The file mixes modules of {first} and of {second}"
    return recognised.name, ""


def _agreeing(recognised: Recognised, families: Sequence[tuple[str, str]]) -> list[Base]:
    """Of the bases that keys and shapes allow, those that a text speaks of; all if none is."""
    for _, family in families:
        agreeing = [b for b in recognised.bases if family in (b.family, *b.members)]
        if agreeing:
            return agreeing
    return list(recognised.bases)


def _contradiction(recognised: Recognised, families: Sequence[tuple[str, str]]) -> str:
    """The first two sources that cannot both be right; empty if there are none."""
    if not families:
        return ""
    source, family = families[0]
    for other, other_family in families[1:]:
        if other_family != family and not (other == GGUF and _are_alike(other_family, family)):
            return f"{source} says {family}, {other} says {other_family}"
    if recognised.bases and recognised.name and family not in recognised.families:
        names = list(dict.fromkeys(b.family for b in recognised.bases))
        return f"{source} says {family}, {KEYS} says {' or '.join(names)}"
    return ""


def _are_alike(first: str, second: str) -> bool:
    """Whether two families share their layers' names: llama.cpp calls Mistral ``llama`` too."""
    return any({first, second} <= {b.family, *b.members} for b in bases())
