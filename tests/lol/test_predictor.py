"""A predictor from training to its answer: calibrated, saved, and honest about its limits."""

import dataclasses
import json

import pytest
import torch
import yaml
from scipy import stats
from sklearn.metrics import brier_score_loss

from tests.lol.synthetic import SIGNATURE, labelled, pairs, write_collection
from wsdemo.checkpoints import load_checkpoint, save_checkpoint
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import Collection, load_collection
from wsdemo.lol.data.pairs import Pairs, regauge_pairs
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.predictor.answers import Grounds, answer, dose_curve, model_index, rank_curve
from wsdemo.lol.predictor.build import build_predictor, common_rank, compare_models
from wsdemo.lol.predictor.calibration import platt_scaling
from wsdemo.lol.predictor.files import load_predictor, save_predictor
from wsdemo.lol.predictor.metrics import (
    binary_metrics,
    conformal_quantile,
    expected_calibration_error,
    regression_metrics,
)
from wsdemo.lora.modules import BaseModel, Lora, LoraModule
from wsdemo.lora.reading import Reading

BASE = "acme/tiny@1"
TASKS = (
    Task("score", ("score",), "regression", unit="points"),
    Task("size", ("size",), "regression", logarithm=True, unit="faces"),
    Task("sign", ("sign",), "binary"),
)


def as_lora(
    batch, index, base=BASE, rank=3, drop=(), evidence=(("adapter_config.json", BASE),),
    magnitude=None,
):  # fmt: skip
    modules = [
        LoraModule(
            name, U[index, j], V[index, j], 1.0, rank, (U.shape[2], V.shape[2]), magnitude=magnitude
        )
        for (_, names), (U, V) in zip(SIGNATURE.groups, batch.groups, strict=True)
        for j, name in enumerate(names)
        if name not in drop
    ]
    return Lora("test", tuple(modules), BaseModel(base, evidence), (), {}, 0, (), ())


@pytest.fixture(scope="module")
def collection():
    splits = {"train": labelled(160, 0), "validation": labelled(60, 1), "test": labelled(60, 2)}
    return Collection(SIGNATURE, splits, TASKS, BASE, {3: 160}, ())


@pytest.fixture(scope="module")
def predictor(collection):
    rows = {
        task.name: compare_models(collection, task, ("gl-net", "gl-net-norms", "mlp"), seeds=2)
        for task in TASKS
    }
    return build_predictor(collection, rows, "tiny", "tiny LoRAs", "additive")


def test_it_learns_what_can_be_learnt(predictor):
    assert predictor.tasks["score"].measured["spearman_rho"] > 0.9
    assert predictor.tasks["sign"].measured["auc"] > 0.9


def test_intervals_hold_what_they_promise_on_new_loras(predictor):
    fresh = labelled(300, 7)
    models = predictor.tasks["score"]
    error = (models.outputs(fresh.pairs)[:, 0] - fresh.labels["score"]).abs()
    covered = float((error <= models.half_width[0]).float().mean())
    # A quantile of the 40 residuals that choose the width leaves a standard deviation of 0.047.
    assert 0.9 - 2.5 * 0.047 < covered <= 1.0


def test_a_logarithmic_task_answers_in_its_own_unit(predictor):
    fresh = labelled(1, 8)
    (found,) = predictor.tasks["size"].predictions(fresh.pairs)
    assert found.interval[0] < found.value < found.interval[1]
    assert found.interval[0] > 0
    assert found.unit == "faces"


def test_saving_and_loading_changes_no_digit_that_is_shown(predictor, tmp_path):
    path = tmp_path / "p.safetensors"
    save_predictor(path, predictor, {})
    again = load_predictor(path)
    batch = labelled(5, 9).pairs
    for name, models in predictor.tasks.items():
        torch.testing.assert_close(
            models.outputs(batch), again.tasks[name].outputs(batch), atol=0.02, rtol=0.02
        )
    save_predictor(tmp_path / "q.safetensors", again, {})
    twice = load_predictor(tmp_path / "q.safetensors")
    assert torch.equal(again.tasks["score"].outputs(batch), twice.tasks["score"].outputs(batch))
    assert again.envelope.threshold == predictor.envelope.threshold


