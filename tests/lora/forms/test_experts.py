"""Experts of a mixture, stored together or one by one."""

import math

import pytest
import torch

from tests.lora.files import rand
from tests.lora.forms.common import M, N, R, close, read, update
from wsdemo.lora.geometry import measure

EXPERTS = {
    "PEFT in 3-D": ("mlp.experts.gate_proj.lora_A.weight", "mlp.experts.gate_proj.lora_B.weight"),
    "kohya in 3-D": ("mlp.experts.gate_proj.lora_down.weight",
                     "mlp.experts.gate_proj.lora_up.weight"),
    "MLX": ("mlp.switch_mlp.gate_proj.lora_a", "mlp.switch_mlp.gate_proj.lora_b"),
    "llama.cpp": ("blk.0.ffn_up_exps.weight.lora_a", "blk.0.ffn_up_exps.weight.lora_b"),
}  # fmt: skip


@pytest.mark.parametrize("is_flat", [False, True])
@pytest.mark.parametrize("label", EXPERTS)
def test_experts_stored_together_are_read_one_by_one(label, is_flat, tmp_path):
    if is_flat and label != "MLX":
        return
    a, b = rand(3, R, M), rand(3, N, R)
    down, up = EXPERTS[label]
    tensors = {down: a.flatten(0, 1) if is_flat else a, up: b}
    lora = read(tmp_path, tensors, {"lora_parameters": {"scale": 1.0}, "lora_alpha": R, "r": R})
    assert len(lora.modules) == 3
    for i, module in enumerate(lora.modules):
        close(module.U @ module.V.T, b[i] @ a[i])
        assert module.piece == (i, 3)
        assert module.name in (f"mlp.experts.{i}.gate_proj", f"blk.0.ffn_up_exps.{i}")
    assert lora.used_keys == 2
    assert lora.is_exact


def test_a_convolution_is_not_taken_for_experts(tmp_path):
    down, up = rand(4, 3, 5), rand(6, 4, 1)
    lora = read(tmp_path, {"lora_unet_c.lora_down.weight": down, "lora_unet_c.lora_up.weight": up})
    close(update(lora), up[:, :, 0] @ down.flatten(1))


def test_one_pair_for_each_of_many_experts_is_read(tmp_path):
    tensors = {}
    for layer in range(4):
        for expert in range(128):
            for part in ("gate_proj", "up_proj", "down_proj"):
                name = f"base_model.model.layers.{layer}.mlp.experts.{expert}.{part}.lora_"
                tensors |= {
                    f"{name}A.weight": torch.ones(1, 2),
                    f"{name}B.weight": torch.ones(2, 1),
                }
    lora = read(tmp_path, tensors, {"peft_type": "LORA", "r": 1, "lora_alpha": 1})
    assert len(lora.modules) == 4 * 128 * 3
    assert measure(lora).frobenius == pytest.approx(2 * math.sqrt(4 * 128 * 3))
