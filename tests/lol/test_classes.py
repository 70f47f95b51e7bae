"""Columns that name a class: learnt, told with a calibrated probability, judged by accuracy."""

import csv
import json

import pytest
import torch
from torch.nn import functional as F

from tests.lol.synthetic import write_collection
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import load_collection
from wsdemo.lol.predictor.calibration import temperature_scaling
from wsdemo.lol.predictor.metrics import nominal_metrics


def write_classes(folder, name):
    """A table in which ``name`` (score, sign → text) is the class; default splits."""
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    labels = folder.parent / "classes.csv"
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ("file", "subject"))
        writer.writeheader()
        for row in rows:
            subject = name(float(row["score"]), float(row["sign"]))
            writer.writerow({"file": row["file"], "subject": subject})
    return labels


def kind(score, sign):
    return "a cat" if sign else "a dog" if score > 0 else "a bird"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("classes") / "loras"
    write_collection(path, count=120)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    out = folder.parent / "predictor"
    labels = write_classes(folder, kind)
    args = ["lol", "train", "--loras", str(folder), "--labels", str(labels), "--out", str(out)]
    assert main([*args, "--seeds", "2", "--models", "gl-net-norms", "mlp-svd", "--json"]) == 0
    return out


def test_a_column_of_words_is_one_task_of_its_classes(folder):
    found = load_collection(folder, write_classes(folder, kind))
    (task,) = found.tasks
    assert (task.name, task.kind) == ("subject", "nominal")
    assert task.labels == ("subject = a bird", "subject = a cat", "subject = a dog")
    target = found.splits["train"].targets(task)
    assert bool((target.sum(1) == 1).all())


def test_a_class_is_predicted_with_its_probability(folder, trained, capsys):
    capsys.readouterr()
    labels = {
        r["file"]: r["subject"] for r in csv.DictReader((folder.parent / "classes.csv").open())
    }
    answered = right = 0
    for file in list(labels)[:12]:
        assert main(["predict", str(folder / file), "--predictor", str(trained), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        if said["abstained"]:
            continue
        (told,) = said["predictions"]
        assert told["name"] == f"subject = {told['class']}"
        assert 1 / 3 - 1e-6 <= told["probability"] <= 1
        assert told["held_out"].startswith("accuracy ")
        answered, right = answered + 1, right + (told["class"] == labels[file])
    assert answered >= 8
    assert right >= 0.75 * answered


def test_evaluation_tells_accuracy_beside_that_of_the_commonest_class(folder, trained, capsys):
    fresh = folder.parent / "fresh"
    write_collection(fresh, count=30)  # the same LoRAs under other names are other files
    for i, path in enumerate(sorted(fresh.glob("*.safetensors"))):
        path.rename(path.with_name(f"fresh-{i:03d}.safetensors"))
    rows = list(csv.DictReader((fresh / "labels.csv").open()))
    with (fresh / "labels.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ("file", "subject"))
        writer.writeheader()
        for i, row in enumerate(rows):
            told = kind(float(row["score"]), float(row["sign"])) if i else "a horse"
            writer.writerow({"file": f"fresh-{i:03d}.safetensors", "subject": told})
    args = ["lol", "evaluate", "--predictor", str(trained), "--loras", str(fresh)]
    capsys.readouterr()
    assert main([*args, "--labels", str(fresh / "labels.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"]["subject"]["test_loras"] == 29  # nobody knows horses
    assert found["tasks"]["subject"]["accuracy"] > found["tasks"]["subject"]["majority"]
    assert any("are of a class of subject" in note for note in found["notes"])


def test_rare_classes_and_free_texts_are_told_and_not_learnt(folder):
    count = iter(range(1000))
    found = load_collection(
        folder, write_classes(folder, lambda *of: "rare" if next(count) == 0 else kind(*of))
    )
    assert len(found.tasks[0].labels) == 3
    assert any(note.startswith("1 of 120 LoRAs are of a class of subject") for note in found.notes)
    count = iter(range(1000))
    with pytest.raises(WsdemoError, match="Nothing to predict"):
        load_collection(folder, write_classes(folder, lambda *_: f"note {next(count)}"))


def test_temperature_scaling_makes_overconfident_logits_honest():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=g)
    place = torch.multinomial(logits.softmax(1), 1, generator=g)[:, 0]
    true = F.one_hot(place, 5).float()
    assert temperature_scaling(4 * logits, true) == pytest.approx(4, rel=0.1)
    found = nominal_metrics(logits, true)
    assert found["log_loss"] < nominal_metrics(4 * logits, true)["log_loss"]
    assert found["accuracy"] > found["majority"]
    assert found["auc"] > 0.6
