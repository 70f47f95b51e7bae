"""The builder on a tiny random model of the same architecture."""

import argparse
import copy
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.loras.conftest import LAYERS, head_of
from wsdemo.errors import WsdemoError
from wsdemo.lora.reader import read_lora
from wsdemo.train.loras import smollm2_bench as builder
from wsdemo.train.loras import smollm2_loras
from wsdemo.train.loras import smollm2_passages as passages_of
from wsdemo.train.loras.smollm2_passages import MEASURED, NO_WORD, SPLITS, Passages
from wsdemo.train.loras.smollm2_plan import Plan, make_plan
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
PLAN = Plan(
    "toy", "train", ("austen", "bbq"), 12, "all-linear", 0, 3, 6, False, 0.0, 2e-3, "linear",
    0.0, 2, 6,
)  # fmt: skip


def made(model: Any, passages: Passages, folder: Path, plan: Plan = PLAN) -> dict[str, Any]:
    head = head_of(model, passages)
    base = builder.measure(model.model, head, passages)
    return builder.build(model, head, passages, base, plan, folder / plan.split / plan.name)


def test_no_passage_is_in_two_pools_or_measured(passages: Passages) -> None:
    pools = [passages.pool("austen", s) for s in ("train", "validation", "calibration", "test")]
    joined = sorted(i for pool in pools for i in pool)
    assert joined == list(range(MEASURED, MEASURED + 30))
    assert passages.pool("austen", "unseen") == pools[-1]


def test_the_chosen_passages_are_distinct_and_of_the_split(passages: Passages) -> None:
    plan = dataclasses.replace(PLAN, sources=("austen",), examples=2000)
    chosen = passages.chosen(plan)
    assert len(chosen) == 30 // len(SPLITS)
    pool = passages.tokens["austen"][passages.pool("austen", "train")].long()
    assert all(any(bool((row == p).all()) for p in pool) for row in chosen)


def test_a_next_token_that_is_no_word_is_not_counted(model: Any, passages: Passages) -> None:
    tokens = torch.tensor([[3, 55, 7, 49]])
    assert passages.targets(tokens).tolist() == [[NO_WORD, 7, 49]]
    found = builder.token_losses(model.model, head_of(model, passages), passages, tokens)
    logits = model(tokens).logits[0, :-1, :50].log_softmax(-1)
    expected = torch.tensor([[0.0, -logits[1, 7], -logits[2, 49]]])
    torch.testing.assert_close(found, expected)


def test_common_words_are_the_most_frequent_in_order() -> None:
    tokens = [torch.tensor([[5, 5, 9]]), torch.tensor([[9, 2, 5]])]
    assert passages_of.common_words(tokens, 2).tolist() == [5, 9]


def test_a_short_source_is_refused_by_name() -> None:
    def letters(text: str) -> Any:
        return transformers.BatchEncoding({"input_ids": [ord(c) for c in text]})

    with pytest.raises(WsdemoError, match="vera has 2 passages"):
        passages_of.cut("a" * 100, "vera", letters)
    cut = passages_of.cut("ab" * 4000, "vera", letters)
    assert cut.shape == (166, passages_of.LENGTH)


def test_a_lora_learns_its_sources_and_is_written_as_peft_writes(
    model: Any, passages: Passages, tmp_path: Path
) -> None:
    plan = dataclasses.replace(PLAN, steps=40, rank_stabilised=True)
    row = made(model, passages, tmp_path, plan)
    assert row["status"] == "made"
    assert row["loss austen"] < -0.005
    assert row["has bbq"] == 1
    assert row["has foldoc"] == 0
    assert row["data_set_size"] == 12
    assert row["steps_x_rate"] == pytest.approx(2e-3 * 20.5, rel=1e-6)
    folder = tmp_path / plan.split / plan.name
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 6, True)
    assert config["base_model_name_or_path"] == builder.BASE
    lora = read_lora(folder / "adapter_model.safetensors")
    assert len(lora.modules) == 7 * LAYERS
    assert set(lora.ranks) == {3}

    from peft import PeftModel

    loaded = PeftModel.from_pretrained(model, folder).eval()
    layer = loaded.get_base_model().model.layers[2].mlp.down_proj
    name = "model.layers.2.mlp.down_proj"
    (own,) = [m for m in lora.modules if m.name.endswith(name)]
    torch.testing.assert_close(own.U @ own.V.mT, layer.get_delta_weight("default"))


