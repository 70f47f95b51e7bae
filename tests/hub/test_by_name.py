"""What the page and the command line do with the name of a repository."""

import json

import gradio as gr
import pytest
import torch
from safetensors.torch import save

from tests.hub.acme import adapter, fetched, resolved
from tests.hub.loopback import COMMIT
from wsdemo.checkpoints import DIRECTORY
from wsdemo.cli.main import main
from wsdemo.lol.predictor import files as predictor_files
from wsdemo.lora.reader import read_lora
from wsdemo.ui.lora import hub_row
from wsdemo.ui.lora.own_predictor import use_predictor
from wsdemo.ui.lora.prediction import own_predictor


def test_the_command_line_takes_a_repository(loopback, capsys):
    assert main(["inspect", "acme/lora", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modules"] == 3
    assert found["base_model"]["name"] == "acme/base"
    assert main(["inspect", "acme/many", "--json"]) == 2
    assert "v0.safetensors" in capsys.readouterr().out


def test_the_resolved_commit_is_in_the_answer(loopback, capsys):
    assert main(["predict", "acme/lora", "--json"]) == 0
    origin = json.loads(capsys.readouterr().out)["origin"]
    assert origin == {"repo": "acme/lora", "commit": COMMIT, "path": "adapter_model.safetensors"}


def test_the_card_on_the_hub_is_evidence_of_the_base_after_the_configuration(loopback, capsys):
    loopback.files["acme/c"] = {"c.safetensors": adapter()}
    said = "stabilityai/stable-diffusion-xl-base-1.0"
    loopback.card["acme/c"] = {"base_model": [said]}
    assert main(["inspect", "acme/c", "--json"]) == 0
    base = json.loads(capsys.readouterr().out)["base_model"]
    assert base["name"] == said
    assert base["evidence"][0] == {"source": "card on the Hub", "says": said}
    assert base["disagreement"] == "card on the Hub says SDXL, keys and shapes says Llama"
    lora = read_lora(fetched("acme/lora"))
    assert [source for source, _ in lora.base.evidence][:2] == [
        "adapter_config.json",
        "card on the Hub",
    ]


def test_a_file_is_found_by_name_among_more_than_a_chooser_shows(loopback):
    loopback.files["acme/heap"] = {f"f{i}.safetensors": adapter(count=1) for i in range(250)}
    assert resolved("acme/heap:f240.safetensors").chosen.path == "f240.safetensors"
    _, chooser, told, _ = hub_row.look("acme/heap", "")
    assert len(chooser.choices) == 200
    assert "It holds 250 files: choose one of the first 200, or name it" in told
    _, chooser, told, _ = hub_row.look("acme/heap:f240.safetensors", "")
    assert chooser.value == "f240.safetensors"
    assert chooser.value in [value for _, value in chooser.choices]


def test_what_holds_no_lora_by_its_header_is_not_downloaded(loopback, capsys):
    body = save({"emb_params": torch.zeros(4096, 768)})
    loopback.files["acme/word"] = {"word.safetensors": body, "b.safetensors": adapter()}
    assert main(["inspect", "acme/word:word.safetensors", "--json"]) == 2
    assert "No LoRA" in capsys.readouterr().out
    repository, _, told, button = hub_row.look("acme/word:word.safetensors", "")
    assert "**No LoRA.**" in told
    assert not button.interactive
    assert hub_row.choose(repository, "b.safetensors", "")[1].interactive
    assert not hub_row.choose(repository, "word.safetensors", "")[1].interactive
    ranges = [h.get("range") for p, h in loopback.requests if "/word.s" in p]
    assert ranges
    assert all(ranges)  # the header only


def test_a_predictor_is_found_by_its_name(loopback, capsys):
    body = (DIRECTORY / "lol-face-fields.safetensors").read_bytes()
    loopback.files["acme/predictor"] = {"README.md": b"hi", "predictor.safetensors": body}
    assert main(["lol", "list", "--predictor", "acme/predictor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictors"]
    assert found[0]["name"] == "lol-face-fields"
    assert len(found) == 1 + len(list(DIRECTORY.glob("lol-*.safetensors")))
    assert main(["lol", "list", "--predictor", "acme/lora", "--json"]) == 2
    assert "wsdemo metadata" in capsys.readouterr().out
    assert main(["lol", "list", "--predictor", "no such thing", "--json"]) == 2


def test_the_page_takes_a_predictor_by_name_and_no_path(loopback, tmp_path):
    body = (DIRECTORY / "lol-face-fields.safetensors").read_bytes()
    loopback.files["acme/predictor"] = {"predictor.safetensors": body}
    (own,), told = use_predictor("acme/predictor", None, "")
    assert own_predictor(own).name == "lol-face-fields"
    assert "Smiling" in told
    (tmp_path / "predictor.safetensors").write_bytes(body)
    with pytest.raises(gr.Error, match="owner/name"):
        use_predictor(str(tmp_path), None, "")
    (own,), _ = use_predictor("", str(tmp_path / "predictor.safetensors"), "")
    assert own == str(tmp_path / "predictor.safetensors")
    assert use_predictor("", None, "")[0] == ()
    with pytest.raises(gr.Error, match="No such repository"):  # a name, though a file has it too
        use_predictor("checkpoints/faces-base.safetensors", None, "")


def test_a_predictor_that_is_too_large_is_not_downloaded(loopback, monkeypatch, tmp_path):
    body = (DIRECTORY / "lol-face-fields.safetensors").read_bytes()
    loopback.files["acme/predictor"] = {"predictor.safetensors": body}
    monkeypatch.setattr(predictor_files, "MAX_PREDICTOR_BYTES", len(body) // 2)
    with pytest.raises(gr.Error, match="a predictor may have"):
        use_predictor("acme/predictor", None, "")
    assert not list(tmp_path.rglob("*.safetensors"))