def test_a_file_that_is_no_predictor_is_refused(tmp_path, predictor):
    with pytest.raises(WsdemoError, match="not in"):
        load_predictor(tmp_path / "none.safetensors")
    from wsdemo.checkpoints import load_checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "x.safetensors", {"a": torch.ones(1)}, {"kind": "base"})
    with pytest.raises(WsdemoError, match="kind 'base'"):
        load_predictor(tmp_path / "x.safetensors")
    save_predictor(tmp_path / "p.safetensors", predictor, {})
    tensors, meta = load_checkpoint(tmp_path / "p.safetensors")
    tensors.pop(next(k for k in tensors if "left" in k))
    save_checkpoint(tmp_path / "y.safetensors", tensors, meta)
    with pytest.raises(WsdemoError, match="does not hold"):
        load_predictor(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda meta, _: meta["tasks"][0]["config"].update(hidden=10**9),
        lambda meta, _: meta["tasks"][0]["config"].update(layers=10**9),
        lambda meta, _: meta["tasks"][0]["config"].update(outputs=7),
        lambda meta, _: meta["tasks"][0]["config"].update(width="wide"),
        lambda meta, _: meta["tasks"][0].update(count=10**18),
        lambda meta, _: meta["tasks"][0].update(temperature=0.0),
        lambda meta, _: meta["tasks"][0].update(shift=float("inf")),
        lambda meta, _: meta["tasks"][0]["task"].update(labels=[[1]]),
        lambda meta, _: meta["tasks"][0]["measured"].update(spearman_rho="high"),
        lambda meta, _: meta.update(tasks=[]),
        lambda meta, _: meta.update(shapes=[1]),
        lambda meta, _: meta.update(threshold=float("nan")),
        lambda meta, _: meta.update(names=meta["names"][:3]),
        lambda _, tensors: tensors.update({"envelope.mean": torch.zeros(3)}),
        lambda _, tensors: tensors.update({"0.mean": torch.zeros(3)}),
        lambda meta, _: meta["shapes"].update({"block0.to_q": [2**40, 2**40]}),
        lambda meta, _: meta.update(threshold=None),
        lambda _, tensors: tensors.pop("envelope.features"),
        lambda _, tensors: tensors["envelope.features"].fill_(float("nan")),
        lambda _, tensors: tensors.pop("0.0.maps.0.weight", tensors.pop(sorted(tensors)[0])),
    ],
)
def test_a_strangers_predictor_is_refused_before_memory_is_taken(tmp_path, predictor, change):
    path = tmp_path / "p.safetensors"
    save_predictor(path, predictor, {})
    tensors, meta = load_checkpoint(path)
    change(meta, tensors)
    save_checkpoint(path, tensors, meta)
    with pytest.raises(WsdemoError, match="damaged"):
        load_predictor(path)


def test_the_answer_to_a_lora_of_the_family(predictor):
    found = answer(as_lora(labelled(3, 11).pairs, 0), [predictor])
    assert not found.abstained
    assert [p.name for p in found.predictions] == ["score", "size", "sign"]
    assert found.predictions[2].probability is not None
    assert len(found.neighbours) == 3
    assert 0 < found.distance < 1.5
    json.dumps(found.to_dict(0.1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: as_lora(Pairs(tuple((U * 0, V) for U, V in b.groups)), 0), "no-op"),
        (lambda b: as_lora(b, 0, base="acme/other"), "names the base model"),
        (lambda b: as_lora(b, 0, base="acme/tiny@2"), "another version"),
        (
            lambda b: as_lora(b, 0, base="SD 1", evidence=(("keys and shapes", "SD 1"),)),
            "does not say which base",
        ),
        (lambda b: as_lora(b, 0, magnitude=torch.ones(12)), "DoRA"),
        (lambda b: as_lora(b, 0, rank=16), "rank is 16"),
        (lambda b: as_lora(b, 0, drop=("block1.to_q",)), "1 of the 3 modules"),
        (lambda b: as_lora(b.scaled(1e4), 0), "outside the training LoRAs"),
        (lambda b: as_lora(b.scaled(1e-5), 0), "outside the training LoRAs"),
    ],
)
def test_it_abstains_and_says_why(predictor, change, said):
    found = answer(change(labelled(3, 12).pairs), [predictor])
    assert found.abstained
    assert said in found.reason
    assert found.predictions == ()


