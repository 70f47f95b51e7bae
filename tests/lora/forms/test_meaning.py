"""What leaves a doubt, and what needs more than the file and is refused by its name."""

import pytest
import torch

from tests.lora.files import rand
from tests.lora.forms.common import BA, PEFT, A, B, R, close, read, update
from wsdemo.errors import WsdemoError


def test_a_key_beside_the_factors_that_is_not_known_is_a_doubt(tmp_path):
    pair = {"lora_unet_x.lora_down.weight": A, "lora_unet_x.lora_up.weight": B}
    assert read(tmp_path, {**pair, "elsewhere.foo": rand(2)}).is_exact
    for stray in ("lora_unet_x.lora_gate", "lora_unet_x.weight"):
        lora = read(tmp_path, {**pair, stray: rand(2)})
        assert not lora.is_exact
        assert any(stray in w for w in lora.warnings)


SETTINGS = {
    "init_lora_weights": ["pissa_niter_4", "corda", "loftq", "lora_ga", "something new"],
    "layer_replication": [[[0, 2], [1, 3]]],
    "alora_invocation_tokens": [[5, 6]],
    "kasa_config": [{"beta": 1e-4}],
    "use_dora": [True],
    "arrow_config": [{"top_k": 2}],
    "a_setting_of_tomorrow": [True],
    "peft_type": ["TOMORROW"],
}


@pytest.mark.parametrize("field", SETTINGS)
def test_a_setting_that_changes_the_meaning_is_a_doubt(field, tmp_path):
    tensors = {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B}
    assert read(tmp_path, tensors, PEFT).is_exact
    for value in SETTINGS[field]:
        lora = read(tmp_path, tensors, {**PEFT, field: value})
        assert not lora.is_exact
        assert any(field in w for w in lora.warnings)


@pytest.mark.parametrize("value", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_a_start_that_leaves_the_base_is_no_doubt(value, tmp_path):
    tensors = {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B}
    assert read(tmp_path, tensors, {**PEFT, "init_lora_weights": value}).is_exact


def test_empty_tensors_of_zero3_are_named_and_sound_pairs_are_read(tmp_path):
    tensors = {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B,
               "base_model.model.lm_head.weight": torch.empty(0)}  # fmt: skip
    lora = read(tmp_path, tensors, {**PEFT, "modules_to_save": ["lm_head"]})
    close(update(lora), 2 * BA)
    assert lora.is_exact
    assert any("ZeRO-3" in w and "lm_head" in w for w in lora.warnings)
    tensors |= {"base_model.model.v.lora_A.weight": torch.empty(0),
                "base_model.model.v.lora_B.weight": torch.empty(0)}  # fmt: skip
    lora = read(tmp_path, tensors, PEFT)
    assert len(lora.modules) == 1
    assert not lora.is_exact


REFUSED = {
    "Nunchaku": {"transformer_blocks.0.qkv_proj.lora_down": A.T,
                 "transformer_blocks.0.qkv_proj.lora_up": B},
    "T-LoRA": {"unet.x.q_layer.weight": A, "unet.x.p_layer.weight": B,
               "unet.x.lambda_layer": rand(R)},
    "IA3": {"lora_unet_x.weight": rand(8), "lora_unet_x.on_input": torch.tensor(False)},
    "MiSS": {"base_model.model.q.miss_block": rand(4, 8)},
    "Bone": {"base_model.model.q.bone_block": rand(4, 8)},
    "LN tuning": {"base_model.model.norm.ln_tuning_layers.weight": rand(8)},
    "prompt tuning": {"prompt_embeddings": rand(8, 16)},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_more_than_the_file_is_refused_by_name(name, tmp_path):
    with pytest.raises(WsdemoError, match=name):
        read(tmp_path, REFUSED[name])


def test_peft_type_is_the_first_witness(tmp_path):
    tensors = {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B}
    with pytest.raises(WsdemoError, match=r"X-LoRA adapter \(peft_type XLORA\)"):
        read(tmp_path, tensors, {"peft_type": "XLORA"})
    with pytest.raises(WsdemoError, match="peft_type TOMORROW"):
        read(tmp_path, {"base_model.model.model.layers.0.q.new_A.weight": A},
             {"peft_type": "TOMORROW"})  # fmt: skip
