"""The scale follows each program's own rule; factors in 8 bits have scales of their own."""

import pytest
import torch
from torch import tensor

from tests.lora.files import rand
from tests.lora.forms.common import BA, PEFT, A, B, R, close, read, update
from wsdemo.lora.geometry import findings, measure


@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale", "weight.scale_weight"])
@pytest.mark.parametrize("rows", [None, False, True])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_factors_in_8_bits_are_multiplied_by_their_scales(ending, rows, dtype, tmp_path):
    tensors, wanted = {"diffusion_model.b.q.alpha": tensor(float(R))}, []
    for part, X in (("down", A), ("up", B)):
        top = 127 if dtype == torch.int8 else 448
        scale = X.abs().amax(1, keepdim=True) / top if rows else X.abs().max() / top
        scale = scale if rows is not False else scale.reshape(1)
        stored = (X / scale).round().to(dtype)
        stem = f"diffusion_model.b.q.lora_{part}"
        tensors |= {f"{stem}.weight": stored, f"{stem}.{ending}": scale}
        wanted.append(stored.float() * scale)
    lora = read(tmp_path, {**tensors, "scaled_fp8": torch.zeros(2)})
    close(update(lora), wanted[1] @ wanted[0])
    assert lora.is_exact
    assert [k.what for k in lora.kept] == ["mark"]


@pytest.mark.parametrize("ending", [".scale_weight", ".weight_scale", "_scale"])
@pytest.mark.parametrize("method", ["loha", "lokr"])
def test_products_of_factors_in_8_bits_are_multiplied_by_their_scales(method, ending, tmp_path):
    parts = {
        "loha": {"hada_w1_a": B, "hada_w1_b": A, "hada_w2_a": 2 * B, "hada_w2_b": A.flip(1)},
        "lokr": {"lokr_w1": rand(2, 3), "lokr_w2": rand(4, 2)},
    }[method]
    tensors, restored = {}, {}
    for role, X in parts.items():
        scale = X.abs().max() / 127
        stored = (X / scale).round().to(torch.int8)
        restored[role] = stored.float() * scale
        tensors |= {f"lora_unet_x.{role}": stored, f"lora_unet_x.{role}{ending}": scale}
    lora = read(tmp_path, tensors)
    if method == "loha":
        a, b, c, d = restored.values()
        close(update(lora), (a @ b) * (c @ d))
    else:
        close(update(lora), torch.kron(*restored.values()))
    assert lora.is_exact


SCALES = {
    "α in the texts": (
        {"blocks.0.q.lora_A.weight": A, "blocks.0.q.lora_B.weight": B}, None, {"lora_alpha": "8"},
        4.0, True),
    "α in the texts of a kohya file": (
        {"lora_unet_x.lora_down.weight": A, "lora_unet_x.lora_up.weight": B}, None,
        {"network_alpha": "1"}, 0.5, True),
    "none in ComfyUI's spelling": (
        {"diffusion_model.x.q.lora_A.weight": A, "diffusion_model.x.q.lora_B.weight": B}, None,
        None, 1.0, True),
    "none in diffusers' spelling": (
        {"transformer.x.q.lora_A.weight": A, "transformer.x.q.lora_B.weight": B}, None, None, 1.0,
        True),
    "none in PEFT's": (
        {"base_model.model.transformer.h.0.q.lora_A.weight": A,
         "base_model.model.transformer.h.0.q.lora_B.weight": B}, None, None, 1.0, False),
    "none for a GPT-2 of its own": (
        {"transformer.h.0.q.lora_A.weight": A, "transformer.h.0.q.lora_B.weight": B}, None, None,
        1.0, False),
    "a tensor of its own": (
        {"lora_unet_x.lora_down.weight": A, "lora_unet_x.lora_up.weight": B,
         "lora_unet_x.scale": tensor(0.25), "lora_unet_x.alpha": tensor(8.0)}, None, None, 0.25,
        True),
    "α of zero": (
        {"lora_unet_x.lora_down.weight": A, "lora_unet_x.lora_up.weight": B,
         "lora_unet_x.alpha": tensor(0.0)}, None, None, 0.0, False),
    "mlx-lm's scale": (
        {"l.q.lora_a": A.T, "l.q.lora_b": B.T}, {"lora_parameters": {"rank": R, "scale": 20.0}},
        None, 20.0, True),
    "an anchored pattern that is for another module": (
        {"base_model.model.l.q_proj.lora_A.weight": A,
         "base_model.model.l.q_proj.lora_B.weight": B},
        {**PEFT, "alpha_pattern": {"^q_proj": 32}}, None, 2.0, True),
    "a pattern of alternatives": (
        {"base_model.model.l.9.q_proj.lora_A.weight": A,
         "base_model.model.l.9.q_proj.lora_B.weight": B},
        {**PEFT, "alpha_pattern": {r"l\.(8|9)\.(q|k)_proj": 32}}, None, 16.0, True),
    "a pattern that ends in the midst of a name": (
        {"base_model.model.l.xq_proj.lora_A.weight": A,
         "base_model.model.l.xq_proj.lora_B.weight": B},
        {**PEFT, "alpha_pattern": {"q_proj": 32}}, None, 2.0, True),
    "GraLoRA's own": (
        {"base_model.model.q.gralora_A": rand(2, 3, 4), "base_model.model.q.gralora_B":
         rand(2, 4, 3)},
        {"peft_type": "GRALORA", "r": 4, "alpha": 6, "gralora_k": 2}, None, 1.5, True),
}  # fmt: skip


@pytest.mark.parametrize("label", SCALES)
def test_each_programs_rule_gives_the_scale(label, tmp_path):
    tensors, config, texts, scale, is_exact = SCALES[label]
    lora = read(tmp_path, tensors, config, texts)
    assert lora.modules[0].scale == pytest.approx(scale)
    assert lora.is_exact == is_exact
    if "GraLoRA" not in label:
        close(update(lora), scale * BA)


def test_alpha_of_zero_is_not_said_to_be_untrained(tmp_path):
    tensors, *_ = SCALES["α of zero"]
    lora = read(tmp_path, tensors)
    said = " ".join([*lora.warnings, *findings(lora, measure(lora))])
    assert "α is 0" in said
    assert "sd-scripts" in said
    assert "never trained" not in said


def test_a_pattern_that_takes_forever_is_taken_literally(tmp_path):
    tensors = {}
    for i in range(300):
        name = f"base_model.model.{'a' * 150}{i}.q"
        tensors |= {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    evil = {"(a|a)*b": 1, "(a+)+b": 2, ".*a.*a.*b": 3, "[": 4, "a{1,99}{1,99}": 5}
    lora = read(tmp_path, tensors, {**PEFT, "alpha_pattern": evil})
    assert len(lora.modules) == 300
