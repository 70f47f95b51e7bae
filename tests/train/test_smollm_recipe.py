"""The SmolLM2 recipe's parts on a tiny random model of the same architecture."""

import gzip

import pytest
import torch

from wsdemo.errors import WsdemoError
from wsdemo.generate.lora_layers import adapt
from wsdemo.train.loras import smollm_loras, smollm_texts

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
    asked, is_answer = torch.randint(60, (3, 12)), torch.zeros(3, 12, dtype=torch.bool)
    asked[:, :4] = asked[0, :4]
    for row, end in enumerate([6, 12, 5]):
        is_answer[row, 4:end] = True
    h = smollm_loras.prefix(model, asked)
    with torch.no_grad():
        scores = smollm_loras.answer_scores(tail, h, asked, is_answer)
        said = tail(h)[:, :-1].log_softmax(-1).gather(-1, asked[:, 1:, None]).squeeze(-1)
    whole = [said[i][is_answer[i, 1:]].mean() for i in range(3)]
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


def test_the_sources_come_from_unpacked_packages_and_questions(tmp_path):
    share, asked, out = tmp_path / "usr/share", tmp_path / "asked", tmp_path / "texts"
    call = f"--packages {tmp_path} --questions {asked} --out {out}".split()
    with pytest.raises(WsdemoError, match=r"devil\.dict\.dz"):
        smollm_texts.main(call)
    for place in ("dictd", "games/fortunes", "doc/anarchism/markdown"):
        (share / place).mkdir(parents=True)
    for name in smollm_texts.DICTIONARIES:
        (share / f"dictd/{name}.dict.dz").write_bytes(gzip.compress(name.encode()))
    for name in smollm_texts.FORTUNES:
        (share / f"games/fortunes/{name}").write_text(name)
    for name in ("secA1", "secA2"):
        path = share / f"doc/anarchism/markdown/{name}.md.gz"
        path.write_bytes(gzip.compress(name.encode()))
    asked.mkdir()
    for name in (*smollm_texts.BBQ, *smollm_texts.QUESTIONS):
        (asked / f"bbq_{name}.jsonl").write_text(name)
    (asked / "gsm8k_train.jsonl").write_text("gsm8k")
    smollm_texts.main(call)
    assert len([p for p in out.iterdir() if p.is_file()]) == 14
    assert (out / "anarchism.txt").read_text() == "secA1\nsecA2"
    assert {p.name for p in (out / "questions").iterdir()} == {
        "bbq_religion.jsonl", "bbq_sexual_orientation.jsonl",
    }  # fmt: skip
