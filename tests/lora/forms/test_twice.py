"""Two adapters, or one module in two spellings, in one file."""

import pytest
import torch
from torch import tensor

from tests.lora.files import rand
from tests.lora.forms.common import PEFT, A, B, N, R, read

TWO = {
    "two adapters": {
        "base_model.model.q.lora_A.style.weight": A, "base_model.model.q.lora_B.style.weight": B,
        "base_model.model.q.lora_A.subject.weight": A,
        "base_model.model.q.lora_B.subject.weight": B,
    },
    "two adapters of other modules": {
        "base_model.model.q.lora_A.style.weight": A, "base_model.model.q.lora_B.style.weight": B,
        "base_model.model.v.lora_A.subject.weight": A,
        "base_model.model.v.lora_B.subject.weight": B,
    },
}  # fmt: skip


@pytest.mark.parametrize("label", TWO)
def test_of_two_adapters_one_is_read_and_both_are_named(label, tmp_path):
    lora = read(tmp_path, TWO[label], PEFT)
    assert len(lora.modules) == 1
    assert not lora.is_exact
    assert any("two adapters: style, subject" in w for w in lora.warnings)


@pytest.mark.parametrize("is_same", [True, False])
@pytest.mark.parametrize("with_alpha", [True, False])
def test_a_module_in_two_spellings_is_counted_once(is_same, with_alpha, tmp_path):
    tensors = {"transformer.blocks.0.attn.to_q.lora_A.weight": A,
               "transformer.blocks.0.attn.to_q.lora_B.weight": B,
               "lora_unet_blocks_0_attn_to_q.lora_down.weight": A,
               "lora_unet_blocks_0_attn_to_q.lora_up.weight": B if is_same else B + 1}  # fmt: skip
    if with_alpha:
        tensors["lora_unet_blocks_0_attn_to_q.alpha"] = tensor(float(R))
    lora = read(tmp_path, tensors)
    assert len(lora.modules) == 1
    assert lora.is_exact == is_same
    assert any("two spellings" in w for w in lora.warnings)


@pytest.mark.parametrize("is_same", [True, False])
@pytest.mark.parametrize("names", [("to_q", "to_k", "to_v"), ("to.q", "to.k", "to.v")])
def test_a_fused_layer_beside_its_parts_is_counted_once(is_same, names, tmp_path):
    parts = [rand(N, R, seed=i) for i in range(3)]
    stem = "diffusion_model.layers.0.attention"
    tensors = {f"{stem}.qkv.lora_A.weight": A, f"{stem}.qkv.lora_B.weight": torch.cat(parts)}
    for name, part in zip(names, parts, strict=True):
        tensors[f"{stem}.{name}.lora_A.weight"] = A
        tensors[f"{stem}.{name}.lora_B.weight"] = part if is_same else part + 1
    lora = read(tmp_path, tensors)
    assert [m.name for m in lora.modules] == [f"{stem}.qkv"]
    assert lora.is_exact == is_same
