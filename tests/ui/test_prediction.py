"""The evaluator's handlers without a browser: examples, many files, texts from files."""

import gc
import json
import weakref
from csv import reader as csv_rows
from pathlib import Path

import gradio as gr
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.hostile.build import BAD
from tests.lora.files import families, peft_folder, write
from wsdemo.checkpoints import DIRECTORY
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.limits import KEPT_PREDICTORS
from wsdemo.lora.geometry import measure
from wsdemo.lora.modules import BaseModel, Lora, LoraModule
from wsdemo.lora.reader import read_lora
from wsdemo.lora.reading import Reading
from wsdemo.ui.lora import (
    examples,
    many,
    many_rows,
    many_view,
    own_predictor,
    pairing,
    prediction,
    readings,
)
from wsdemo.ui.shared.text import text_of


def test_every_offered_example_is_answered_and_does_not_carry_its_answer():
    choices = examples.example_choices()
    assert len(choices) >= 4
    said = []
    for _, index in choices:
        path = examples.example_file(index)
        lora = read_lora(Path(path))
        text, true, *_ = prediction.predict_reading(Reading.of(lora))
        assert "No prediction" not in text
        assert "True labels" in true
        said.append(true)
        with safe_open(path, framework="pt") as file:
            assert "labels" not in file.metadata()
    assert len(set(said)) == len(said)  # each its own labels


def test_many_files_give_a_row_each_with_passport_and_prediction_or_the_reason(tmp_path):
    good = examples.example_file("0")
    tensors, _, _ = families()["kohya"]
    meta = {"ss_base_model_version": "sdxl_base_v1-0"}
    foreign = write(tmp_path / "foreign.safetensors", tensors, meta)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(BAD["a web page"])
    first, *_, (table, csv, said, *_) = many.batch([good, str(foreign), str(bad)])
    assert "Reading 1 of 3" in first[2]
    assert "2 of 3 read, 1 predicted" in said
    heads, rows = table.value["headers"], table.value["data"]
    assert heads[:10] == ["file", *many_view.PASSPORT]
    assert len(rows) == 3
    first, second, third = (dict(zip(heads, row, strict=True)) for row in rows)
    assert first["predictor"].startswith("lol-")
    assert not first["reason"]
    assert all(isinstance(v, float) for v in rows[0][10:])
    lora = read_lora(foreign)
    assert second["family"] == "kohya"
    assert second["base"] == "sdxl_base_v1-0"
    assert second["modules"] == len(lora.modules)
    assert second["ranks"] == str(next(iter(lora.ranks)))
    assert second["norm"] == pytest.approx(measure(lora).frobenius, rel=1e-3)
    assert second["exact"] == "yes"
    assert second["predictor"] == "none"
    assert "No predictor was trained" in second["reason"]
    assert third["family"] == "not read"
    assert "web page" in third["reason"]
    with Path(csv.value["path"]).open(newline="") as file:
        columns = {len(row) for row in csv_rows(file)}
    assert len(heads) == 10 + many_view.MOST_PREDICTED  # the file has all
    assert columns == {10 + 40}
    assert f"{40 - many_view.MOST_PREDICTED} more predicted labels" in said


def test_one_configuration_serves_the_peft_files_of_a_batch(tmp_path):
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": "acme/base", "lora_alpha": 8, "r": 4}))
    files = {
        name: str(write(tmp_path / name / "adapter_model.safetensors", families()[name][0], {}))
        for name in ("double prefix", "kohya")
    }
    peft, kohya = files.values()
    *_, (table, _, said, *_) = many.batch([peft, str(config), kohya])
    assert "2 of 2 read" in said
    place = table.value["headers"].index("base")
    assert table.value["data"][0][place] == "acme/base"
    assert table.value["data"][1][place] != "acme/base"
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(gr.Error, match="one serves all"):
        list(many.batch([peft, str(config), str(other)]))
    (hidden,) = many.batch([str(config)])
    assert not hidden[0].visible


def test_a_batch_says_what_a_file_of_a_known_family_lacks(tmp_path):
    shipped = prediction.shipped_predictors()
    known = next(p for p in shipped if p.name == "lol-smollm2")
    tensors = {}
    for name, (n, m) in known.signature.shapes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.ones(8, m)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.ones(n, 8)
    row = many_rows.file_row(write(tmp_path / "adapter_model.safetensors", tensors, {}))
    assert row["predictor"] == "lol-smollm2"
    assert row["reason"].endswith("Give it with its adapter_config.json.")
    config = {"base_model_name_or_path": known.base, "r": 8, "lora_alpha": 8}
    row = many_rows.file_row(tmp_path / "adapter_model.safetensors", (), config)
    assert "outside the training LoRAs" in row["reason"]


def test_a_new_file_empties_the_gauge_exhibit():
    (_, index), *_ = examples.example_choices()
    answered = prediction.predict_reading(Reading.of(read_lora(Path(examples.example_file(index)))))
    foreign = LoraModule("m", torch.ones(2, 1), torch.ones(2, 1), 1.0, 1, (2, 2))
    refused = prediction.predict_reading(
        Reading.of(Lora("x", (foreign,), BaseModel(""), (), {}, 0, (), ()))
    )
    with gr.Blocks() as page:
        prediction.build(gr.File(), gr.State(), gr.File(), gr.State(()), {})
    fills = [f for f in page.fns.values() if f.api_name == "predict_lora"]
    assert [block.elem_id for block in fills[0].outputs][-1] == "gauge"
    assert len(answered) == len(refused) == len(fills[0].outputs)
    assert answered[-1] == refused[-1] == ""


