"""A tiny random model of SmolLM2's architecture, and passages for it."""

from typing import Any

import pytest
import torch

from wsdemo.train.loras.smollm2_passages import MEASURED, Passages
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN

NAMES = (*SOURCES, *UNSEEN, GENERAL)
LAYERS, VOCABULARY = 4, 60


@pytest.fixture
def model() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture
def passages() -> Passages:
    generator = torch.Generator().manual_seed(1)
    tokens = {
        name: torch.randint(3 * i, 3 * i + 3, (MEASURED + 30, 8), generator=generator).int()
        for i, name in enumerate(NAMES[:16])
    }
    return Passages(tokens, torch.arange(50))


def head_of(model: Any, passages: Passages) -> torch.Tensor:
    weight: torch.Tensor = model.lm_head.weight[passages.words]
    return weight.clone()
