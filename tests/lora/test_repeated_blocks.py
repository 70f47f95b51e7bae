"""MiSS and Bone: read where a table says how wide a layer is, and refused by name elsewhere."""

import json

import pytest
import torch
from torch import nn

from tests.lora.files import rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora.bases.tables import all_tables
from wsdemo.lora.export import export
from wsdemo.lora.reader import read_lora

SIZES = all_tables()["llama_like"].sizes["SmolLM2 135M"]
NAME = "base_model.model.model.layers.{}.self_attn.{}_proj"


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = nn.Module()
        self.self_attn.q_proj = nn.Linear(SIZES["hidden"], SIZES["q"], bias=False)
        self.self_attn.k_proj = nn.Linear(SIZES["hidden"], SIZES["kv"], bias=False)


class Model(nn.Module):
    """One layer of SmolLM2 135M's attention, under its names."""

    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.layers = nn.ModuleList([Layer()])


@pytest.mark.parametrize(
    "options", [{"r": 8}, {"r": 7}, {"r": 8, "init_weights": "mini", "mini_r": 64}],
    ids=["plain", "remainder", "mini"],
)  # fmt: skip
def test_peft_merges_what_is_read(options, tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = Model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = peft.MissConfig(target_modules=["q_proj", "k_proj"], **options)
    adapted = peft.get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "miss_block" in name:
            nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path)
    beside = tmp_path / "adapter_config.json"
    own = json.loads(beside.read_text())
    beside.write_text(json.dumps(own | {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M"}))
    lora = read_lora(tmp_path)
    assert lora.is_exact
    after = adapted.merge_and_unload().state_dict()
    assert len(lora.modules) == 2
    for module in lora.modules:
        delta = after[f"{module.name}.weight"] - before[f"{module.name}.weight"]
        torch.testing.assert_close(module.U @ module.V.T, delta, atol=1e-5, rtol=1e-5)
    out = tmp_path / "out" / "adapter_model.safetensors"
    out.parent.mkdir()
    export(lora, "peft", out, "float32")
    fresh = Model()
    fresh.load_state_dict(before)
    again = peft.PeftModel.from_pretrained(fresh, out.parent).merge_and_unload().state_dict()
    for key, weight in after.items():
        torch.testing.assert_close(again[key], weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["miss", "bone"])
def test_a_picture_models_table_is_asked_too(method, tmp_path):
    block = rand(4, 3072)
    name = "transformer.single_transformer_blocks.0.attn.to_q"
    path = write(tmp_path / "x.safetensors", {f"{name}.{method}_block": block})
    (module,) = read_lora(path).modules
    delta = module.U @ module.V.T
    assert delta.shape == (3072, 3072)
    assert torch.equal(delta[:, :4], block.T)
    assert torch.equal(delta[:, 8:12], block.T)


@pytest.mark.parametrize(("method", "said"), [("miss", "a MiSS"), ("bone", "a Bone")])
def test_without_a_table_it_is_refused_by_its_name(method, said, tmp_path):
    path = write(tmp_path / "x.safetensors", {f"base_model.model.q.{method}_block": rand(4, 8)})
    with pytest.raises(WsdemoError, match=said):
        read_lora(path)
    names = {f"base_model.model.model.layers.0.self_attn.q_proj.{method}_block": rand(4, 2048)}
    path = write(tmp_path / "y.safetensors", names)  # several models have such a layer
    with pytest.raises(WsdemoError, match=said):
        read_lora(path)
