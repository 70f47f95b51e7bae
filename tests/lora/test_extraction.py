"""A LoRA from two checkpoints, and what a header says of a training."""

import json

import pytest
import torch

from tests.lora.files import rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora.extraction import extract
from wsdemo.lora.reader import read_lora
from wsdemo.lora.training import training


def checkpoints(folder, prefix, names, bias=None):
    base, tuned, updates = {}, {}, {}
    for i, name in enumerate(names):
        W = rand(24, 20, seed=i)
        updates[name] = rand(24, 3, seed=i + 7) @ rand(3, 20, seed=i + 8)
        base[f"{prefix}{name}.weight"], tuned[f"{prefix}{name}.weight"] = W, W + updates[name]
    base["same.weight"] = tuned["same.weight"] = rand(9, 9)
    tuned["new.weight"] = rand(3, 3)
    if bias:
        base[bias], tuned[bias] = rand(24), rand(24, seed=5)
    return write(folder / "t.safetensors", tuned), write(folder / "b.safetensors", base), updates


def test_the_difference_of_two_checkpoints_is_found_again(tmp_path):
    names = [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
    tuned, base, updates = checkpoints(tmp_path, "", names)
    out = tmp_path / "out" / "adapter_model.safetensors"
    out.parent.mkdir()
    said = extract(tuned, base, out, rank=3, dtype="float32")
    assert (said["modules"], said["unchanged"], said["base"]) == (3, 1, "Llama-like")
    assert said["energy"] == pytest.approx(1, abs=1e-5)
    assert said["left_out"] == [{"key": "new.weight", "why": "only the finetuned file has it"}]
    lora = read_lora(out)
    assert lora.is_exact
    for module in lora.modules:
        torch.testing.assert_close(module.U @ module.V.T, updates[module.name], rtol=0, atol=1e-4)


def test_a_pipelines_part_is_written_with_its_biases(tmp_path):
    names = ["double_blocks.0.img_attn.proj", "double_blocks.1.img_attn.proj"]
    bias = "model.diffusion_model.double_blocks.0.img_attn.proj.bias"
    tuned, base, _ = checkpoints(tmp_path, "model.diffusion_model.", names, bias)
    out = tmp_path / "x.safetensors"
    extract(tuned, base, out, rank=2, dtype="float32")
    lora = read_lora(out)
    assert {m.name for m in lora.modules} == {f"diffusion_model.{n}" for n in names}
    assert [t.what for t in lora.kept] == ["bias"]


def test_what_cannot_be_extracted_is_said(tmp_path):
    tuned, base, _ = checkpoints(tmp_path, "", ["a.b"])
    other = write(tmp_path / "o.safetensors", {"q.weight": rand(3, 3)})
    for files, rank, said in (((tuned, tuned), 4, "none of the|None of the"),
                              ((tuned, other), 4, "share no weight"),
                              ((tuned, base), 0, "rank is 0")):  # fmt: skip
        with pytest.raises(WsdemoError, match=said):
            extract(*files, tmp_path / "x.safetensors", rank)


def test_a_header_tells_of_its_training_and_damage_tells_nothing():
    texts = {
        "modelspec.trigger_phrase": "ohwx cat",
        "training_info": json.dumps({"step": 900, "trigger_word": "ohwx"}),
        "ss_tag_frequency": json.dumps({"10_cat": {"ohwx": 20, "sofa": 3}, "b": {"sofa": 1}}),
        "ss_dataset_dirs": json.dumps({"10_cat": {"img_count": 20, "n_repeats": 10}}),
        "ss_learning_rate": "1e-4",
    }
    found = training(texts)
    assert found["trigger_phrases"] == ["ohwx cat", "ohwx"]
    assert found["tags"] == [["ohwx", 20], ["sofa", 4]]
    assert found["folders"] == [["cat", 20, 10]]
    assert found["settings"] == {"learning_rate": "1e-4", "steps": "900"}
    for bad in ("{", "[1]", '{"a": 3}', '{"a": {"b": "c"}}'):
        found = training(dict.fromkeys(texts, bad) | {"modelspec.trigger_phrase": ""})
        assert found["tags"] == []