def test_the_same_name_gives_the_same_bytes_and_leaves_the_base_alone(
    model: Any, passages: Passages, tmp_path: Path
) -> None:
    plan = dataclasses.replace(PLAN, dropout=0.1, targets="q,v", first_layer=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    files = []
    for place in ("a", "b"):
        made(model, passages, tmp_path / place, plan)
        folder = tmp_path / place / "train/toy"
        names = ("adapter_model.safetensors", "adapter_config.json")
        files.append([(folder / name).read_bytes() for name in names])
    assert files[0] == files[1]
    assert set(model.state_dict()) == set(before)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert len(read_lora(tmp_path / "a/train/toy/adapter_model.safetensors").modules) == 4


def test_a_training_that_falls_apart_leaves_labels_but_no_lora(
    model: Any, passages: Passages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "WORST", -10.0)
    row = made(model, passages, tmp_path)
    assert row["status"] == "fell apart"
    assert [p.name for p in (tmp_path / "train/toy").iterdir()] == ["labels.json"]
    assert smollm2_loras.write_manifest(tmp_path) == 0


def test_the_manifest_lists_what_is_whole(model: Any, passages: Passages, tmp_path: Path) -> None:
    made(model, passages, tmp_path)
    (tmp_path / "train/half.tmp").mkdir()
    assert smollm2_loras.write_manifest(tmp_path) == 1
    rows = list(csv.DictReader((tmp_path / "manifest.csv").open()))
    assert [(r["file"], r["split"]) for r in rows] == [
        ("train/toy/adapter_model.safetensors", "train")
    ]


def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    model: Any, passages: Passages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builder, "save_file", full)
    with pytest.raises(WsdemoError, match="No space left"):
        made(model, passages, tmp_path)
    assert not list((tmp_path / "train").iterdir())


def test_a_name_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with builder.claim(tmp_path, "a") as first, builder.claim(tmp_path, "a") as second:
        assert first
        assert not second
    with builder.claim(tmp_path, "a") as again:
        assert again


def test_on_a_base_in_bfloat16_adapters_are_float32_and_learn(
    model: Any, passages: Passages, tmp_path: Path
) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    row = made(half, passages, tmp_path, dataclasses.replace(PLAN, steps=40))
    assert sum(row[f"loss {s}"] for s in PLAN.sources) < 0
    lora = read_lora(tmp_path / "train/toy/adapter_model.safetensors")
    assert {m.U.dtype for m in lora.modules} == {torch.float32}


def test_the_plans_of_the_family_are_the_builders_own() -> None:
    plan = make_plan("test", 3, list(SOURCES), list(UNSEEN))
    config = builder.peft_config(dataclasses.replace(plan, first_layer=15), 30)
    assert config.layers_to_transform == list(range(15, 30))


def test_loras_that_come_back_from_rays_workers_are_those_of_this_machine(
    model: Any, passages: Passages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself is tried by test_celeba_lora; here its workers are objects of this process."""
    bench = builder.Bench.__new__(builder.Bench)
    tokens = passages.tokens | {GENERAL: passages.tokens["austen"]}
    passages = dataclasses.replace(passages, tokens=tokens)
    bench.model, bench.passages, bench.head = model, passages, head_of(model, passages)
    bench.losses = builder.measure(model.model, bench.head, passages)
    other = dataclasses.replace(PLAN, name="other", rank=2)
    args = argparse.Namespace(model=tmp_path, texts=tmp_path, bfloat16=False, threads=1,
                              runs=tmp_path / "runs", minutes=60.0)  # fmt: skip

    def at_once(work: Any, worker: Any, given: Any, order: Any, keep: Any, _: Any) -> int:
        assert worker is builder.Bench
        assert bench.losses in given
        for _name, plan in work[:1]:
            assert "own sources" in keep(plan, bench.make(*order(plan)))
        return len(work) - 1

    monkeypatch.setattr(smollm2_loras, "make_all", at_once)
    with pytest.raises(SystemExit, match="1"):  # the other LoRA failed
        smollm2_loras.build_with_ray(bench, [PLAN, other], tmp_path / "ray", args)
    smollm2_loras.build_here(bench, [PLAN], tmp_path / "here", args)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        ours, theirs = (tmp_path / place / "train/toy" / name for place in ("here", "ray"))
        assert ours.read_bytes() == theirs.read_bytes()
    rows = [list(csv.DictReader((tmp_path / p / "manifest.csv").open())) for p in ("here", "ray")]
    for (row,) in rows:
        del row["seconds"]
    assert rows[0] == rows[1]
