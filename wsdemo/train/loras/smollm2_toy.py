"""Made-up texts and a random language model, so that the family *SmolLM2* runs without data."""

import random
from collections.abc import Iterable
from pathlib import Path

import torch

WORDS, OWN = 160, 24
"""Words that there are, and how many of them a text uses."""
LENGTH = 7200
"""Words of a text."""
LAYERS, WIDTH = 7, 16


def vocabulary() -> list[str]:
    """The made-up words."""
    return [f"w{i}" for i in range(WORDS)]


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
