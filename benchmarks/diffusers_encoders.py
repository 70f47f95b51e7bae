"""What diffusers makes of the updates of text encoders: asked of its own loaders.

A file has the denoiser's attention as the loader reads it, and one module a kind of one of the
base's text encoders. Encoders have their real widths, two layers, and weights that take no memory.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.diffusers_models import (
    CLOSE,
    apart,
    applied,
    build,
    copied,
    drawn,
    loader,
    one_a_kind,
    tensors_of,
    weightless,
)
from wsdemo.lora.bases import readers
from wsdemo.lora.bases.canonical import spelled_for
from wsdemo.lora.bases.recognise import encoder_of
from wsdemo.lora.bases.spelled import PREFIXES
from wsdemo.lora.bases.tables import Base, Spelling, all_tables, numberless
from wsdemo.lora.modules import LoraModule

_PROJECTED = {"StableDiffusionXLLoraLoaderMixin": (2,), "SD3LoraLoaderMixin": (1, 2)}
"""Loader → which of its pipeline's text encoders are CLIPTextModelWithProjection."""
_KNOWN = ("clip_l", "clip_g", "clip_h", "t5_xxl")
_FORMS = ("A B", "A B alpha", "down up", "down up alpha")


@dataclass(frozen=True)
class Question:
    """One spelling and form of a text encoder's update.

    Attributes:
        prefix: How names begin.
        encoder: Key of the encoder's table.
        naming: Which of its names follow.
        form: Which tensors a module has.
    """

    prefix: str
    encoder: str
    naming: str
    form: str


@lru_cache(16)
def _built(key: str, is_projected: bool) -> nn.Module:
    shapes = all_tables()[key].shapes
    if key == "t5_xxl":
        ffn, width = shapes["encoder.block.0.layer.1.DenseReluDense.wi_0"]
        inner = shapes["encoder.block.0.layer.0.SelfAttention.q"][0]
        config: Any = transformers.T5Config(
            d_model=width, d_ff=ffn, num_layers=2, num_heads=inner // 64, vocab_size=8,
            feed_forward_proj="gated-gelu",
        )  # fmt: skip
        with torch.device("meta"):
            return weightless(transformers.T5EncoderModel(config))
    ffn, width = shapes["text_model.encoder.layers.0.mlp.fc1"]
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=ffn, num_hidden_layers=1, projection_dim=width,
        num_attention_heads=width // 64, vocab_size=8,
    )  # fmt: skip
    kind = "CLIPTextModelWithProjection" if is_projected else "CLIPTextModel"
    return getattr(transformers, kind)(config)  # with weights: else transformers fills nothing


def build_encoders(base: Base) -> dict[str, nn.Module]:
    """The base's text encoders by diffusers' names: ``text_encoder``, ``text_encoder_2`` …"""
    projected = _PROJECTED.get(base.source.get("loader", ""), ())
    return {
        f"text_encoder_{i}" if i > 1 else "text_encoder": copied(_built(key, i in projected))
        for i, key in enumerate(base.encoders, 1)
        if key in _KNOWN
    }


def of_encoder(key: str, seed: int = 0) -> dict[str, LoraModule]:
    """A LoRA of rank 2 on the first module of each kind of a text encoder's table."""
    table = all_tables()[key]
    names: dict[str, str] = {}
    for name in table.shapes:
        names.setdefault(numberless(name), name)
    return drawn(names.values(), table.shapes, seed)


def companions(base: Base, prefix: str, form: str) -> dict[str, Tensor]:
    """The denoiser's attention in the spelling and form in which a loader reads it, if it does."""
    for rule in readers.rules(base):
        if rule.prefix.startswith("lora_") is prefix.startswith("lora_") and form in rule.forms:
            all_kinds = one_a_kind(base, build(base))
            unread = rule.refused | rule.lost
            modules = {n: m for n, m in all_kinds.items()
                       if "att" in n and numberless(n) not in unread}  # fmt: skip
            named, _ = spelled_for(modules, base, Spelling("", rule.prefix, rule.naming))
            return tensors_of(named, form)
    return {}


def encoder_applied(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """What is applied, by the table's names: some versions leave out ``text_model.``."""
    bare = applied(model)
    has_root = hasattr(model, "text_model") or hasattr(model, "shared")
    return {n if has_root or n == "text_projection" else f"text_model.{n}": p
            for n, p in bare.items()}  # fmt: skip


def file_of(base: Base, question: Question, modules: Mapping[str, LoraModule]) -> dict[str, Tensor]:
    """The tensors of a file that asks a question."""
    table = all_tables()[question.encoder]
    named, _ = spelled_for(modules, table, Spelling("", question.prefix, question.naming))
    return companions(base, question.prefix, question.form) | tensors_of(named, question.form)


def read_of(base: Base, question: Question, modules: Mapping[str, LoraModule]) -> list[str] | None:
    """The modules of the text encoder that get their update; None if the loader stops."""
    encoders, model = build_encoders(base), build(base)
    try:
        loader(base, model, encoders)(file_of(base, question, modules))
    except Exception:  # the library's own, of any kind
        return None
    own = encoders.get(part_of(base, question.encoder))
    there = {} if own is None else encoder_applied(own)
    return [n for n, m in modules.items() if n in there and apart((m.U, m.V), there[n]) < CLOSE]


def part_of(base: Base, encoder: str) -> str:
    """diffusers' name for a text encoder of a base."""
    number = base.encoders.index(encoder) + 1
    return f"text_encoder_{number}" if number > 1 else "text_encoder"


def rule(base: Base, question: Question) -> dict[str, Any] | None:
    """What is read in one spelling and form; None if nothing is, and the file is not refused."""
    modules = of_encoder(question.encoder)
    layers = {n: m for n, m in modules.items() if n != "text_projection"}
    read, refused = read_of(base, question, modules), []
    if read is None:
        refused = sorted(map(numberless, modules))
        if layers.keys() != modules.keys():
            read = read_of(base, question, layers)
            refused = ["text_projection"] if read is not None else refused
    if read == []:
        return {"refused": refused} if refused else None
    lost = sorted({numberless(n) for n in modules if n not in (read or modules)} - {*refused})
    return {k: v for k, v in (("lost", lost), ("refused", refused)) if v}


def questions(base: Base) -> Iterable[Question]:
    """What a file of a base may have of its text encoders, if a loader reads its denoiser's."""
    if not readers.rules(base):
        return
    for prefix, part in PREFIXES:
        key = None if part.startswith("model") else encoder_of(base, part)
        if key not in _KNOWN:
            continue
        for naming in all_tables()[key].namings:
            for form in _FORMS:
                if not (prefix.endswith("_") and form.startswith("A B")):  # nobody writes it
                    yield Question(prefix, key, naming, form)


def rules(base: Base) -> dict[str, list[tuple[str, list[str], dict[str, Any]]]]:
    """Text encoder → spelling, forms, and what is read of it, of one base."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for question in questions(base):
        own = rule(base, question)
        if own is not None:
            key = (f"{question.prefix}{{{question.naming}}}", json.dumps(own))
            there = found.setdefault(part_of(base, question.encoder), {})
            there.setdefault(key, []).append(question.form)
    return {
        part: [(spelling, forms, json.loads(text)) for (spelling, text), forms in own.items()]
        for part, own in found.items()
    }
