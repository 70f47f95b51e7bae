"""Tables of labels that damage nothing silently: every cell and file left out is told."""

import csv
import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lol.synthetic import labelled, write_collection
from wsdemo.errors import WsdemoError
from wsdemo.lol.data import collection as collection_module
from wsdemo.lol.data.collection import default_split, load_collection
from wsdemo.lol.data.family import common_base, one_kind, union_signature
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.models.fitting import task_loss
from wsdemo.lol.predictor.metrics import (
    binary_metrics,
    expected_calibration_error,
    fewest_residuals,
    reliability,
)
from wsdemo.lora.modules import BaseModel, Lora, LoraModule

NAN = math.nan


def read(labels):
    return list(csv.DictReader(labels.open()))


def write(labels, rows):
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path):
    write_collection(tmp_path / "loras", count=40)
    return tmp_path / "loras"


def changed(folder, change):
    """The collection after a change of every row, by its number."""
    labels = folder / "labels.csv"
    write(labels, [{**row, **change(i, row)} for i, row in enumerate(read(labels))])
    return load_collection(folder, labels)


def refusal(folder, change):
    with pytest.raises(WsdemoError) as caught:
        changed(folder, change)
    return f"{caught.value}"


# ---- what a table says ----------------------------------------------------------------


def test_missing_labels_are_counted(folder):
    notes = changed(folder, lambda i, row: {"score": "nan" if i % 2 else row["score"]}).notes
    assert notes == ("20 of 40 LoRAs have no label score",)


def test_a_column_with_one_text_is_left_out_and_told(folder):
    found = changed(folder, lambda i, row: {"score": row["score"] if i else "n/a"})
    assert [t.name for t in found.tasks] == ["attributes"]
    assert found.notes == ("Column score is not used: 1 of 40 cells hold no number, such as 'n/a'",)


def test_a_column_of_one_value_is_left_out_and_told(folder):
    found = changed(folder, lambda i, row: {"same": "1", "none": ""})
    assert [t.labels for t in found.tasks] == [("sign",), ("score",)]
    assert "Column same is not used: 40 LoRAs have the one value 1" in found.notes
    assert "Column none is not used: it is empty" in found.notes


def test_an_empty_cell_of_one_label_costs_another_nothing(folder):
    found = changed(folder, lambda i, row: {"other": "" if i % 3 else str(i % 2)})
    (task,) = [t for t in found.tasks if t.kind == "binary"]
    assert task.labels == ("sign", "other")
    train = found.splits["train"]
    assert len(train.known(task).names) == len(train.names)
    assert any("have no label other" in note for note in found.notes)


def test_what_is_not_known_enters_no_loss_and_no_figure():
    g = torch.Generator().manual_seed(0)
    out, true = torch.randn(60, 2, generator=g), (torch.rand(60, 2, generator=g) < 0.5).float()
    true[20:, 1] = NAN
    whole, part = (
        binary_metrics(out[:, :1], true[:, :1]),
        binary_metrics(out[:20, 1:], true[:20, 1:]),
    )
    both = binary_metrics(out, true)
    assert both["auc"] == pytest.approx((whole["auc"] + part["auc"]) / 2)
    assert both["majority"] == pytest.approx((whole["majority"] + part["majority"]) / 2)
    assert both["accuracy"] == pytest.approx((60 * whole["accuracy"] + 20 * part["accuracy"]) / 80)
    p = out.sigmoid()
    assert sum(count for *_, count in reliability(p, true)) == 80
    assert math.isfinite(expected_calibration_error(p, true))
    leaf = out.clone().requires_grad_()
    loss = task_loss("binary", leaf, true)
    known = torch.cat([true[:, 0], true[:20, 1]])
    expected = task_loss("binary", torch.cat([out[:, 0], out[:20, 1]]), known)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert not leaf.grad[20:, 1].any()
    assert leaf.grad[:20, 1].all()


def test_a_regression_needs_all_of_its_labels():
    own = labelled(10, 0)
    own.labels["size"][:4] = NAN
    assert len(own.known(Task("both", ("score", "size"), "regression")).names) == 6


def test_intervals_of_ninety_percent_need_nine_loras():
    assert fewest_residuals(0.9) == 9


def test_an_unknown_split_is_refused_with_its_count(folder):
    said = refusal(folder, lambda i, row: {"split": ("train", "val", "Test", "test")[i % 4]})
    assert "'val' (10 LoRAs), 'Test' (10 LoRAs)" in said


