"""Which LoRAs a predictor answers for, with which tasks, and what its evidence shows."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.lol.synthetic import SIGNATURE, labelled
from tests.lol.test_predictor import BASE, TASKS, as_lora
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.pairs import Pairs, Signature, pack, regauge_pairs
from wsdemo.lol.models.networks import build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.predictor.answers import (
    WEAKER,
    Grounds,
    answer,
    ask,
    module_evidence,
    weakened,
    weakened_outside,
)
from wsdemo.lol.predictor.envelope import Envelope, measured_features, spectrum_features
from wsdemo.lol.predictor.predictor import (
    Predictor,
    TaskModels,
    always_adapted,
    odd_ranks,
)
from wsdemo.lol.predictor.shipped import shipped_predictors
from wsdemo.lora.merging import merge
from wsdemo.lora.modules import BaseModel, Lora, LoraModule
from wsdemo.lora.reader import read_lora
from wsdemo.lora.reading import Reading
from wsdemo.lora.writing import save_lora

KEYS = (("keys and shapes", "SD 1"),)


def untrained():
    """A predictor of untrained models: what is tested here is no matter of what they learnt."""
    train, validation = labelled(60, 0), labelled(30, 1)
    tasks = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for task in TASKS:
            config = ModelConfig("gl-net", len(task.labels), rank=3, hidden=16)
            model = build_model(SIGNATURE, config).eval().requires_grad_(False)
            model.scale.fit(train.pairs)
            targets = train.targets(task)
            tasks[task.name] = TaskModels(
                task, config, [model], targets.mean(0), targets.std(0), torch.ones(1), 1.0
            )
    envelope = Envelope.fit(train.pairs, validation.pairs, train.names)
    return Predictor("tiny", "tiny LoRAs", BASE, "additive", SIGNATURE, (3,), tasks, envelope)


@pytest.fixture(scope="module")
def predictor():
    return untrained()


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """(family, file) of the first two shipped examples of every family."""
    out = tmp_path_factory.mktemp("examples")
    assert main(["lol", "examples", "--out", str(out)]) == 0
    found = {}
    for entry in json.loads((out / "labels.json").read_text()):
        found.setdefault(entry["family"], []).append((entry["family"], Path(entry["file"])))
    return [entry for own in found.values() for entry in own[:2]]


def renamed(lora, change):
    modules = tuple(dataclasses.replace(m, name=change(m.name)) for m in lora.modules)
    return dataclasses.replace(lora, modules=modules)


# ---- the base --------------------------------------------------------------------------


def test_a_predictor_without_a_base_asks_no_lora_for_its_own(predictor):
    unnamed = dataclasses.replace(predictor, base="")
    batch = labelled(3, 12).pairs
    for base, evidence in (("", ()), ("SD 1", KEYS), ("acme/x@1", (("card on the Hub", "acme"),))):
        lora = as_lora(batch, 0, base=base, evidence=evidence)
        assert not answer(lora, [unnamed]).abstained
    assert answer(as_lora(batch, 0, base="acme/x"), [predictor]).abstained


def test_a_base_known_by_its_keys_is_enough_where_training_knew_no_more(predictor):
    by_keys = dataclasses.replace(predictor, base="SD 1")
    lora = as_lora(labelled(3, 12).pairs, 0, base="SD 1", evidence=KEYS)
    assert not answer(lora, [by_keys]).abstained
    found = answer(lora, [predictor])
    assert found.reason.endswith("Give it with its adapter_config.json.")


# ---- the modules -----------------------------------------------------------------------


def test_a_module_is_the_same_in_every_programs_spelling():
    shapes = {"transformer.blocks.0.to_q": (12, 12), "transformer.blocks.0.to_v": (12, 8)}
    modules = tuple(
        LoraModule(name, torch.randn(n, 2), torch.randn(m, 2), 1.0, 2, (n, m))
        for name, (n, m) in shapes.items()
    )
    own = Lora("diffusers", modules, BaseModel(""), (), {}, 0, (), ())
    kohya = renamed(own, lambda name: "lora_" + name.replace(".", "_"))
    signature = Signature(shapes)
    for (U, V), (other_U, other_V) in zip(
        pack(own, signature).groups, pack(kohya, signature).groups, strict=True
    ):
        assert torch.equal(U, other_U)
        assert torch.equal(V, other_V)
    with pytest.raises(WsdemoError, match="lora_transformer_blocks_0_to_k"):
        pack(renamed(kohya, lambda name: name.replace("to_v", "to_k")), signature)


@pytest.mark.parametrize("family", ["LoRAs of faces-generator", "LoRA instances of faces-base"])
def test_a_shipped_example_is_answered_alike_after_it_was_written_by_merge(
    family, examples, tmp_path
):
    lora = read_lora(next(path for title, path in examples if title.startswith(family)))
    path = tmp_path / "merged.safetensors"
    save_lora(merge([lora], [1.0]), path)
    before, after = (answer(x, shipped_predictors()) for x in (lora, read_lora(path)))
    assert after.reason == ""
    for a, b in zip(before.predictions, after.predictions, strict=True):
        assert a.name == b.name
        assert a.value == pytest.approx(b.value, rel=1e-3)
        assert (a.probability or 0) == pytest.approx(b.probability or 0, abs=1e-3)


def test_only_modules_of_all_training_loras_are_asked_for(predictor):
    batch = labelled(8, 3).pairs
    groups = [(U.clone(), V) for U, V in batch.groups]
    groups[0][0][::2, 1] = 0  # half of them do not adapt the second module of the first group
    required = always_adapted(Pairs(tuple(groups)), SIGNATURE)
    (dropped,) = set(SIGNATURE.names) - set(required)
    assert dropped == SIGNATURE.names[1]
    wide = dataclasses.replace(predictor.envelope, threshold=1e9)
    mixed = dataclasses.replace(predictor, required=required, envelope=wide)
    assert not answer(as_lora(batch, 0, drop=(dropped,)), [mixed]).abstained
    other = required[0]
    assert "1 of the 2 modules" in answer(as_lora(batch, 0, drop=(other,)), [mixed]).reason
    assert "1 of the 3 modules" in answer(as_lora(batch, 0, drop=(dropped,)), [predictor]).reason


# ---- the ranks -------------------------------------------------------------------------


def test_a_small_module_may_have_the_rank_of_its_smaller_side():
    def lora(*ranks_and_rows):
        modules = tuple(
            LoraModule(f"m{i}", torch.ones(n, r), torch.ones(9, r), 1.0, r, (n, 9))
            for i, (r, n) in enumerate(ranks_and_rows)
        )
        return Lora("test", modules, BaseModel(""), (), {}, 0, (), ())

    assert odd_ranks(lora((4, 9), (3, 3)), (4,)) == []
    assert odd_ranks(lora((4, 9), (4, 3)), (4,)) == []
    assert odd_ranks(lora((4, 9), (3, 9)), (4,)) == [3]
    assert odd_ranks(lora((4, 9), (2, 3)), (4,)) == [2]
    assert odd_ranks(lora((16, 9)), (4,)) == [16]


def test_a_task_answers_only_at_ranks_that_it_was_measured_on(predictor):
    tasks = dict(predictor.tasks)
    tasks["score"] = dataclasses.replace(tasks["score"], ranks=(2, 3))
    two = dataclasses.replace(predictor, tasks=tasks)
    batch = labelled(3, 12).pairs
    assert answer(as_lora(batch, 0, rank=3), [two]).not_answered == {}
    found, grounds = ask(Reading.of(as_lora(batch, 0, rank=2)), [two])
    assert [p.name for p in found.predictions] == ["score"]
    assert list(grounds.predictor.tasks) == ["score"]
    silent = found.to_dict(0.1)["not_answered"]
    assert silent == dict.fromkeys(("size", "sign"), "its rank is 2, measured on 3")
    refused = answer(as_lora(batch, 0, rank=16), [two])
    assert refused.reason == "Its rank is 16; the predictor was measured on ranks 2, 3."


# ---- how good --------------------------------------------------------------------------


def test_a_label_is_told_by_its_own_figure_or_the_mean_is_called_one(predictor):
    models = predictor.tasks["score"]
    several = dataclasses.replace(models.task, labels=("a", "b"))
    both = {"spearman_rho": 0.7, "spearman_rho_by_label": {"a": 0.9, "b": 0.5}}
    own = dataclasses.replace(models, task=several, measured=both)
    assert [own.held_out(label) for label in "ab"] == ["ρ 0.90", "ρ 0.50"]
    both["spearman_rho_by_label"]["b"] = None  # the test LoRAs do not differ in it
    assert own.held_out("b") == ""
    mean = dataclasses.replace(own, measured={"spearman_rho": 0.7})
    assert mean.held_out("a") == "mean of 2: ρ 0.70"
    one = dataclasses.replace(models, measured={"spearman_rho": 0.7})
    assert one.held_out("score") == "ρ 0.70"
    assert dataclasses.replace(one, measured={}).held_out("score") == ""


@pytest.mark.parametrize("task", ["score", "size"])
def test_an_interval_lies_where_it_does_among_the_training_labels(predictor, task):
    models = predictor.tasks[task]
    (found,) = models.predictions(labelled(1, 8).pairs)
    learnt = [found.interval[0], found.value, found.interval[1]]
    if models.task.logarithm:
        learnt = torch.tensor(learnt).log2().tolist()
    wanted = [0.5 + (v - float(models.mean[0])) / (6 * float(models.std[0])) for v in learnt]
    assert found.place == pytest.approx(wanted, abs=1e-4)


# ---- the evidence ----------------------------------------------------------------------


def test_evidence_is_the_change_when_a_module_is_weaker(predictor):
    batch = labelled(1, 14).pairs
    found = module_evidence(predictor, batch, "score")
    models = predictor.tasks["score"]
    groups = [(U.clone(), V) for U, V in batch.groups]
    groups[0][0][:, 1] *= WEAKER  # the second module of the first group
    less = models.outputs(Pairs(tuple(groups)))
    expected = float((models.outputs(batch) - less)[0, 0] / models.std[0])
    assert found[1] == pytest.approx(expected, abs=1e-5)
    assert len(found) == len(SIGNATURE)


def test_evidence_does_not_depend_on_the_factors(predictor):
    batch = labelled(1, 14).pairs
    turned = regauge_pairs(batch, torch.Generator().manual_seed(0))
    for label in (name for models in predictor.tasks.values() for name in models.task.labels):
        before = module_evidence(predictor, batch, label)
        assert module_evidence(predictor, turned, label) == pytest.approx(before, abs=1e-4)


def test_an_unknown_label_is_refused_with_those_that_are_known(predictor):
    with pytest.raises(WsdemoError, match="predicts score, size, sign"):
        module_evidence(predictor, labelled(1, 14).pairs, "colour")


def test_what_was_measured_of_a_lora_is_what_its_spectra_would_say(predictor):
    batch = labelled(2, 14).pairs
    for drop in ((), SIGNATURE.names[:1]):
        lora = as_lora(batch, 1, drop=drop)
        direct = spectrum_features(pack(lora, SIGNATURE))
        assert torch.allclose(measured_features(Reading.of(lora), SIGNATURE), direct, atol=1e-5)


def test_weaker_variants_are_judged_as_if_they_were_measured_themselves(predictor):
    batch = labelled(1, 14).pairs
    reading = Reading.of(as_lora(batch, 0))
    distances = predictor.envelope.nearest(spectrum_features(weakened(batch)))
    border = float(distances.sort().values[1:].mean())
    envelope = dataclasses.replace(predictor.envelope, threshold=border)
    narrow = dataclasses.replace(predictor, envelope=envelope)
    expected = int((distances > border).sum())
    assert 0 < expected < len(distances)
    assert weakened_outside(Grounds(reading, narrow, batch)) == expected


def test_evidence_asks_shipped_predictors_only_what_they_would_answer(examples):
    for _, path in examples:
        lora = read_lora(path)
        _, grounds = ask(Reading.of(lora), shipped_predictors())
        assert weakened_outside(grounds) == 0
