"""``lol train`` writes what can be opened and tells its limits; ``lol evaluate`` judges by LoRAs
that the predictor has not seen."""

import csv
import dataclasses
import json
import random

import pytest
import torch

from tests.lol.synthetic import SIGNATURE, labelled, write_collection
from wsdemo.checkpoints import load_checkpoint
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import Collection, short_name
from wsdemo.lol.data.pairs import Signature
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.models import fitting, memory
from wsdemo.lol.models.memory import affordable, parameter_count, training_bytes
from wsdemo.lol.models.networks import MODELS, build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.predictor.build import (
    Row,
    best_row,
    build_predictor,
    calibrated,
    caveat,
    compare_models,
    recalibrated,
)
from wsdemo.lol.predictor.calibration import calibrate, shifting
from wsdemo.lol.predictor.files import load_predictor, save_predictor, seen_names, without_nan
from wsdemo.lol.predictor.metrics import conformal_quantile
from wsdemo.lol.predictor.provenance import calibration_sentence, provenance

SCORE = Task("score", ("score",), "regression")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """120 LoRAs: their strength as ``score`` and noise as ``luck``, 36 of them held out."""
    path = tmp_path_factory.mktemp("many") / "loras"
    write_collection(path, count=120)
    rows = list(csv.DictReader((path / "labels.csv").open()))
    chance = random.Random(5)
    for row in rows:
        row["luck"] = chance.random()
    for name in ("score", "luck"):
        with (path.parent / f"{name}.csv").open("w", newline="") as handle:
            writer = csv.DictWriter(handle, ("file", name), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    return path


def command(folder, verb, labels, *more):
    table = folder.parent / f"{labels}.csv"
    return ["lol", verb, "--loras", str(folder), "--labels", str(table), *map(str, more), "--json"]


def run(capsys, arguments):
    """Exit status and the JSON on stdout, in which NaN is no number."""

    def refuse(text):
        raise ValueError(text)

    status = main(arguments)
    return status, json.loads(capsys.readouterr().out, parse_constant=refuse)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "own"
    options = ["--out", out, "--seeds", 1, "--models", "mlp-svd"]
    assert main(command(folder, "train", "score", *options)) == 0
    return out


# ---- what is trained can be opened ----------------------------------------------------


def test_too_few_loras_for_an_interval_are_refused_before_training(tmp_path, capsys):
    labels = write_collection(tmp_path / "loras", count=40)
    labels.rename(tmp_path / "labels.csv")
    arguments = command(tmp_path / "loras", "train", "labels", "--out", tmp_path / "out")
    status, found = run(capsys, arguments)
    assert status == 2
    assert "validation LoRAs have the labels of score" in found["error"]["message"]
    assert "needs 9" in found["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_label_of_chance_is_refused(folder, tmp_path, capsys):
    options = ["--out", tmp_path / "out", "--seeds", 1, "--models", "mlp-svd"]
    status, found = run(capsys, command(folder, "train", "luck", *options))
    assert status == 2
    assert "no task is better than chance: luck" in found["error"]["message"]


def test_the_mlp_alone_is_written_once_and_its_weakness_is_told(folder, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--out", out, "--seeds", 1, "--models", "mlp"]
    table = folder / "labels.csv"
    arguments = ["lol", "train", "--loras", str(folder), "--labels", str(table), *map(str, options)]
    status, found = run(capsys, [*arguments, "--json"])
    assert status == 0
    predictor = load_predictor(out)
    assert all(models.baseline is None for models in predictor.tasks.values())
    assert any("depends on how an update was factored" in note for note in found["notes"])
    assert "depends on how an update was factored" in predictor.card
    assert predictor.card in (out / "README.md").read_text()


def test_no_seed_is_refused(folder, tmp_path, capsys):
    options = ["--out", tmp_path / "out", "--seeds", 0]
    assert run(capsys, command(folder, "train", "score", *options))[0] == 2


def test_what_is_not_a_number_is_null():
    nan, inf = float("nan"), float("inf")
    assert without_nan({"a": [nan, 1.0, (inf, "x")], "b": None}) == {
        "a": [None, 1.0, [None, "x"]],
        "b": None,
    }


def test_an_undefined_figure_is_stored_and_read(trained, tmp_path):
    predictor = load_predictor(trained)
    predictor.tasks["score"].measured["r2"] = float("nan")
    predictor.tasks["score"].measured["spearman_rho_by_label"] = {"score": float("nan")}
    save_predictor(tmp_path / "p.safetensors", predictor, {})
    assert load_predictor(tmp_path / "p.safetensors").tasks["score"].measured["r2"] is None


def test_ranks_of_a_task_and_required_modules_are_stored(trained, tmp_path):
    predictor = load_predictor(trained)
    assert predictor.required == tuple(predictor.signature.names)
    predictor.tasks["score"].ranks = (3, 8)
    own = dataclasses.replace(predictor, required=predictor.required[:1])
    save_predictor(tmp_path / "p.safetensors", own, {})
    again = load_predictor(tmp_path / "p.safetensors")
    assert again.tasks["score"].ranks == (3, 8)
    assert again.required == predictor.required[:1]


def test_required_modules_that_are_none_of_the_family_are_refused(trained, tmp_path):
    own = dataclasses.replace(load_predictor(trained), required=("elsewhere",))
    save_predictor(tmp_path / "p.safetensors", own, {})
    with pytest.raises(WsdemoError, match="damaged"):
        load_predictor(tmp_path / "p.safetensors")


# ---- the choice of a model ------------------------------------------------------------


def row(model, validation, parameters):
    return Row(model, validation, {}, 0.0, parameters, 0.0, [], ModelConfig(model))


def test_an_invariant_model_within_the_bound_is_chosen_and_else_it_is_told():
    large, small, raw = row("gl-net", 0.1, 3_000_000), row("mlp-svd", 0.2, 9), row("mlp", 0.05, 9)
    assert best_row([large, small, raw]) is small
    assert best_row([large, small, raw], 50_000_000) is large
    assert best_row([large, raw]) is large
    assert caveat(SCORE, small) == ""
    assert caveat(SCORE, large, 50_000_000) == ""
    assert "gl-net of 3,000,000 parameters" in caveat(SCORE, large)
    assert "mlp, as no invariant model" in caveat(SCORE, raw)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_counted_without_building(name):
    config = ModelConfig(name, 2)
    built = sum(p.numel() for p in build_model(SIGNATURE, config).parameters())
    assert parameter_count(SIGNATURE, config) == built
    assert training_bytes(SIGNATURE, config, 3) > training_bytes(SIGNATURE, config, 1) > 20 * built


def test_dense_layers_over_a_large_base_are_skipped_with_a_reason(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 32 * 2**30)
    flux = Signature({f"m{i}": (3072, 3072) for i in range(304)})
    configs = [ModelConfig("gl-net", rank=16), ModelConfig("mlp-dense", rank=16, hidden=16)]
    fit, (reason,) = affordable(flux, configs, 3)
    assert fit == ["gl-net"]
    assert reason.startswith("Skipped mlp-dense: its training would take about")
    assert "32.0 GiB are available" in reason


def test_a_skipped_model_is_among_the_notes(folder, tmp_path, capsys, monkeypatch):
    enough = training_bytes(SIGNATURE, ModelConfig("mlp-svd", rank=3), 1)
    monkeypatch.setattr(memory, "available_bytes", lambda: enough)
    options = ["--out", tmp_path / "out", "--seeds", 1, "--models"]
    both = command(folder, "train", "score", *options, "gl-net", "mlp-svd")
    status, found = run(capsys, both)
    assert status == 0
    assert any(note.startswith("Skipped gl-net") for note in found["notes"])
    status, found = run(capsys, command(folder, "train", "score", *options, "gl-net"))
    assert (status, found["error"]["title"]) == (2, "Not enough memory")


def test_available_memory_is_a_positive_number():
    assert memory.available_bytes() > 2**20


# ---- calibration ----------------------------------------------------------------------


def collection_of(**splits):
    return Collection(SIGNATURE, splits, (SCORE,), "", {3: 1}, ("a note",))


def test_intervals_come_from_the_calibration_loras_and_the_card_says_so(tmp_path):
    parts = {"train": labelled(120, 0), "validation": labelled(40, 1), "test": labelled(40, 2)}
    plain = collection_of(**parts)
    rows = {"score": compare_models(plain, SCORE, ["mlp-svd"], 1)}
    half_widths = []
    for collection, held in (
        (plain, parts["validation"]),
        (collection_of(**parts, calibration=labelled(30, 3)), labelled(30, 3)),
    ):
        found = build_predictor(collection, rows, "x", "x", "additive")
        models = found.tasks["score"]
        errors = models.outputs(held.pairs)[:, 0] - held.labels["score"]
        errors = errors[~shifting(len(errors))]
        assert float(models.half_width[0]) == pytest.approx(conformal_quantile(errors, 0.9))
        assert models.measured["calibration_loras"] == len(held.names)
        assert calibration_sentence(collection) in found.card
        assert "a note." in found.card
        half_widths.append(float(models.half_width[0]))
        about = provenance(collection)
        assert about["calibration"]["loras"] == len(held.names)
        save_predictor(tmp_path / "p.safetensors", found, about)
        seen = seen_names(tmp_path / "p.safetensors")
        assert {short_name(n) for n in held.names} < seen
        assert not seen & set(parts["test"].names)
    assert half_widths[0] != half_widths[1]
    assert "calibrated on 30 LoRAs that served nothing else" in found.card


@pytest.fixture(scope="module")
def shifted():
    """A regression's models whose values are 3 too small on the LoRAs that calibrate them."""
    parts = {"train": labelled(60, 0), "validation": labelled(30, 1), "test": labelled(30, 2)}
    plain = collection_of(**parts)
    row, raw = compare_models(plain, SCORE, ["mlp-svd", "mlp"], 1)
    held = labelled(30, 3)
    held.labels["score"] = held.labels["score"] + 3
    collection = collection_of(**parts, calibration=held)
    return calibrated(collection, SCORE, row, raw), row, raw, collection


def test_a_shift_leaves_the_baseline_and_the_training_labels_alone(shifted):
    models, row, raw, collection = shifted
    pairs = collection.splits["test"].pairs
    assert float(models.shift[0]) == pytest.approx(3, abs=1.5)
    torch.testing.assert_close(models.mean, row.fitted[0].mean)
    torch.testing.assert_close(models.baseline_outputs(pairs), raw.fitted[0].predict(pairs))
    torch.testing.assert_close(models.outputs(pairs), row.fitted[0].predict(pairs) + models.shift)
    assert models.place(0, float(row.fitted[0].mean[0])) == 0.5  # the middle of the chart's bar


def test_the_loras_of_the_intervals_do_not_choose_the_shift(shifted):
    models, row, raw, collection = shifted
    held = collection.calibration
    own = shifting(len(held.names))
    assert models.measured["shift_loras"] == int(own.sum()) == 10
    score = held.labels["score"].clone()
    score[~own] += 100
    changed = dataclasses.replace(held, labels={**held.labels, "score": score})
    splits = collection.splits | {"calibration": changed}
    other = calibrated(collection_of(**splits), SCORE, row, raw)
    torch.testing.assert_close(other.shift, models.shift)
    assert float(other.half_width[0]) > 90
    few = held.pick(torch.arange(9))
    calibrate(other, collection_of(**(splits | {"calibration": few})), "mlp-svd")
    assert other.shift == 0.0  # nine are needed for the interval
    assert torch.isfinite(other.half_width).all()


def test_a_shift_is_kept_in_the_file(shifted, tmp_path):
    _, row, _, collection = shifted
    built = build_predictor(collection, {"score": [row]}, "x", "x", "additive")
    save_predictor(tmp_path / "p.safetensors", built, {})
    again = load_predictor(tmp_path / "p.safetensors").tasks["score"]
    assert torch.equal(again.shift, built.tasks["score"].shift)


def test_training_whose_loss_is_no_number_is_refused(monkeypatch):
    monkeypatch.setattr(fitting, "_loss", lambda *_: float("nan"))
    with pytest.raises(WsdemoError, match="the validation loss was no number"):
        fitting.train_model(
            SIGNATURE, ModelConfig("mlp-svd", 1), SCORE, labelled(8, 0), labelled(8, 1), 0,
            fitting.Budget(epochs=2),
        )  # fmt: skip


def test_probabilities_are_calibrated_on_the_calibration_loras_and_again_from_the_start():
    task = Task("sign", ("sign",), "binary")
    parts = {"train": labelled(120, 0), "validation": labelled(40, 1), "test": labelled(40, 2)}
    wrong = labelled(40, 3)
    wrong.labels["sign"] = 1 - wrong.labels["sign"]
    plain = dataclasses.replace(collection_of(**parts), tasks=(task,))
    rows = {"sign": compare_models(plain, task, ["gl-net"], 1)}
    found = build_predictor(plain, rows, "x", "x", "additive")
    sure = found.tasks["sign"].temperature
    models = found.tasks["sign"].models
    again = recalibrated(found, plain, {"train": 7, "test": 40})
    assert again.card.startswith("LoRAs: 7 train, 40 test.")  # as told, not the collection's
    assert (again.tasks["sign"].temperature, again.tasks["sign"].models) == (sure, models)
    other = dataclasses.replace(plain, splits={**parts, "calibration": wrong})
    unsure = build_predictor(other, rows, "x", "x", "additive").tasks["sign"].temperature
    assert unsure == pytest.approx(10)
    assert sure < unsure


def test_the_only_task_may_be_kept_though_it_is_useless_and_the_card_says_so():
    parts = {"train": labelled(60, 0), "validation": labelled(40, 1), "test": labelled(40, 2)}
    for part in parts.values():
        generator = torch.Generator().manual_seed(len(part.names))
        part.labels["score"] = torch.randn(len(part.names), generator=generator)
    collection = collection_of(**parts)
    rows = {"score": compare_models(collection, SCORE, ["mlp-svd"], 1)}
    found = build_predictor(collection, rows, "x", "x", "additive")
    assert "Answered, though hardly better than chance on validation LoRAs: score." in found.card
    with pytest.raises(WsdemoError, match="no task is better than chance"):
        build_predictor(collection, rows, "x", "x", "additive", only_useful=True)


def test_ranks_may_be_accepted_by_some_tasks_alone():
    parts = {"train": labelled(120, 0), "validation": labelled(40, 1), "test": labelled(40, 2)}
    tasks = (SCORE, Task("size", ("size",), "regression"))
    collection = dataclasses.replace(collection_of(**parts), tasks=tasks)
    rows = {task.name: compare_models(collection, task, ["mlp-svd"], 1) for task in tasks}
    found = build_predictor(collection, rows, "x", "x", "additive", ranks_by_task={"score": (1, 2)})
    assert {name: models.ranks for name, models in found.tasks.items()} == {
        "score": (1, 2, 3),
        "size": (3,),
    }


# ---- lol evaluate ---------------------------------------------------------------------


def test_loras_that_made_the_predictor_are_left_out(folder, trained, tmp_path, capsys):
    _, meta = load_checkpoint(trained / "predictor.safetensors")
    counts = meta["counts"]
    moved = tmp_path / "root"
    (moved / "b").mkdir(parents=True)
    for path in folder.glob("*.safetensors"):
        (moved / "b" / path.name).symlink_to(path)
    table = (folder.parent / "score.csv").read_text().replace("lora-", "b/lora-")
    (tmp_path / "moved.csv").write_text(table)
    arguments = command(moved, "evaluate", "moved", "--predictor", trained)
    status, found = run(capsys, arguments)
    assert status == 0
    assert found["tasks"]["score"]["test_loras"] == counts["test"]
    used = counts["train"] + counts["validation"]
    assert any(note.startswith(f"{used} of 120 LoRAs are left out") for note in found["notes"])


def test_all_of_a_new_folder_is_used_or_its_test_split(folder, trained, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    for path in folder.glob("*.safetensors"):
        (tmp_path / "new" / f"new-{path.name}").symlink_to(path)
    rows = list(csv.DictReader((folder.parent / "score.csv").open()))
    for name, extra in (("all", {}), ("some", {"split": "train"})):
        with (tmp_path / f"{name}.csv").open("w", newline="") as handle:
            writer = csv.DictWriter(handle, ["file", "score", *extra])
            writer.writeheader()
            for i, own in enumerate(rows):
                told = {"split": "test" if i < 15 else "train"} if extra else {}
                writer.writerow({**own, "file": f"new-{own['file']}", **told})
    for name, count in (("all", 120), ("some", 15)):
        arguments = command(tmp_path / "new", "evaluate", name, "--predictor", trained)
        status, found = run(capsys, arguments)
        assert (status, found["tasks"]["score"]["test_loras"]) == (0, count)


def test_nothing_left_to_judge_by_is_refused(folder, trained, tmp_path, capsys):
    _, meta = load_checkpoint(trained / "predictor.safetensors")
    rows = list(csv.DictReader((folder.parent / "score.csv").open()))
    with (folder.parent / "seen.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["file", "score"])
        writer.writeheader()
        writer.writerows(r for r in rows if short_name(r["file"]) in meta["names"])
    status, found = run(capsys, command(folder, "evaluate", "seen", "--predictor", trained))
    assert status == 2
    assert found["error"]["title"] == "No LoRA to judge by"