def test_it_abstains_on_no_test_lora_of_its_family(predictor, collection):
    batch = collection.splits["test"].pairs
    reasons = [answer(as_lora(batch, i), [predictor]).reason for i in range(len(batch))]
    assert sum(bool(r) for r in reasons) <= 1, reasons


def test_an_own_predictor_that_abstains_does_not_silence_another(predictor):
    lora = as_lora(labelled(60, 2).pairs, 0)
    other = dataclasses.replace(predictor, ranks=(16,))
    assert answer(lora, [other]).reason.startswith("Its rank is 3")
    assert not answer(lora, [other, predictor]).abstained


def test_an_unknown_family_gets_the_geometry_and_an_honest_sentence(predictor):
    stranger = LoraModule("elsewhere", torch.ones(4, 2), torch.ones(4, 2), 1.0, 2, (4, 4))
    other = Lora("test", (stranger,), BaseModel(""), (), {}, 0, (), ())
    found = answer(other, [predictor])
    assert found.abstained
    assert found.family == "unknown"
    assert "tiny LoRAs" in found.reason
    multiplicative = dataclasses.replace(stranger, kind="multiplicative")
    assert answer(dataclasses.replace(other, modules=(multiplicative,)), [predictor]).abstained


def test_a_random_factorisation_moves_the_baseline_and_not_the_prediction(predictor):
    batch = labelled(10, 13).pairs
    turned = regauge_pairs(batch, torch.Generator().manual_seed(0))
    models = predictor.tasks["score"]
    change = (models.outputs(batch) - models.outputs(turned)).abs().max()
    assert change < 1e-4 * models.outputs(batch).std()
    moved = (models.baseline_outputs(batch) - models.baseline_outputs(turned)).abs().mean()
    assert moved > 0.1 * models.baseline_outputs(batch).std()


def test_curves_meet_the_prediction_where_nothing_is_changed(predictor):
    batch = labelled(1, 15).pairs
    grounds = Grounds(Reading.of(as_lora(batch, 0)), predictor, batch)
    value = predictor.tasks["score"].predictions(batch)[0].value
    assert dose_curve(predictor, batch, "score", [0.5, 1.0])[1] == pytest.approx(value, abs=1e-4)
    ranks = rank_curve(grounds, "score")
    assert len(ranks) == 3
    assert ranks[-1] == pytest.approx(value, abs=1e-3)
    assert abs(ranks[0] - value) > 1e-3


def test_a_model_index_is_marked_as_predicted(predictor):
    found = answer(as_lora(labelled(3, 11).pairs, 0), [predictor])
    text = model_index('a "name"', found.predictions)
    (entry,) = yaml.safe_load(text)["model-index"]
    assert entry["name"] == 'a "name"'
    assert len(entry["results"]) == 3
    for result, predicted in zip(entry["results"], found.predictions, strict=True):
        (metric,) = result["metrics"]
        assert metric["name"] == f"predicted {predicted.name}"
        assert metric["verified"] is False
        assert "predicted by wsdemo" in result["dataset"]["name"]


# ---- metrics -----------------------------------------------------------------------


def test_metrics_agree_with_scipy_and_with_their_definitions():
    g = torch.Generator().manual_seed(0)
    p, t = torch.randn(50, generator=g), torch.randn(50, generator=g)
    found = regression_metrics(p, t, 2.0)
    assert found["spearman_rho"] == pytest.approx(stats.spearmanr(p, t).statistic)
    assert found["mse"] == pytest.approx(float((p - t).square().mean()) / 4, rel=1e-5)
    assert regression_metrics(t, t, 1.0)["r2"] == 1.0
    assert regression_metrics(t.mean().expand(50), t, 1.0)["r2"] == pytest.approx(0.0, abs=1e-6)
    assert regression_metrics(torch.ones(50), t, 1.0)["kendall_tau"] == 0.0
    logits = torch.tensor([[2.0], [-1.0], [1.0], [-3.0]])
    true = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    assert binary_metrics(logits, true) == {"accuracy": 0.75, "majority": 0.75, "auc": 1.0}


def test_calibration_error_is_zero_for_true_chances_and_large_for_overconfidence():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(20_000, generator=g)
    t = (torch.rand(20_000, generator=g) < p).float()
    assert expected_calibration_error(p, t) < 0.02
    assert expected_calibration_error((p > 0.5).float(), t) > 0.2
    sure = torch.logit(p.clamp(0.01, 0.99)) * 4
    temperature, shift = platt_scaling(sure[:, None] + 2, t[:, None])
    assert temperature == pytest.approx(4, rel=0.1)
    assert shift == pytest.approx(-0.5, abs=0.05)
    before, after = brier_score_loss(t, sure.sigmoid()), brier_score_loss(t, (sure / 4).sigmoid())
    assert after < before


