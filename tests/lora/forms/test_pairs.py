"""Plain pairs in every spelling, and their kin, give the U Vᵀ of their formula."""

import pytest
import torch
from torch import tensor

from tests.lora.files import rand
from tests.lora.forms.common import BA, PEFT, A, B, M, N, R, close, read, update
from wsdemo.errors import WsdemoError
from wsdemo.lora.geometry import measure

SPELLINGS = {
    "IP-Adapter-FaceID": ("ip_adapter.0.to_q_lora.{}.weight", "down", "up"),
    "IP-Adapter-FaceID alone": ("0.to_q_lora.{}.weight", "down", "up"),
    "layerdiffuse": ("diffusion_model.x.to_q.weight::lora::{}", "1", "0"),
    "an underscore": ("lora_unet_x_lora_{}.weight", "down", "up"),
    "Control-LoRA": ("input_blocks.1.1.proj_in.{}", "down", "up"),
    "torchtune": ("layers.0.attn.q_proj.lora_{}.weight", "a", "b"),
    "llama.cpp": ("blk.0.attn_q.weight.lora_{}", "a", "b"),
    "an adapter's name": ("base_model.model.l.q.lora_{}.my-adapter.weight", "A", "B"),
    "an adapter's name with dots": ("base_model.model.l.q.lora_{}.v1.5.final.weight", "A", "B"),
    "an adapter's name and no weight": ("l.q.lora_{}.my-a", "A", "B"),
    "SimpleTuner": ("transformer.base_model.model.x.to_q.lora_{}.weight", "A", "B"),
    "DiffSynth": ("pipe.dit.blocks.0.self_attn.q.lora_{}.default.weight", "A", "B"),
}


@pytest.mark.parametrize("label", SPELLINGS)
def test_each_spelling_of_a_pair_is_read(label, tmp_path):
    key, down, up = SPELLINGS[label]
    lora = read(tmp_path, {key.format(down): A, key.format(up): B})
    close(update(lora), BA)
    assert lora.used_keys == 2
    assert lora.family != "unknown"


def test_mlx_vlm_takes_alpha_over_rank_and_is_not_sure(tmp_path):
    tensors = {"language_model.l.q.A": A.T, "language_model.l.q.B": B.T}
    lora = read(tmp_path, tensors, {"rank": R, "alpha": 6, "dropout": 0.0})
    close(update(lora), 3 * BA)
    assert not lora.is_exact
    assert any("mlx-vlm" in w for w in lora.warnings)


def test_kohyas_split_layers_are_stacked(tmp_path):
    tensors, wanted = {"lora_unet_x_qkv.alpha": tensor(1.0)}, []
    for i, rows in enumerate((5, 5, 3)):
        a, b = rand(R, M, seed=i), rand(rows, R, seed=9 + i)
        tensors |= {f"lora_unet_x_qkv.lora_down.{i}.weight": a,
                    f"lora_unet_x_qkv.lora_up.{i}.weight": b}  # fmt: skip
        wanted.append(b @ a)
    lora = read(tmp_path, tensors)
    close(update(lora), torch.cat(wanted) / R)
    assert (lora.modules[0].stored_rank, lora.modules[0].shape) == (R, (13, M))
    assert lora.is_exact
    del tensors["lora_unet_x_qkv.lora_up.1.weight"]
    with pytest.raises(WsdemoError, match="no pair"):
        read(tmp_path, tensors)


def test_kasa_has_a_diagonal_and_is_not_exact(tmp_path):
    d = rand(R)
    tensors = {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B,
               "base_model.model.q.lora_diag": d}  # fmt: skip
    lora = read(tmp_path, tensors, PEFT)
    close(update(lora), 2 * B @ torch.diag(d) @ A)
    assert not lora.is_exact
    assert any("truncates the base" in w for w in lora.warnings)


def test_hira_multiplies_and_departs_from_nothing_by_its_factors(tmp_path):
    tensors = {"base_model.model.q.hira_A": A, "base_model.model.q.hira_B": B}
    lora = read(tmp_path, tensors, {"peft_type": "HIRA", "r": R})
    assert (lora.kind, lora.modules[0].offset) == ("multiplicative", 1.0)
    close(update(lora), BA)
    geometry = measure(lora)
    assert geometry.modules[0].departure == pytest.approx(float(BA.norm()))
    tensors["base_model.model.q.hira_B"] = 0 * B
    assert measure(read(tmp_path, tensors)).is_no_op


def test_mlx_embeddings_are_not_transposed(tmp_path):
    a, b = rand(11, R), rand(R, M)
    tensors = {"model.embed_tokens.lora_a": a, "model.embed_tokens.lora_b": b}
    lora = read(tmp_path, tensors, {"lora_parameters": {"scale": 2.0}})
    close(update(lora), 2 * a @ b)
    assert lora.modules[0].is_embedding


def test_ai_toolkits_magnitude_is_that_of_a_dora(tmp_path):
    name = "diffusion_model.blocks.0.q"
    lora = read(tmp_path, {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B,
                           f"{name}.magnitude": rand(N)})  # fmt: skip
    assert lora.modules[0].magnitude.shape == (N,)
    assert not lora.is_exact
