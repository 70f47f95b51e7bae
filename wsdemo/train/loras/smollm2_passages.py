"""Passages of every source, by split, as tokens: which words LoRAs are trained and measured on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.train.loras.smollm2_plan import Plan
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN

LENGTH = 48
"""Tokens of a passage."""
MOST = 4000
"""Passages kept of a source."""
MEASURED = 4
"""Passages of a source on which losses are measured; they are in no split."""
GENERAL_MEASURED = 12
"""The same of the general text, equally many of each of its parts."""
WORDS = 16_384
"""The most frequent tokens of all passages, over which probabilities are taken; where the next
token is another one, nothing is learnt and nothing measured."""
SPLITS = ("train", "train", "validation", "calibration", "test")
"""The pools that a source's passages are dealt to in turn."""
NO_WORD = -100


@dataclass(frozen=True)
class Passages:
    """Tokens of all sources.

    Attributes:
        tokens: Source → (n, LENGTH) int32, in random order; the first are those measured on.
        words: (WORDS,) int64 tokens over which probabilities are taken, ascending.
    """

    tokens: dict[str, Tensor]
    words: Tensor

    def measured(self, source: str) -> Tensor:
        """(k, LENGTH) int64 passages that losses are measured on."""
        count = GENERAL_MEASURED if source == GENERAL else MEASURED
        return self.tokens[source][:count].long()

    def pool(self, source: str, split: str) -> list[int]:
        """Which passages of a source LoRAs of a split may be trained on."""
        places = range(MEASURED, len(self.tokens[source]))
        if split == "unseen":  # of a source seen elsewhere, the passages of test
            split = "test" if source in SOURCES else ""
        return [i for i in places if not split or SPLITS[i % len(SPLITS)] == split]

    def chosen(self, plan: Plan) -> Tensor:
        """(n, LENGTH) int64 passages of a plan: distinct, about equally many of each source.

        No source gives more than its smallest pool holds, so that sizes are alike in all splits.
        """
        rng = random.Random(plan.name + "/passages")
        each = max(1, round(plan.examples / len(plan.sources)))
        rows = []
        for source in plan.sources:
            pool = self.pool(source, plan.split)
            smallest = (len(self.tokens[source]) - MEASURED) // len(SPLITS)
            rows.append(self.tokens[source][rng.sample(pool, min(each, smallest))])
        return torch.cat(rows).long()

    def targets(self, tokens: Tensor) -> Tensor:
        """(n, T) tokens → (n, T − 1) places of the next ones in ``words``, or NO_WORD."""
        following = tokens[:, 1:].contiguous()
        place = torch.searchsorted(self.words, following).clamp(max=len(self.words) - 1)
        return torch.where(self.words[place] == following, place, NO_WORD)


def cut(text: str, name: str, tokenizer: Any) -> Tensor:
    """(n, LENGTH) tokens of a text, at most MOST, in random order.

    Raises:
        WsdemoError: The text is too short.
    """
    words = tokenizer(text).input_ids
    parts = len(words) // LENGTH
    least = MEASURED + 20 * len(SPLITS)
    if parts < least:
        raise WsdemoError(
            "Source too short", f"{name} has {parts} passages of {LENGTH} tokens.",
            f"Give sources of at least {least}.",
        )  # fmt: skip
    order = random.Random(name).sample(range(parts), min(parts, MOST))
    if name == GENERAL:  # of each third equally many among the first
        thirds = [[i for i in order if i * 3 // parts == k] for k in range(3)]
        order = [i for row in zip(*thirds, strict=False) for i in row][:GENERAL_MEASURED]
    return torch.tensor(
        [words[i * LENGTH : (i + 1) * LENGTH] for i in order], dtype=torch.int32
    )  # fmt: skip


def common_words(tokens: Sequence[Tensor], count: int = WORDS) -> Tensor:
    """The ``count`` most frequent tokens, ascending."""
    words, times = torch.cat([t.flatten() for t in tokens]).unique(return_counts=True)
    order = times.argsort(descending=True, stable=True)[:count]
    return words[order].sort().values.long()


def read_passages(texts: Path, tokenizer: Any, path: Path) -> Passages:
    """Cuts the texts of a folder, or reads what an earlier call kept in ``path``."""
    if not path.exists():
        names = (*SOURCES, *UNSEEN, GENERAL)
        tokens = {
            name: cut((texts / f"{name}.txt").read_text(encoding="utf-8"), name, tokenizer)
            for name in names
        }
        temporary = path.with_suffix(".tmp")
        save_file({**tokens, "/words": common_words(list(tokens.values()))}, temporary)
        temporary.replace(path)
    kept = load_file(path)
    words = kept.pop("/words")
    return Passages(kept, words)