def test_calibration_stays_finite_where_labels_are_separated_missing_or_of_one_class():
    logits = torch.tensor([[-3.0], [-2.0], [2.0], [3.0]])
    labels = torch.tensor([[0.0], [0.0], [1.0], [float("nan")]])
    for true in (labels, torch.ones(4, 1), 1 - labels):
        temperature, shift = platt_scaling(logits, true)
        assert 0.1 <= temperature <= 10
        assert abs(shift) < 10


def test_raw_models_are_built_for_a_rank_that_an_outlier_does_not_set():
    assert common_rank({4: 700}) == 4
    assert common_rank({1: 100, 2: 100, 4: 100, 16: 100}) == 16
    assert common_rank({8: 300, 256: 1}) == 8


def test_the_conformal_quantile_is_infinite_where_nothing_can_be_promised():
    assert conformal_quantile(torch.arange(5.0), 0.9) == float("inf")
    assert conformal_quantile(torch.arange(1.0, 11.0), 0.9) == 10.0
    assert conformal_quantile(-torch.arange(1.0, 20.0), 0.9) == 18.0


# ---- the command line -----------------------------------------------------------------


def test_the_command_line_trains_lists_evaluates_and_predicts(tmp_path, capsys):
    folder = tmp_path / "loras"
    labels = write_collection(folder, count=150)
    out = tmp_path / "mine"
    given = ["--loras", str(folder), "--labels", str(labels)]
    train = ["lol", "train", *given, "--out", str(out), "--seeds", "1", "--models",
             "gl-net-norms", "mlp", "--json"]  # fmt: skip
    assert main(train) == 0
    trained = json.loads(capsys.readouterr().out)
    assert sum(trained["counts"].values()) == 150
    assert trained["not_answered"] == []
    assert "score" in (out / "README.md").read_text()
    assert main(["lol", "evaluate", *given, "--predictor", str(out), "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["tasks"]["score"]["spearman_rho"] == pytest.approx(
        trained["tasks"]["score"]["spearman_rho"], abs=0.05
    )
    assert main(["lol", "list", "--predictor", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictors"][0]["name"] == "mine"
    file = str(folder / "lora-000.safetensors")
    assert main(["predict", file, "--predictor", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["abstained"]
    assert {p["name"] for p in found["predictions"]} == {"score", "sign"}
    assert main(["predict", str(tmp_path / "none.safetensors"), "--json"]) == 2
    assert "not a file" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_evaluating_another_family_is_refused(tmp_path, predictor):
    write_collection(tmp_path / "loras", count=40)
    save_predictor(tmp_path / "p.safetensors", predictor, {})
    found = load_collection(tmp_path / "loras", tmp_path / "loras" / "labels.csv")
    assert set(found.signature.shapes) != set(predictor.signature.shapes)
    command = ["lol", "evaluate", "--loras", str(tmp_path / "loras"), "--labels",
               str(tmp_path / "loras" / "labels.csv"), "--predictor",
               str(tmp_path / "p.safetensors"), "--json"]  # fmt: skip
    assert main(command) == 2


def test_pairs_of_one_lora_of_the_family_are_the_same_as_in_a_batch(predictor):
    batch = pairs(4, seed=3)
    one = predictor.tasks["score"].outputs(batch.pick(slice(2, 3)))
    torch.testing.assert_close(one[0], predictor.tasks["score"].outputs(batch)[2])


def test_reliability_is_drawn_into_the_card(predictor, tmp_path):
    from xml.etree import ElementTree

    from wsdemo.lol.predictor.card import predictor_card

    bins = predictor.tasks["sign"].measured["reliability"]
    assert sum(count for *_, count in bins) == 60
    assert all(0 <= p <= 1 and 0 <= share <= 1 for p, share, _ in bins)
    path = tmp_path / "predictor.safetensors"
    save_predictor(path, predictor, {})
    assert "predictor-reliability.svg" in predictor_card(path)
    drawn = ElementTree.fromstring((tmp_path / "predictor-reliability.svg").read_text())
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == len(bins)
