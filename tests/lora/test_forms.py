"""Every form that programs store an update in gives the U Vᵀ of its formula, and its scale."""

import json
import math

import pytest
import torch
from torch import tensor

from tests.lora.files import rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora.geometry import findings, measure
from wsdemo.lora.kept import read_kept, read_stored
from wsdemo.lora.reader import read_lora

N, M, R = 5, 6, 2
A, B = rand(R, M, seed=1), rand(N, R, seed=2)
BA = B @ A


def read(folder, tensors, config=None, metadata=None):
    tensors = {k: v.clone() for k, v in tensors.items()}  # none of one memory
    path = write(folder / "adapter_model.safetensors", tensors, metadata)
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    keys = [k.key for k in lora.kept]
    for used in {m.keys for m in lora.modules}:
        keys += used
    assert sorted(keys) == sorted(tensors)  # every tensor is a module's or kept, once
    return lora


def update(lora, name=None):
    module = next(m for m in lora.modules if name in (None, m.name))
    return module.U @ module.V.T


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


PEFT = {"peft_type": "LORA", "r": R, "lora_alpha": 4}
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


@pytest.mark.parametrize("enabled", [(True, False, True), (True, True, True), (False, True)])
def test_merged_linear_adapts_some_parts_of_a_fused_layer(enabled, tmp_path):
    g, rows = sum(enabled), 4
    a, b = rand(g * R, M), rand(g * rows, R)
    name = "transformer.h.0.self_attention.query_key_value"
    tensors = {f"base_model.model.{name}.lora_A.weight": a,
               f"base_model.model.{name}.lora_B.weight": b[..., None]}  # fmt: skip
    wanted, group = torch.zeros(len(enabled) * rows, M), 0
    for i, is_on in enumerate(enabled):
        if is_on:
            own = slice(group * rows, (group + 1) * rows)
            wanted[i * rows : (i + 1) * rows] = b[own] @ a[group * R : (group + 1) * R]
            group += 1
    if g == 1:
        return  # one group is a plain pair of fewer rows, which nothing tells from any other
    lora = read(tmp_path, tensors, {**PEFT, "enable_lora": list(enabled)})
    close(update(lora), 2 * wanted)
    assert lora.modules[0].shape == tuple(wanted.shape)
    assert lora.is_exact


def test_merged_linear_without_its_configuration_has_the_norm_and_a_doubt(tmp_path):
    a, b = rand(2 * R, M), rand(8, R)
    lora = read(tmp_path, {"h.0.attn.c_attn.lora_A": a, "h.0.attn.c_attn.lora_B": b})
    close(update(lora), torch.cat([b[:4] @ a[:R], b[4:] @ a[R:]]))
    assert not lora.is_exact
    assert any("enable_lora" in w for w in lora.warnings)


def test_qalora_sees_pooled_inputs(tmp_path):
    tensors = {"base_model.model.l.q.lora_A.weight": A, "base_model.model.l.q.lora_B.weight": B}
    lora = read(tmp_path, tensors, {**PEFT, "use_qalora": True, "qalora_group_size": 4})
    x = rand(7, 4 * M)
    wanted = 2 * (x.view(7, M, 4).mean(2) * M) @ A.T @ B.T
    close(x @ update(lora).T, wanted)
    assert lora.modules[0].shape == (N, 4 * M)
    assert lora.is_exact


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


@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale", "weight.scale_weight"])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_factors_in_8_bits_are_multiplied_by_their_scales(ending, rows, dtype, tmp_path):
    tensors, wanted = {"diffusion_model.b.q.alpha": tensor(float(R))}, []
    for part, X in (("down", A), ("up", B)):
        top = 127 if dtype == torch.int8 else 448
        scale = X.abs().amax(1, keepdim=True) / top if rows else X.abs().max().reshape(1) / top
        stored = (X / scale).round().to(dtype)
        stem = f"diffusion_model.b.q.lora_{part}"
        tensors |= {f"{stem}.weight": stored, f"{stem}.{ending}": scale}
        wanted.append(stored.float() * scale)
    lora = read(tmp_path, {**tensors, "scaled_fp8": torch.zeros(2)})
    close(update(lora), wanted[1] @ wanted[0])
    assert lora.is_exact
    assert [k.what for k in lora.kept] == ["mark"]


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


def test_whole_differences_of_vectors_and_volumes_are_kept_as_they_are(tmp_path):
    name = "diffusion_model.blocks.0"
    whole = {
        f"{name}.norm3.diff": rand(M),
        f"{name}.norm3.diff_b": rand(M),
        f"{name}.modulation.diff": rand(1, 6, M),
        f"{name}.x.diff_m": rand(1, 6, M),
        "diffusion_model.patch_embedding.diff": rand(4, 3, 1, 2, 2),
        f"{name}.q.diff_b": rand(N),
    }
    tensors = {f"{name}.q.lora_down.weight": A, f"{name}.q.lora_up.weight": B, **whole}
    lora = read(tmp_path, tensors)
    assert [m.name for m in lora.modules] == [f"{name}.q"]
    assert lora.is_exact
    found = read_kept(lora.kept)
    assert all(torch.equal(found[key], value) for key, value in whole.items())
    kinds = {k.key: (k.what, k.module) for k in lora.kept}
    assert kinds[f"{name}.q.diff_b"] == ("bias", f"{name}.q")
    assert kinds[f"{name}.modulation.diff"] == ("difference", "")
    assert any("whole differences (4" in w for w in lora.warnings)


def test_a_whole_difference_of_a_matrix_is_read_and_can_be_copied(tmp_path):
    W = rand(9, 7)
    lora = read(tmp_path, {"lora_unet_x.diff": W.half()})
    module = lora.modules[0]
    assert module.is_whole
    assert module.is_exact
    assert module.dtype == "F16"
    assert torch.equal(read_stored(lora, module)["lora_unet_x.diff"], W.half())


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
