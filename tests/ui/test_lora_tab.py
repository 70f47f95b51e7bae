"""The LoRA evaluator's own functions, without a browser."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.lora.files import families, rand, write
from wsdemo.ui.lora import lora_tab


def test_a_dropped_file_gives_its_passport_and_tables_to_download(tmp_path):
    tensors = {"k.lokr_w1": rand(8, 8), "k.lokr_w2": rand(48, 48)}
    meta = {"modelspec.title": "<b>mine</b>"}
    path = write(tmp_path / "x.safetensors", tensors, meta)
    words, _, shown, csv, facts = lora_tab.inspect(str(path), None)
    assert "modelspec.title" in words
    assert "<b>" not in words
    assert list(shown.value["headers"]) == lora_tab.MEASURED
    (row,) = json.loads(Path(facts).read_text())["modules_detail"]
    table = pd.read_csv(csv)
    assert table["energy kept"][0] == pytest.approx(row["energy_kept"], abs=1e-4)
    assert table["energy kept"][0] < 1
    assert "of its energy" in table["how read"][0]


def test_an_embedding_is_regauged_in_the_only_names_it_has(tmp_path):
    path = write(tmp_path / "x.safetensors", families()["embedding"][0])
    file, said = lora_tab.turn(str(path), None, 1)
    assert "cosine of the updates 1.000000" in said
    assert file.visible
