"""How each LoRA of the family *SmolLM2* is made; everything is drawn from its name.

The draws follow what people publish for small models (of 183 public adapters nearly all sit on q,v
or q,k,v,o of the whole depth, rank 4 to 16, α = 2r; larger ones on all linear layers). Recipes
whose training would fall apart are drawn again: nobody publishes those.
"""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
TARGETS = {
    "q,v": ("q_proj", "v_proj"),
    "attention": ATTENTION,
    "all-linear": ATTENTION + MLP,
    "mlp": MLP,
}
"""Sets of modules that people adapt."""
TARGET_WEIGHTS = (0.35, 0.25, 0.3, 0.1)
RANKS = {2: 8, 4: 14, 8: 27, 16: 27, 32: 14, 64: 10}
"""Rank → weight."""
MOST_STRENGTH, MOST_SPREAD = 4e-3, 1.3e-2
"""Largest rate × scale, and rate × scale × √rank: with 0.025 of the latter, rank 64 lost two nats a
token on every text within 190 steps."""
SHORT, LONG, LONG_SHARE = (8, 80), (80, 200), 0.1
"""Steps, drawn evenly in the logarithm."""
BATCHES, LONG_BATCHES = (1, 2, 4, 4), (1, 1, 2, 2)
"""Passages a step, of short trainings and of long ones."""
EXAMPLES = (4, 2000)
SOURCE_WEIGHTS = {1: 10, 2: 19, 3: 17, 4: 14, 5: 12, 6: 10, 7: 9, 8: 9}
"""How many sources → weight."""
COUNTS = {"train": 400, "validation": 60, "calibration": 80, "test": 130, "unseen": 40}
TOY_COUNTS = {"train": 20, "validation": 10, "calibration": 10, "test": 10, "unseen": 4}
SHARES = {"train": 0.5, "validation": 0.14, "calibration": 0.16, "test": 0.2}
"""Of all sets of sources, by split: a set is in one split alone."""


@dataclass(frozen=True)
class Plan:
    """How one LoRA is made.

    Attributes:
        name: Of the LoRA.
        split: Whose sets of sources, passages and seeds it has.
        sources: Which texts.
        examples: Passages asked for, over all sources; a short source may hold fewer.
        targets: A key of TARGETS.
        first_layer: 0 but for those that adapt the upper half alone.
        rank, alpha, rank_stabilised, dropout: As PEFT calls them; rsLoRA scales by α/√r.
        learning_rate, schedule, weight_decay: AdamW's; the schedule is linear, cosine or constant.
        batch, steps: Passages a step, and steps.
    """

    name: str
    split: str
    sources: tuple[str, ...]
    examples: int
    targets: str
    first_layer: int
    rank: int
    alpha: int
    rank_stabilised: bool
    dropout: float
    learning_rate: float
    schedule: str
    weight_decay: float
    batch: int
    steps: int

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return float(self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank))


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """A number between two, even in its logarithm."""
    return float(low * (high / low) ** rng.random())


def split_of_set(sources: Sequence[str]) -> str:
    """The one split in which a set of sources may be."""
    place = zlib.crc32(",".join(sorted(sources)).encode()) % 1000 / 1000
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "test"


def draw_sources(
    rng: random.Random, split: str, sources: Sequence[str], unseen: Sequence[str]
) -> tuple[str, ...]:
    """One to eight sources of a split; for ``unseen`` one or both of those, at times one seen."""
    if split == "unseen":
        picked = rng.sample(list(unseen), rng.choice([1, 1, 1, min(2, len(unseen))]))
        return tuple(sorted(picked + rng.sample(list(sources), rng.choice([0, 0, 0, 1]))))
    while True:
        (count,) = rng.choices(list(SOURCE_WEIGHTS), list(SOURCE_WEIGHTS.values()))
        chosen = tuple(sorted(rng.sample(list(sources), min(count, len(sources)))))
        if split_of_set(chosen) == split:
            return chosen


def make_plan(
    split: str, index: int, sources: Sequence[str], unseen: Sequence[str], layers: int = 30
) -> Plan:
    """The recipe of LoRA ``index`` of a split."""
    name = f"smollm2-{split}-{index:04d}"
    rng = random.Random(name)
    chosen = draw_sources(rng, split, sources, unseen)
    examples = round(log_uniform(rng, *EXAMPLES))
    (targets,) = rng.choices(list(TARGETS), TARGET_WEIGHTS)
    first_layer = layers // 2 if rng.random() < 0.08 else 0
    (rank,) = rng.choices(list(RANKS), list(RANKS.values()))
    while True:
        alpha = rng.choice([rank, 2 * rank, 2 * rank, 16, 32])
        rank_stabilised = rng.random() < 0.1
        rate = log_uniform(rng, 5e-5, 2e-3)
        strength = rate * alpha / (rank**0.5 if rank_stabilised else rank)
        if strength <= MOST_STRENGTH and strength * rank**0.5 <= MOST_SPREAD:
            break
    steps = log_uniform(rng, *(LONG if rng.random() < LONG_SHARE else SHORT))
    return Plan(
        name=name, split=split, sources=chosen, examples=examples, targets=targets,
        first_layer=first_layer, rank=rank, alpha=alpha, rank_stabilised=rank_stabilised,
        dropout=rng.choice([0.0, 0.0, 0.05, 0.1]), learning_rate=rate,
        schedule=rng.choice(["linear", "linear", "cosine", "constant"]),
        weight_decay=rng.choice([0.0, 0.01]),
        batch=rng.choice(LONG_BATCHES if steps > SHORT[1] else BATCHES), steps=round(steps),
    )  # fmt: skip


def queue(
    sources: Sequence[str], unseen: Sequence[str], layers: int = 30, counts: dict[str, int] = COUNTS
) -> list[Plan]:
    """All recipes, the splits interleaved: every beginning of the list is a usable collection."""
    placed = [
        ((i + 0.5) / n, make_plan(split, i, sources, unseen, layers))
        for split, n in counts.items()
        for i in range(n)
    ]
    return [plan for _, plan in sorted(placed, key=lambda p: (p[0], p[1].name))]