def test_a_group_that_lies_in_two_splits_is_refused(folder):
    splits = ("train", "validation", "test")
    said = refusal(folder, lambda i, row: {"group": f"g{i // 6}", "split": splits[i % 3]})
    assert "7 of 7 groups" in said
    ok = changed(folder, lambda i, row: {"group": f"g{i}", "split": splits[i % 3]})
    assert len(ok.splits["test"].names) == 13


def test_a_short_row_is_counted_as_a_missing_file(folder):
    labels = folder / "labels.csv"
    rows = read(labels)
    lines = ["score,sign,file", *(f"{r['score']},{r['sign']},{r['file']}" for r in rows), "1.0,1"]
    labels.write_text("\n".join([*lines, "2.0,0"]))
    assert load_collection(folder, labels).notes == ("2 labelled files are not in the folder",)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_one_class_in_any_split_is_refused(folder, split):
    said = refusal(
        folder,
        lambda i, row: {"sign": 1 if default_split(row["file"]) == split else i % 2},
    )
    assert f"{split} LoRAs, all have sign = 1" in said


def test_a_rare_label_beside_another_may_be_of_one_class_in_a_held_out_split(folder):
    found = changed(
        folder,
        lambda i, row: {"rare": int(i % 2 and default_split(row["file"]) == "train")},
    )
    assert found.tasks[0].labels == ("sign", "rare")


# ---- splits ---------------------------------------------------------------------------


def test_a_fourth_split_calibrates_and_without_it_the_validation_loras_do(folder):
    plain = load_collection(folder, folder / "labels.csv")
    assert set(plain.splits) == {"train", "validation", "test"}
    assert plain.calibration is plain.splits["validation"]
    names = ("train", "validation", "test", "calibration")
    found = changed(folder, lambda i, row: {"split": names[i % 4]})
    assert found.calibration is found.splits["calibration"]
    assert {k: len(v.names) for k, v in found.splits.items()} == dict.fromkeys(names, 10)


# ---- families -------------------------------------------------------------------------


def test_a_damaged_file_is_told_by_its_name(folder):
    path = folder / "lora-007.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0] = NAN
    save_file(tensors, path)
    with pytest.raises(WsdemoError, match=r"lora-007\.safetensors"):
        load_collection(folder, folder / "labels.csv")


def test_two_named_bases_are_told_with_counts(tmp_path, folder):
    write_collection(tmp_path / "other", count=40, base="acme/other")
    for i in range(10):
        name = f"lora-{i:03d}.safetensors"
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    found = load_collection(folder, folder / "labels.csv")
    assert found.base == "acme/tiny@1"
    (note,) = found.notes
    assert note.startswith("10 of 40 LoRAs name another base model than acme/tiny@1")


def lora(base, *evidence, kinds=("additive",), names=("a", "b")):
    modules = tuple(
        LoraModule(name, torch.ones(4, 2), torch.ones(4, 2), 1.0, 2, (4, 4), kind=kind)
        for name, kind in zip(names, kinds * len(names), strict=False)
    )
    return Lora("test", modules, BaseModel(base, evidence), (), {}, 0, (), ())


def test_a_base_that_only_keys_speak_of_is_not_named():
    by_keys = lora("SD 1", ("keys and shapes", "SD 1"))
    assert common_base([by_keys] * 3) == ("", [])
    named = lora("org/a", ("adapter_config.json", "org/a"), ("keys and shapes", "SD 1"))
    base, notes = common_base([by_keys, by_keys, named])
    assert base == "org/a"
    assert notes == ["2 of 3 LoRAs name no base model; the predictor is for org/a"]


def test_added_and_multiplied_products_do_not_mix():
    mixed = [lora("x"), lora("x"), lora("x", kinds=("multiplicative",))]
    with pytest.raises(WsdemoError, match="2 are additive, 1 are multiplicative"):
        one_kind(mixed, "here")
    assert one_kind(mixed[2:], "here") == "multiplicative"


def test_the_kind_of_a_collection_is_that_of_its_files(folder, monkeypatch):
    def multiplied(path):
        found = read_lora(path)
        modules = tuple(dataclasses.replace(m, kind="multiplicative") for m in found.modules)
        return dataclasses.replace(found, modules=modules)

    assert load_collection(folder, folder / "labels.csv").kind == "additive"
    read_lora = collection_module.read_lora
    monkeypatch.setattr(collection_module, "read_lora", multiplied)
    assert load_collection(folder, folder / "labels.csv").kind == "multiplicative"


def test_two_spellings_of_one_module_are_one_module():
    dots = ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",)
    kohya = ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",)
    found = union_signature([lora("x", names=dots), lora("x", names=kohya)], "here")
    assert found.names == list(dots)
