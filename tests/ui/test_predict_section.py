"""The evaluator's handlers without a browser: examples, many files, texts from files."""

import json
from csv import reader as csv_rows
from pathlib import Path

import gradio as gr
import pytest
import torch
from safetensors import safe_open

from tests.hostile.build import BAD
from tests.lora.files import families, write
from wsdemo.lora.geometry import measure
from wsdemo.lora.modules import BaseModel, Lora, LoraModule
from wsdemo.lora.reader import read_lora
from wsdemo.ui.lora import lora_tab, predict_section
from wsdemo.ui.shared.text import text_of


def test_every_offered_example_is_answered_and_does_not_carry_its_answer():
    choices = predict_section.example_choices()
    assert len(choices) >= 4
    said = []
    for _, index in choices:
        path = predict_section.example_file(index)
        lora = read_lora(Path(path))
        text, true, *_ = predict_section.predict_file(lora)
        assert "No prediction" not in text
        assert "True labels" in true
        said.append(true)
        with safe_open(path, framework="pt") as file:
            assert "labels" not in file.metadata()
    assert len(set(said)) == len(said)  # each its own labels


def test_many_files_give_a_row_each_with_passport_and_prediction_or_the_reason(tmp_path):
    good = predict_section.example_file("0")
    tensors, _, _ = families()["kohya"]
    meta = {"ss_base_model_version": "sdxl_base_v1-0"}
    foreign = write(tmp_path / "foreign.safetensors", tensors, meta)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(BAD["a web page"])
    *told, (table, csv, said) = predict_section.batch([good, str(foreign), str(bad)])
    assert [step[2] for step in told] == [f"Reading {i} of 3 …" for i in (1, 2, 3)]
    assert said.startswith("2 of 3 read, 1 predicted")
    heads, rows = table.value["headers"], table.value["data"]
    assert heads[:9] == ["file", *predict_section.PASSPORT]
    assert len(rows) == 3
    first, second, third = (dict(zip(heads, row, strict=True)) for row in rows)
    assert first["predictor"].startswith("lol-")
    assert not first["reason"]
    assert all(isinstance(v, float) for v in rows[0][9:])
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
        assert [len(row) for row in csv_rows(file)] == [len(heads)] * 4


def test_one_configuration_serves_the_peft_files_of_a_batch(tmp_path):
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": "acme/base", "lora_alpha": 8, "r": 4}))
    files = {
        name: str(write(tmp_path / name / "adapter_model.safetensors", families()[name][0], {}))
        for name in ("double prefix", "kohya")
    }
    peft, kohya = files.values()
    *_, (table, _, said) = predict_section.batch([peft, str(config), kohya])
    assert said.startswith("2 of 2 read")
    place = table.value["headers"].index("base")
    assert table.value["data"][0][place] == "acme/base"
    assert table.value["data"][1][place] != "acme/base"
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(gr.Error, match="one serves all"):
        list(predict_section.batch([peft, str(config), str(other)]))
    (hidden,) = predict_section.batch([str(config)])
    assert not hidden[0].visible


def test_a_batch_says_what_a_file_of_a_known_family_lacks(tmp_path):
    shipped = predict_section.shipped_predictors()
    known = next(p for p in shipped if p.name == "lol-smollm")
    tensors = {}
    for name, (n, m) in known.signature.shapes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.ones(8, m)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.ones(n, 8)
    row = predict_section.batch_row(write(tmp_path / "adapter_model.safetensors", tensors, {}))
    assert row["predictor"] == "lol-smollm"
    assert row["reason"].endswith("Give it with its adapter_config.json.")
    config = {"base_model_name_or_path": known.base, "r": 8, "lora_alpha": 8}
    row = predict_section.batch_row(tmp_path / "adapter_model.safetensors", (), config)
    assert "outside the training LoRAs" in row["reason"]


def test_a_new_file_empties_the_gauge_exhibit():
    (_, index), *_ = predict_section.example_choices()
    answered = predict_section.predict_file(read_lora(Path(predict_section.example_file(index))))
    refused = predict_section.predict_file(
        Lora("x", (LoraModule("m", torch.ones(2, 1), torch.ones(2, 1), 1.0, 1, (2, 2)),),
             BaseModel(""), (), {}, 0, (), ())
    )  # fmt: skip
    with gr.Blocks() as page:
        predict_section.build(gr.File(), gr.File(), lambda path, config: None)
    fills = [f for f in page.fns.values() if f.api_name == "predict_lora"]
    assert [block.elem_id for block in fills[0].outputs][-1] == "gauge"
    assert len(answered) == len(refused) == len(fills[0].outputs)
    assert answered[-1] == refused[-1] == ""


def test_a_batch_in_which_nothing_is_read_has_the_same_columns(tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(BAD["a web page"])
    *_, (table, _, said) = predict_section.batch([str(bad)])
    assert table.value["headers"] == ["file", *predict_section.PASSPORT]
    assert said.startswith("0 of 1 read")


def test_what_does_not_merge_is_refused(tmp_path):
    files = {
        name: str(write(tmp_path / f"{name}.safetensors", families()[name][0], {}))
        for name in ("kohya", "loralib")
    }
    with pytest.raises(gr.Error, match="no module in common"):
        lora_tab.combine(files["kohya"], files["loralib"], 1, 1, "kohya")
    with pytest.raises(gr.Error, match="flattened names"):
        lora_tab.combine(files["kohya"], files["kohya"], 1, 1, "peft")


@pytest.mark.parametrize("style", ["kohya", "peft"])
def test_two_loras_are_merged_into_a_file_that_is_read_again(style, tmp_path):
    tensors, _, _ = families()["kohya" if style == "kohya" else "loralib"]
    path = str(write(tmp_path / "a.safetensors", tensors, {}))
    files, said = lora_tab.combine(path, path, 1.5, -0.5, style)
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