def test_a_batch_in_which_nothing_is_read_has_the_same_columns(tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(BAD["a web page"])
    *_, (table, _, said, *_) = many.batch([str(bad)])
    assert table.value["headers"] == ["file", *many_view.PASSPORT]
    assert "0 of 1 read" in said


def test_what_does_not_merge_is_refused(tmp_path):
    files = {
        name: str(write(tmp_path / f"{name}.safetensors", families()[name][0], {}))
        for name in ("kohya", "loralib")
    }
    with pytest.raises(gr.Error, match="no module in common"):
        pairing.combine(files["kohya"], files["loralib"], 1, 1, "kohya")
    with pytest.raises(gr.Error, match="flattened names"):
        pairing.combine(files["kohya"], files["kohya"], 1, 1, "peft")


@pytest.mark.parametrize("style", ["kohya", "peft"])
def test_two_loras_are_merged_into_a_file_that_is_read_again(style, tmp_path):
    tensors, _, _ = families()["kohya" if style == "kohya" else "loralib"]
    path = str(write(tmp_path / "a.safetensors", tensors, {}))
    files, said = pairing.combine(path, path, 1.5, -0.5, style)
    found = [Path(f["path"]) for f in files.value]
    whole = read_lora(next(f for f in found if f.suffix == ".safetensors"))
    assert len(found) == (2 if style == "peft" else 1)
    before = measure(read_lora(Path(path))).frobenius  # 1.5 - 0.5: the update itself
    assert measure(whole).frobenius == pytest.approx(before, rel=1e-4)
    assert "1.5 · first + -0.5 · second" in said


@pytest.mark.parametrize("text", ["<img src=x>", "[a](javascript:x)", "`code`", "a|b", "# title"])
def test_texts_from_files_stay_texts(text):
    safe = text_of(text)
    assert "<img" not in safe
    for mark in "[]()`|#":
        assert safe.count(mark) == safe.count("\\" + mark)


def sparse(path, size):
    """A file that says it has ``size`` bytes and takes none."""
    with path.open("ab") as file:
        file.truncate(size)
    return path


def test_a_configuration_of_gigabytes_is_refused_before_it_is_read(tmp_path, monkeypatch):
    config = sparse(tmp_path / "adapter_config.json", 2 * 2**30)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(WsdemoError, match="2,147,483,648 bytes; 1,048,576 are allowed"):
        readings.settings(str(config))


def test_a_predictor_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    entry = {"dtype": "U8", "shape": [2**31], "data_offsets": [0, 2**31]}
    header = json.dumps({"x": entry, "__metadata__": {"wsdemo": '{"kind": "predictor"}'}}).encode()
    path = tmp_path / "predictor.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    sparse(path, 8 + len(header) + 2**31)
    with pytest.raises(gr.Error, match="a predictor may have 512 MB"):
        own_predictor.use_predictor("", str(path), "")


def test_of_visitors_predictors_only_some_are_held(tmp_path):
    body = (DIRECTORY / "lol-face-fields.safetensors").read_bytes()
    held = []
    for i in range(KEPT_PREDICTORS + 2):
        path = tmp_path / f"{i}.safetensors"
        path.write_bytes(body)
        own, _ = own_predictor.use_predictor("", str(path), "")
        assert own == (str(path),)  # what the visitor's state holds
        held.append(weakref.ref(prediction.predictors_of(own)[0]))
    gc.collect()
    assert sum(reference() is not None for reference in held) == KEPT_PREDICTORS


@pytest.mark.parametrize("name", ["AdaLoRA", "DoRA", "MLX"])
def test_the_configuration_of_a_batch_serves_all_families_whose_scale_it_holds(name, tmp_path):
    config: dict = {"base_model_name_or_path": "acme/base", "lora_alpha": 8, "r": 3, "use_dora": 1}
    config["lora_parameters"] = {"scale": 10.0}
    if name == "DoRA":
        path, _ = peft_folder(tmp_path, {}, 3)
        tensors = load_file(path)
        for key in [key for key in tensors if "lora_B" in key]:
            tensors[key.replace("lora_B.weight", "lora_magnitude_vector")] = torch.ones(12)
    else:
        tensors = families()[name][0]
    path = write(tmp_path / "alone" / "x.safetensors", tensors, {})
    row = many_rows.file_row(path, (), config)
    assert row["family"].startswith(name)
    assert row["base"] == "acme/base"
    assert row["norm"] == pytest.approx(measure(read_lora(path, config)).frobenius, rel=1e-3)


def test_comparing_says_which_scales_were_assumed(tmp_path, capsys):
    path = str(write(tmp_path / "a.safetensors", families()["double prefix"][0], {}))
    said, _ = pairing.both(path, path)
    assert "the scale is taken as 1" in said
    assert main(["compare", path, path, "--json"]) == 0
    assert "the scale is taken as 1" in json.loads(capsys.readouterr().out)["warnings"][0]
