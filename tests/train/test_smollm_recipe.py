"""The SmolLM2 recipe's parts on a tiny random model of the same architecture."""

import pytest
import torch

from wsdemo.generate.lora_layers import adapt
from wsdemo.train import smollm_loras

transformers = pytest.importorskip("transformers")
SOURCES = [f"source{i}" for i in range(10)]


def test_no_set_of_sources_is_in_two_splits():
    sets = {
        split: {smollm_loras.make_plan(split, i, SOURCES).sources for i in range(60)}
        for split in ("train", "validation", "test")
    }
    assert not sets["train"] & sets["test"]
    assert not sets["train"] & sets["validation"]
    assert not sets["validation"] & sets["test"]
    assert smollm_loras.make_plan("test", 5, SOURCES) == smollm_loras.make_plan("test", 5, SOURCES)


def test_the_last_layers_continue_what_the_first_ones_computed(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=60, hidden_size=24, intermediate_size=32, num_hidden_layers=8,
        num_attention_heads=4, num_key_value_heads=2, attn_implementation="sdpa",
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    tokens = torch.randint(60, (3, 12))
    words = torch.arange(60)
    cache = {f"tail.{k}": v for k, v in model.model.layers[-6:].state_dict().items()}
    cache |= {"norm": model.model.norm.weight, "head": model.lm_head.weight[words]}
    file = tmp_path / "config.json"
    file.write_text(config.to_json_string())
    tail = smollm_loras.Tail(cache, file)
    with torch.no_grad():
        found = tail(smollm_loras.prefix(model, tokens))
        expected = model(tokens).logits
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=5e-3)  # prefixes are fp16
    loss = smollm_loras.next_word_loss(expected, tokens)
    own = model(tokens, labels=tokens).loss
    assert float(loss.mean()) == pytest.approx(float(own), rel=1e-4)
    h, is_answer = torch.randn(3, 12, 24), torch.zeros(3, 12, dtype=torch.bool)
    for row, (first, last) in enumerate([(2, 5), (9, 12), (4, 8)]):
        is_answer[row, first:last] = True
    said = tail(h)[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    whole = [said[i][is_answer[i, 1:]].mean() for i in range(3)]
    scores = smollm_loras.answer_scores(tail, h, tokens, is_answer)
    torch.testing.assert_close(scores, torch.stack(whole))
    layers = adapt(tail, smollm_loras.TARGETS)
    assert len(layers) == 12


def test_loras_that_calibrate_have_sets_of_validation():
    sets = {
        split: {smollm_loras.make_plan(split, i, SOURCES).sources for i in range(300)}
        for split in ("train", "calibration", "validation", "test")
    }
    assert not sets["calibration"] & (sets["train"] | sets["test"])
    assert sets["calibration"] & sets["validation"]
