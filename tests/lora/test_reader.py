"""Every family → the ΔW that its formula gives; what is no LoRA is refused by its name."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.lora.files import N, R, families, peft_folder, rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora.decomposition import decompose, expanded_rank, truncated
from wsdemo.lora.keys import split_key
from wsdemo.lora.reader import judge_header, read_lora
from wsdemo.safetensors_header import read_header

CASES = families()


def product(module) -> torch.Tensor:
    return module.U @ module.V.T


@pytest.mark.parametrize("label", CASES)
def test_each_family_gives_the_update_of_its_formula(label, tmp_path):
    tensors, name, expected = CASES[label]
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    assert [m.name for m in lora.modules] == [name]
    torch.testing.assert_close(product(lora.modules[0]), expected, rtol=1e-4, atol=1e-5)
    assert lora.used_keys == len(tensors)
    assert not lora.ignored
    assert lora.family != "unknown"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(dtype, tmp_path):
    tensors, _, expected = CASES["kohya"]
    lora = read_lora(
        write(tmp_path / "x.safetensors", {k: v.to(dtype) for k, v in tensors.items()})
    )
    assert lora.modules[0].U.dtype == torch.float32
    torch.testing.assert_close(product(lora.modules[0]), expected, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": R, "lora_alpha": 6}, 2.0),
        ({"r": R, "lora_alpha": 6, "use_rslora": True}, 6 / math.sqrt(R)),
        ({"r": R, "lora_alpha": 6, "alpha_pattern": {"layers.0.q_proj": 12}}, 4.0),
        ({"r": R, "lora_alpha": 6, "alpha_pattern": {r"^model\.layers\.0\.q_proj$": 3}}, 1.0),
        ({"r": R, "lora_alpha": 6, "alpha_pattern": {"layers.9.q_proj": 12}}, 2.0),
    ],
)
def test_peft_scale_follows_the_configuration(config, scale, tmp_path):
    path, BA = peft_folder(tmp_path, config)
    lora = read_lora(path)
    first = next(m for m in lora.modules if m.name.endswith("q_proj"))
    torch.testing.assert_close(product(first), BA * scale, rtol=1e-4, atol=1e-5)
    assert lora.is_exact
    assert not lora.warnings


def test_without_its_configuration_a_peft_file_is_read_and_that_is_said(tmp_path):
    path, BA = peft_folder(tmp_path, {})
    path.with_name("adapter_config.json").unlink()
    lora = read_lora(path)
    assert not lora.is_exact
    assert "scale is taken as 1" in lora.warnings[0]
    torch.testing.assert_close(product(lora.modules[0]), BA, rtol=1e-4, atol=1e-5)


def test_a_configuration_of_another_rank_is_pointed_out(tmp_path):
    path, BA = peft_folder(tmp_path, {"r": 8, "lora_alpha": 6})
    lora = read_lora(path)
    assert "says rank 8; 2 modules have rank 3" in lora.warnings[0]
    torch.testing.assert_close(product(lora.modules[0]), BA * 2, rtol=1e-4, atol=1e-5)


def test_diffusers_metadata_give_the_scale(tmp_path):
    tensors, _, expected = CASES["diffusers PEFT layers"]
    meta = {"lora_adapter_metadata": json.dumps({"unet.r": R, "unet.lora_alpha": 9})}
    lora = read_lora(write(tmp_path / "x.safetensors", tensors, meta))
    torch.testing.assert_close(product(lora.modules[0]), 3 * expected, rtol=1e-4, atol=1e-5)
    assert lora.is_exact


def test_a_configuration_without_alpha_does_not_hide_the_one_in_the_file(tmp_path):
    tensors, _, expected = CASES["diffusers PEFT layers"]
    meta = {"lora_adapter_metadata": json.dumps({"unet.r": R, "unet.lora_alpha": 9})}
    lora = read_lora(write(tmp_path / "x.safetensors", tensors, meta), {"origin": "elsewhere"})
    torch.testing.assert_close(product(lora.modules[0]), 3 * expected, rtol=1e-4, atol=1e-5)


def test_multiplicative_adapters_are_never_called_additive(tmp_path):
    path, _ = peft_folder(tmp_path, {"r": R, "lora_alpha": R, "use_mlora": True})
    assert read_lora(path).kind == "multiplicative"


def test_our_own_instances_are_read(tmp_path):
    from wsdemo.domains.faces import FACES
    from wsdemo.domains.instances import make_instance
    from wsdemo.domains.models import adapter_of

    adapter = adapter_of(FACES, "mlora-asym", 8, 0)
    path = tmp_path / "face.safetensors"
    make_instance(FACES, adapter, adapter.start).save(path)
    lora = read_lora(path)
    assert (lora.kind, lora.ranks) == ("multiplicative", {8: 6})


def test_dora_reports_its_magnitude(tmp_path):
    tensors, name, _ = CASES["kohya"]
    lora = read_lora(
        write(tmp_path / "x.safetensors", {**tensors, f"{name}.dora_scale": rand(N, 1)})
    )
    assert lora.modules[0].magnitude.shape == (N,)
    assert any("DoRA" in w for w in lora.warnings)
    assert not lora.is_exact


@pytest.mark.parametrize("shape", [(), (1,), (1, N), (N, 1, 1)])
def test_a_magnitude_of_any_shape_is_a_row_of_numbers(shape, tmp_path):
    tensors, name, _ = CASES["kohya"]
    scale = rand(*shape) if shape else torch.tensor(0.5)
    found = read_lora(write(tmp_path / "x.safetensors", {**tensors, f"{name}.dora_scale": scale}))
    assert found.modules[0].magnitude.shape == (scale.numel(),)


def test_mlx_names_doras_magnitude_m(tmp_path):
    tensors, name, _ = CASES["MLX"]
    lora = read_lora(write(tmp_path / "x.safetensors", {**tensors, f"{name}.m": rand(N)}))
    assert lora.modules[0].magnitude.shape == (N,)
    assert lora.family == "DoRA + MLX"


def test_a_damaged_configuration_beside_the_file_is_pointed_out(tmp_path):
    path, _ = peft_folder(tmp_path, {})
    for text in ("{", "[1]", "[" * 9000):
        path.with_name("adapter_config.json").write_text(text)
        assert "is damaged" in read_lora(path).warnings[0]


@pytest.mark.parametrize("label", ["kohya", "LoHa", "LoKr", "MLX", "embedding", "AdaLoRA",
                                   "Tucker convolution", "loralib", "SAM"])  # fmt: skip
def test_a_header_alone_tells_the_rank(label, tmp_path):
    tensors, name, _ = CASES[label]
    path = write(tmp_path / "x.safetensors", {**tensors, f"{name}.dora_scale": rand(N, 1)})
    (rank,) = read_lora(path).ranks
    assert f"1 modules of rank {rank}," in judge_header(read_header(path))


def test_nothing_is_dropped_silently(tmp_path):
    tensors, _, _ = CASES["kohya"]
    others = {
        "base_model.model.classifier.weight": "head",
        "text.embed_tokens.weight": "text embedding",
        "lonely.lora_down.weight": "no pair",
        "x.lora_A.bias": "bias of the adapter",
        "something.odd": "not a key of any",
    }
    lora = read_lora(
        write(tmp_path / "x.safetensors", {**tensors, **{k: rand(4, 4) for k in others}})
    )
    assert lora.used_keys + len(lora.ignored) == len(tensors) + len(others)
    for key, why in others.items():
        assert why in next(i.why for i in lora.ignored if i.key == key), key


def test_factors_that_do_not_fit_are_left_out_with_the_reason(tmp_path):
    tensors, _, _ = CASES["kohya"]
    bad = {"b.lora_down.weight": rand(3, 5), "b.lora_up.weight": rand(6, 4)}
    lora = read_lora(write(tmp_path / "x.safetensors", {**tensors, **bad}))
    assert len(lora.modules) == 1
    assert all("no rank in common" in i.why for i in lora.ignored)
    assert not lora.is_exact
    assert any("b:" in w for w in lora.warnings)


REFUSED = {
    "IA3": ({"m.ia3_l": rand(4, 1)}, "IA3"),
    "VeRA": ({"m.vera_lambda_b": rand(4), "m.vera_lambda_d": rand(4)}, "VeRA"),
    "OFT": ({"m.oft_r": rand(4, 4, 4)}, "OFT"),
    "embedding": ({"emb_params": rand(2, 768)}, "text embedding"),
    "SD checkpoint": ({"model.diffusion_model.x.weight": rand(4, 4)}, "full Stable Diffusion"),
    "language model": ({"model.layers.0.mlp.up.weight": rand(4, 4)}, "full language model"),
    "other": ({"weights": rand(4, 4)}, "no adapter that this app knows"),
    "half pairs": ({"m.lora_down.weight": rand(4, 4)}, "no adapter that this app knows"),
    "NaN": ({"m.lora_down.weight": rand(2, 4) * float("nan"), "m.lora_up.weight": rand(4, 2)},
            "NaN or infinite"),
    "infinite": ({"m.lora_down.weight": rand(2, 4), "m.lora_up.weight": rand(4, 2) / 0.0},
                 "NaN or infinite"),
    "rank": ({"m.lora_down.weight": rand(1025, 2), "m.lora_up.weight": rand(2, 1025)},
             "rank 1025"),
    "HRA": ({"base_model.model.q.hra_u": rand(8, 4)}, "HRA"),
    "FourierFT": ({"base_model.model.q.fourierft_spectrum": rand(8)}, "FourierFT"),
    "BERT": ({"bert.encoder.layer.0.attention.self.query.weight": rand(8, 8)}, "BERT"),
    "T5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": rand(8, 8)}, "T5"),
    "GPT-2": ({"h.0.attn.c_attn.weight": rand(8, 24)}, "GPT-2"),
    "ResNet": ({"layer1.0.conv1.weight": rand(8, 8, 3, 3)}, "ResNet"),
    "VAE": ({"encoder.down_blocks.0.resnets.0.conv1.weight": rand(8, 8, 3, 3)}, "VAE"),
    "MLP instance": ({"block0.0.weight": rand(4, 4)}, "MLP of its own"),
}  # fmt: skip


@pytest.mark.parametrize("label", REFUSED)
def test_what_is_no_lora_is_refused_by_its_name(label, tmp_path):
    tensors, message = REFUSED[label]
    with pytest.raises(WsdemoError, match=message) as caught:
        read_lora(write(tmp_path / "x.safetensors", tensors))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("meta", "config", "name", "disagreement"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, None, "sdxl_base_v1-0", ""),
        ({"modelspec.architecture": "stable-diffusion-v1/lora",
          "ss_base_model_version": "sdxl_base_v1-0"}, None, "stable-diffusion-v1/lora", "SDXL"),
        ({}, {"base_model_name_or_path": "org/llama"}, "org/llama", ""),
    ],
)  # fmt: skip
def test_base_model_is_named_with_its_evidence(meta, config, name, disagreement, tmp_path):
    tensors, _, _ = CASES["kohya"]
    lora = read_lora(write(tmp_path / "x.safetensors", tensors, meta), config)
    assert lora.base.name == name
    assert disagreement in lora.base.disagreement
    assert lora.base.evidence


def test_truncation_keeps_the_product_and_drops_dead_columns():
    U, V = rand(20, 3), rand(15, 3)
    wide_U, wide_V = torch.cat([U, U], 1), torch.cat([V, V], 1)
    a, b, kept = truncated(wide_U, wide_V)
    assert a.shape[1] == 3
    assert kept == pytest.approx(1)
    torch.testing.assert_close(a @ b.T, 2 * U @ V.T, rtol=1e-4, atol=1e-4)


@given(st.text(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_key_is_judged_without_trouble(key):
    part = split_key(key)
    assert part is None or part.role


@given(
    st.dictionaries(
        st.sampled_from(
            ["m.lora_down.weight", "m.lora_up.weight", "m.alpha", "m.lora_mid.weight", "m.diff",
             "m.hada_w1_a", "m.hada_w1_b", "m.hada_w2_a", "m.hada_w2_b", "m.hada_t1",
             "m.lokr_w1", "m.lokr_w2_a", "m.lokr_w2_b", "m.lokr_t2", "m.lora_A.weight",
             "m.lora_B.weight", "m.lora_E", "m.dora_scale", "w_a_000", "w_b_000"]
        ),
        st.lists(st.integers(1, 5), max_size=4),
        min_size=1,
        max_size=8,
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_shapes_are_read_or_refused(tmp_path_factory, shapes):
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    save_file({k: torch.ones(s) for k, s in shapes.items()}, path)
    try:
        lora = read_lora(path)
    except WsdemoError:
        return
    assert all(torch.isfinite(m.U).all() for m in lora.modules)
    assert lora.used_keys + len(lora.ignored) == len(shapes)


def test_a_product_of_large_factors_is_cut_within_bounds_and_that_is_stated(tmp_path):
    w1 = rand(48, 48) @ torch.diag(0.8 ** torch.arange(48.0))
    tensors = {"k.lokr_w1": w1, "k.lokr_w2": rand(64, 64), "k.alpha": torch.tensor(1.0)}
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    module = lora.modules[0]
    assert module.rank == expanded_rank(48 * 64, 48 * 64) < 48 * 64
    assert "of its energy" in module.note
    assert not lora.is_exact
    W = torch.kron(w1, tensors["k.lokr_w2"])
    left = float((W - module.U @ module.V.T).norm() ** 2 / W.norm() ** 2)
    assert 1 - left == pytest.approx(module.kept, abs=2e-3)
    assert f"cut to {module.rank} columns" in lora.warnings[0]
    assert f"keeps {module.kept:.1%}" in lora.warnings[0]


def test_a_large_matrix_is_cut_nearly_as_well_as_can_be():
    W = rand(1100, 1200) @ torch.diag(0.99 ** torch.arange(1200.0))
    U, V, kept = decompose(W, energy=1.0, limit=50)
    s = torch.linalg.svdvals(W).double().square()
    assert kept == pytest.approx(1 - float((W - U @ V.T).norm() ** 2 / W.norm() ** 2), abs=1e-4)
    assert float(s[:50].sum() / s.sum()) - kept < 0.01
    low = rand(1100, 5) @ rand(5, 1200)
    U, V, kept = decompose(low, energy=1.0, limit=50)
    assert (U.shape[1], kept) == (5, pytest.approx(1, abs=1e-6))
    torch.testing.assert_close(U @ V.T, low, rtol=1e-3, atol=1e-3)


def test_lokr_and_loha_of_a_convolution_keep_the_kernel(tmp_path):
    w1, w2 = rand(2, 2), rand(8, 4, 3, 3)
    loha = {"h.hada_w1_a": rand(6, 2), "h.hada_w1_b": rand(2, 4, 3, 3),
            "h.hada_w2_a": rand(6, 2), "h.hada_w2_b": rand(2, 4, 3, 3)}  # fmt: skip
    lora = read_lora(write(tmp_path / "x.safetensors", {"k.lokr_w1": w1, "k.lokr_w2": w2} | loha))
    of_loha, of_lokr = lora.modules
    assert (of_loha.shape, of_lokr.shape) == ((6, 4, 3, 3), (16, 8, 3, 3))
    W = torch.einsum("ac,bdxy->abcdxy", w1, w2).reshape(16, 8, 3, 3)
    torch.testing.assert_close(product(of_lokr).reshape(W.shape), W, rtol=1e-4, atol=1e-5)


def test_a_model_with_layers_like_llamas_is_no_disagreement(tmp_path):
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_A.weight": torch.ones(2, 8), f"{name}.lora_B.weight": torch.ones(8, 2)
    }  # fmt: skip
    path = write(tmp_path / "x.safetensors", tensors)
    for base, said in (("org/SmolLM2-135M", ""), ("org/qwen2", ""), ("org/roberta", "RoBERTa")):
        config = {"r": 2, "lora_alpha": 2, "base_model_name_or_path": base}
        assert said in read_lora(path, config).base.disagreement
        assert bool(read_lora(path, config).base.disagreement) == bool(said)
