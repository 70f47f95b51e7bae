"""The evaluator's handlers without a browser: examples, many files, texts from files."""

from pathlib import Path

import gradio as gr
import pytest
from safetensors import safe_open

from tests.hostile.build import BAD
from tests.lora.files import families, write
from wsdemo.lora.geometry import measure
from wsdemo.lora.reader import read_lora
from wsdemo.ui import lora_tab, predict_section
from wsdemo.ui.text import text_of


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


def test_many_files_give_a_row_each_with_a_prediction_or_a_reason(tmp_path):
    good = predict_section.example_file("0")
    tensors, _, _ = families()["kohya"]
    foreign = write(tmp_path / "foreign.safetensors", tensors, {})
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(BAD["a web page"])
    table, _, said = predict_section.batch([good, str(foreign), str(bad)])
    rows = table.value["data"]
    assert len(rows) == 3
    assert said.startswith("1 of 3 answered")
    flat = [" ".join(map(str, row)) for row in rows]
    assert "unknown" in flat[1]
    assert "web page" in flat[2]


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
