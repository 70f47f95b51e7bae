"""What diffusers reads of each base, spelling and form: facts that were asked of its own loaders.

``readers/diffusers.toml`` is written by ``benchmarks.diffusers_reads``, and held to the library by
``tests/lora/bases/test_diffusers_reads.py``.
"""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from wsdemo.lora.bases.tables import Base


@dataclass(frozen=True)
class Rule:
    """One spelling and the forms of tensors that are read in it.

    Attributes:
        prefix: How names begin.
        naming: Which names follow.
        forms: Which tensors a module may have, as ``programs.diffusers.form`` words it: ``A B``.
        lost: Kinds of canonical modules that get no update, # for their numbers.
        refused: Kinds with which the whole file is refused.
        is_whole: Whether a file is refused that has a block in part only.
    """

    prefix: str
    naming: str
    forms: frozenset[str]
    lost: frozenset[str]
    refused: frozenset[str]
    is_whole: bool


@lru_cache(1)
def _facts() -> tuple[str, dict[str, tuple[Rule, ...]]]:
    text = resources.files(__package__).joinpath("readers", "diffusers.toml").read_text("utf-8")
    facts = tomllib.loads(text)
    version = facts.pop("version")
    rules = {key: tuple(map(_rule, entry)) for key, entry in facts.items()}
    return version, rules


def _rule(entry: dict[str, list[str]]) -> Rule:
    prefix, _, naming = str(entry["spelling"]).removesuffix("}").partition("{")
    lost = frozenset(entry.get("lost", [])) | frozenset(entry.get("wrong", []))
    forms, refused = frozenset(entry["forms"]), frozenset(entry.get("refused", []))
    return Rule(prefix, naming, forms, lost, refused, bool(entry.get("whole")))


def version() -> str:
    """Of the diffusers that was asked."""
    return _facts()[0]


def loader_of(base: Base) -> str:
    """Loader and architecture: bases that have the same are read alike. Empty if it has neither."""
    model = base.source.get("model")
    return f"{base.source.get('loader', '')} {model}".strip() if model else ""


def rules(base: Base) -> tuple[Rule, ...]:
    """What is read of a base, by its spellings."""
    return _facts()[1].get(loader_of(base), ())


def encoder_rules(base: Base, number: int) -> tuple[Rule, ...]:
    """What is read of a base's text encoder, counted from 1, by its spellings."""
    part = f"text_encoder_{number}" if number > 1 else "text_encoder"
    return _facts()[1].get(f"{loader_of(base)} {part}", ())
