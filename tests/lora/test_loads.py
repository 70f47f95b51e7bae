"""``loads_in`` says of PEFT what PEFT does: lost keys are those that it ignores or stops at."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.lora.files import rand, write
from wsdemo.lora.loads import loads_in
from wsdemo.lora.reader import read_lora

peft = pytest.importorskip("peft")
P = "base_model.model."


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.q_proj, self.v_proj = nn.Linear(8, 12), nn.Linear(8, 6)
        self.conv, self.score = nn.Conv2d(3, 5, 3), nn.Linear(12, 2)

    def forward(self, x):
        return self.score(self.q_proj(self.emb(x)))


def pair(name, n, m=8, r=4):
    return {f"{P}{name}.lora_A.weight": rand(r, m), f"{P}{name}.lora_B.weight": rand(n, r)}


QV = pair("q_proj", 12) | pair("v_proj", 6)
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
HADA = {f"{P}q_proj.hada_{k}": rand(*s) for k, s in (("w1_a", (12, 4)), ("w1_b", (4, 8)),
        ("w2_a", (12, 4)), ("w2_b", (4, 8)))}  # fmt: skip
HEAD = {f"{P}score.weight": rand(2, 12), f"{P}score.bias": rand(2)}
FILES = {
    "plain": (QV, LORA),
    "rsLoRA": (QV, LORA | {"use_rslora": True}),
    "one of two targeted": (QV, LORA | {"target_modules": ["q_proj"]}),
    "targets as an expression": (QV, LORA | {"target_modules": ".*q_proj"}),
    "α by patterns": (QV, LORA | {"alpha_pattern": {"q_proj": 2, "^v": 7}}),
    "another rank than configured": (QV, LORA | {"r": 8}),
    "ranks by a pattern": (pair("q_proj", 12, r=2) | pair("v_proj", 6),
                           LORA | {"rank_pattern": {"q_proj": 2}}),
    "a pattern that means no module": (pair("q_proj", 12, r=2) | pair("v_proj", 6),
                                       LORA | {"rank_pattern": {"^proj": 2}}),
    "embedding and convolution": (
        {f"{P}emb.lora_embedding_A": rand(4, 11), f"{P}emb.lora_embedding_B": rand(8, 4),
         f"{P}conv.lora_A.weight": rand(4, 3, 3, 3), f"{P}conv.lora_B.weight": rand(5, 4, 1, 1)},
        LORA | {"target_modules": ["emb", "conv"]}),
    "a head that is saved": (QV | HEAD, LORA | {"modules_to_save": ["score"]}),
    "a head that is not": (QV | HEAD, LORA),
    "a bias of a factor": (QV | {f"{P}q_proj.lora_B.bias": rand(12)}, LORA | {"lora_bias": True}),
    "a bias that is not configured": (QV | {f"{P}q_proj.lora_B.bias": rand(12)}, LORA),
    "DoRA": (QV | {f"{P}q_proj.lora_magnitude_vector": rand(12),
                   f"{P}v_proj.lora_magnitude_vector": rand(6)}, LORA | {"use_dora": True}),
    "DoRA that is not configured": (QV | {f"{P}q_proj.lora_magnitude_vector": rand(12)}, LORA),
    "LoHa": (HADA, {"peft_type": "LOHA", "r": 4, "alpha": 8, "target_modules": ["q_proj"]}),
    "LoKr": ({f"{P}q_proj.lokr_w1": rand(3, 2), f"{P}q_proj.lokr_w2": rand(4, 4)},
             {"peft_type": "LOKR", "r": 8, "alpha": 8, "target_modules": ["q_proj"]}),
    "kohya's names": ({"lora_unet_q_proj.lora_down.weight": rand(4, 8),
                       "lora_unet_q_proj.lora_up.weight": rand(12, 4)}, LORA),
    "names without PEFT's prefix": ({k.removeprefix(P): v for k, v in QV.items()}, LORA),
}  # fmt: skip


def by_peft(folder):
    """What PEFT loads: the updates that it applies, and the keys that it does not know.

    None for both if it stops.
    """
    state = load_file(folder / "adapter_model.safetensors")
    try:
        model = peft.get_peft_model(Tiny(), peft.PeftConfig.from_pretrained(folder))
        result = peft.set_peft_model_state_dict(model, state)
    except (RuntimeError, ValueError, KeyError):
        return None, None
    bare = []
    for key in result.unexpected_keys:
        plain = key.replace(".default", "").replace("modules_to_save.", "")
        bare.append(plain.removesuffix(".weight") if "magnitude" in plain else plain)
    updates = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and getattr(module, "adapter_layer_names", ()):
            updates[name.removeprefix(P)] = module.get_delta_weight("default").detach()
    return updates, bare


@pytest.mark.parametrize("label", FILES)
def test_it_is_what_peft_does(label, tmp_path):
    tensors, config = FILES[label]
    path = write(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    found = loads_in(lora)["peft"]
    updates, unknown = by_peft(tmp_path)
    if updates is None:
        assert (found.ok, found.strength) == (False, None), label
        return
    read = {m.name for m in lora.modules if not set(m.keys) & set(found.lost)}
    in_part = {
        m.name for m in lora.modules if any("magnitude" in k for k in found.lost if k in m.keys)
    }
    for module in lora.modules:
        if module.name in read | in_part:
            W = updates[module.name].flatten(1)
            ours = module.U @ module.V.T
            ours = ours.T if ours.shape != W.shape else ours
            torch.testing.assert_close(W, ours, rtol=1e-4, atol=1e-5)
    if found.strength is None:
        assert len(unknown) == len(tensors)
    else:
        assert found.strength == 1
        assert set(found.lost) == set(unknown), label
    assert found.ok is (not unknown)


def test_without_its_configuration_it_is_refused(tmp_path):
    found = loads_in(read_lora(write(tmp_path / "adapter_model.safetensors", QV)))["peft"]
    assert (found.ok, found.strength) == (False, None)
    with pytest.raises(ValueError, match="adapter_config"):
        peft.PeftConfig.from_pretrained(tmp_path)
