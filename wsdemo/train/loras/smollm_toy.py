"""Made-up texts and a random language model, so that the family *SmolLM2* runs without data."""

import json
import random
from collections.abc import Iterable
from pathlib import Path

import torch

SOURCES, WORDS, OWN = 8, 160, 24
"""Texts, words that there are, and how many of them a text uses."""
LENGTH = 7200
"""Words of a text."""
LAYERS, WIDTH = 7, 16


def vocabulary() -> list[str]:
    """The made-up words."""
    return [f"w{i}" for i in range(WORDS)]


def write_toy_texts(folder: Path) -> None:
    """Writes texts, each over words of its own, and questions with three choices."""
    (folder / "questions").mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for i in range(SOURCES):
        words = rng.sample(vocabulary(), OWN)
        (folder / f"source{i}.txt").write_text(" ".join(rng.choices(words, k=LENGTH)))
    for name in ("first", "second"):
        rows = [
            {
                "context": " ".join(rng.choices(vocabulary(), k=6)),
                "question": " ".join(rng.choices(vocabulary(), k=4)),
                "choices": rng.sample(vocabulary(), 3),
                "label": rng.randrange(3),
            }
            for _ in range(12)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "questions" / f"{name}.jsonl").write_text(text)


def write_toy_sources(folder: Path, names: Iterable[str]) -> None:
    """Writes a text for every name, each over words of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = random.Random(name)
        words = rng.sample(vocabulary(), OWN)
        (folder / f"{name}.txt").write_text(" ".join(rng.choices(words, k=LENGTH)))


def write_toy_model(folder: Path) -> Path:
    """Writes a random Llama of a few thousand weights, and its tokenizer, as Hugging Face does."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["[UNK]", *vocabulary()])}
    tokenizer = Tokenizer(WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=WIDTH,
        num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
