"""The LoRA evaluator's own functions, without a browser."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.lora.files import families, rand, write
from wsdemo.lora.geometry import ModuleGeometry
from wsdemo.ui.lora import convert, examples, network, prediction, readings, report


def test_a_dropped_file_gives_its_passport_and_tables_to_download(tmp_path):
    tensors = {"k.lokr_w1": rand(8, 8), "k.lokr_w2": rand(48, 48)}
    meta = {"modelspec.title": "<b>mine</b>"}
    path = write(tmp_path / "x.safetensors", tensors, meta)
    card, words, _, shown, csv, facts = report.inspect(str(path), None)
    assert "modelspec.title" in words
    assert "<b>" not in words + card
    assert list(shown.value["headers"]) == report.MEASURED
    (row,) = json.loads(Path(facts).read_text())["modules_detail"]
    table = pd.read_csv(csv)
    assert table["energy kept"][0] == pytest.approx(row["energy_kept"], abs=1e-4)
    assert table["energy kept"][0] < 1
    assert "of its energy" in table["how read"][0]


def test_an_embedding_is_regauged_in_the_only_names_it_has(tmp_path):
    path = write(tmp_path / "x.safetensors", families()["embedding"][0])
    file, said = convert.turn(str(path), None, 1)
    assert "cosine of the updates 1.000000" in said
    assert file.visible


def test_a_dropped_file_is_read_once_whatever_is_done_with_it(monkeypatch):
    opened = []
    original = readings.read
    monkeypatch.setattr(readings, "read", lambda *a: opened.append(a) or original(*a))
    path = examples.example_file(examples.example_choices()[-1][1])
    report.inspect(path, None)
    verdict, *_ = prediction.predict(path, None, ())
    assert "No prediction" not in verdict
    grounds = prediction.grounds_of(readings.reading_of(path), ())
    prediction.explain(path, None, (), prediction.labels_of(grounds.predictor)[0][1])
    prediction.turn(path, None, (), 1)
    convert.shrink(path, None, 99.0)
    assert len(opened) == 1


def test_a_changed_file_is_read_again_and_the_oldest_reading_goes_first(tmp_path):
    held = readings.Readings(most_bytes=4 * 3 * (16 + 16))
    path = tmp_path / "x.safetensors"

    def reading(seed):
        torch.manual_seed(seed)
        tensors = {"a.lora_down.weight": rand(2, 16), "a.lora_up.weight": rand(16, 2)}
        return held.get(write(path, tensors), None)

    first = reading(0)
    assert held.get(path, None) is first
    second = reading(1)
    assert second is not first
    other = held.get(write(tmp_path / "y.safetensors", families()["kohya"][0]), None)
    assert held.get(tmp_path / "y.safetensors", None) is other
    assert held.get(path, None) is not second


def test_the_card_answers_first_and_the_network_has_a_row_a_block(tmp_path):
    tensors = {}
    for block in (0, 1, 10):
        for layer in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{block}.self_attn.{layer}"
            tensors[f"{name}.lora_A.weight"] = rand(2, 8)
            tensors[f"{name}.lora_B.weight"] = rand(8, 2)
    card, _, network, *_ = report.inspect(str(write(tmp_path / "x.safetensors", tensors)), None)
    assert "rank 2, 6 modules" in card
    assert network.count("<tr>") == 1 + 3
    rows = [row.partition("</th>")[0] for row in network.split("<th scope='row'>")[1:]]
    assert [row.rsplit(".", 1)[1] for row in rows] == ["0", "1", "10"]


def test_a_file_whose_configuration_lies_elsewhere_is_not_said_to_be_lost(tmp_path):
    """People drop adapter_model.safetensors alone."""
    tensors = {
        f"base_model.model.model.layers.{i}.self_attn.q_proj.lora_{x}.weight": torch.ones(shape)
        for i in range(2) for x, shape in (("A", (4, 64)), ("B", (64, 4)))
    }  # fmt: skip
    path = write(tmp_path / "adapter_model.safetensors", tensors, {})
    card = report.inspect(str(path), None)[0]
    assert "PEFT, vLLM, llama.cpp with its adapter_config.json" in card
    assert "PEFT no" not in card
    kohya = write(tmp_path / "kohya.safetensors", families()["kohya"][0], {})
    assert "adapter_config.json" not in report.inspect(str(kohya), None)[0]


@pytest.mark.parametrize("share", [i / 40 for i in range(41)])
def test_a_number_on_any_shade_can_be_read(share):
    module = ModuleGeometry("m", (4, 4), 1, torch.ones(1), share, share, 1.0, 1, 0, 0.0)
    cell = network._cell(module, 1.0)
    shade = [int(c) for c in re.search(r"rgb\((\d+), (\d+), (\d+)\)", cell).groups()]
    ink = 1.0 if "#ffffff" in cell else 0.0
    bright, dark = sorted((network.luminance(shade), ink), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_a_lora_that_changes_nothing_needs_no_rank(tmp_path):
    tensors = {"a.lora_down.weight": rand(4, 16), "a.lora_up.weight": torch.zeros(16, 4)}
    card, *_ = report.inspect(str(write(tmp_path / "x.safetensors", tensors, {})), None)
    assert "none: every update is zero" in card
    assert "none: there is no update to hold" in card
