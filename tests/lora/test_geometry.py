"""Geometry and arithmetic: equal to the dense computation, invariant to the gauge."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from tests.lora.files import families, peft_folder, rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora import geometry
from wsdemo.lora.arithmetic import merge, regauge, resize, save_lora
from wsdemo.lora.geometry import (
    compare,
    findings,
    inner,
    measure,
    read_and_measure,
    singular_values,
)
from wsdemo.lora.names import canonical_name, kohya_name
from wsdemo.lora.reader import read_lora


def lora_of(tmp_path, seed: int = 0, rank: int = 4, modules: int = 3):
    tensors = {}
    for i in range(modules):
        tensors[f"m{i}.lora_down.weight"] = rand(rank, 20, seed=seed + i)
        tensors[f"m{i}.lora_up.weight"] = rand(24, rank, seed=seed + i + 9)
    return read_lora(write(tmp_path / f"l{seed}-{rank}.safetensors", tensors))


def dense(lora):
    return {m.name: m.U @ m.V.T for m in lora.modules}


@pytest.mark.parametrize("shape", [(24, 20, 4), (6, 20, 9), (24, 5, 9), (3, 3, 8)])
def test_singular_values_equal_those_of_the_dense_product(shape):
    n, m, r = shape
    U, V = rand(n, r), rand(m, r)
    expected = torch.linalg.svdvals(U.double() @ V.double().T)
    found = singular_values(U, V)
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-6, atol=1e-8)
    assert float(expected[len(found) :].abs().sum()) < 1e-5


@pytest.mark.parametrize("doubled", [False, True])
def test_rows_measured_in_parts_count_as_all_of_them(doubled, monkeypatch):
    U, V = rand(50, 4).repeat(2, 1, 1), rand(30, 4)[None].repeat(2, 1, 1)
    if doubled:  # columns so alike that Cholesky gives up
        U[1, :, 1] = U[1, :, 0]
    whole = singular_values(U, V)
    monkeypatch.setattr(geometry, "MEASURED_NUMBERS", 56)  # seven rows of two modules
    assert [part.shape[-2] for part in geometry._in_double(U)] == [7] * 7 + [1]
    torch.testing.assert_close(singular_values(U, V), whole, rtol=1e-12, atol=1e-12)
    expected = torch.linalg.svdvals(U.double() @ V.double().mT)[:, :4]
    torch.testing.assert_close(whole, expected, rtol=1e-6, atol=1e-8)


def test_norms_and_ranks(tmp_path):
    lora = lora_of(tmp_path)
    geometry = measure(lora)
    total = sum(float(W.norm() ** 2) for W in dense(lora).values()) ** 0.5
    assert geometry.frobenius == pytest.approx(total, rel=1e-5)
    for module, (_, W) in zip(geometry.modules, sorted(dense(lora).items()), strict=True):
        s = torch.linalg.svdvals(W)
        assert module.spectral == pytest.approx(float(s[0]), rel=1e-5)
        assert 1 <= module.effective_rank <= 4
        assert module.dead_ranks == 0


def test_modules_of_many_shapes_do_not_wait_for_ever(tmp_path, monkeypatch):
    tensors = {}
    for i in range(12):
        tensors[f"m{i}.lora_down.weight"] = rand(2, 10 + i)
        tensors[f"m{i}.lora_up.weight"] = rand(9, 2)
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    expected = measure(lora)
    monkeypatch.setattr(geometry, "MEASURED_NUMBERS", 60)
    measuring = geometry.Measuring()
    for module in lora.modules:
        measuring.add(module)
        assert sum(m.U.numel() + m.V.numel() for w in measuring._waiting.values() for m in w) < 480
    assert [m.frobenius for m in measuring.geometry().modules] == pytest.approx(
        [m.frobenius for m in expected.modules]
    )


def test_no_op_files_and_dead_columns_are_found(tmp_path):
    silent = {"m.lora_down.weight": rand(4, 20), "m.lora_up.weight": torch.zeros(24, 4)}
    lora = read_lora(write(tmp_path / "z.safetensors", silent))
    assert measure(lora).is_no_op
    assert "changes nothing" in findings(lora, measure(lora))[0]
    half = {"m.lora_down.weight": rand(4, 20), "m.lora_up.weight": rand(24, 4)}
    half["m.lora_up.weight"][:, 2:] = 0
    lora = read_lora(write(tmp_path / "h.safetensors", half))
    assert measure(lora).modules[0].dead_ranks == 2
    assert any("Rank 2 would hold" in text for text in findings(lora, measure(lora)))


@pytest.mark.parametrize("label", families())
def test_regauging_changes_factors_and_nothing_else(label, tmp_path):
    tensors, _, _ = families()[label]
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    turned = regauge(lora, seed=3)
    before, after = measure(lora), measure(turned)
    assert after.frobenius == pytest.approx(before.frobenius, rel=1e-4)
    for a, b in zip(lora.modules, turned.modules, strict=True):
        torch.testing.assert_close(a.U @ a.V.T, b.U @ b.V.T, rtol=1e-3, atol=1e-4)
        assert float((a.U - b.U).abs().max()) > 1e-3
    assert compare(lora, turned).cosine == pytest.approx(1, abs=1e-4)


def test_a_file_that_float32_rounds_away_is_pointed_out(tmp_path):
    faint = {"m.lora_down.weight": rand(4, 20), "m.lora_up.weight": rand(24, 4) * 1e-12}
    lora = read_lora(write(tmp_path / "f.safetensors", faint))
    assert not measure(lora).is_no_op
    assert "next to nothing" in findings(lora, measure(lora))[0]


def test_a_multiplicative_lora_does_nothing_where_its_factor_is_one(tmp_path):
    U, V = rand(24, 2), rand(20, 2)
    for values, is_no_op in (((torch.ones(24, 1), torch.ones(20, 1)), True),
                             ((0 * U, V), False), ((U, V), False)):  # fmt: skip
        tensors = {"m.lora_A.weight": values[1].T, "m.lora_B.weight": values[0]}
        path = write(tmp_path / "x.safetensors", tensors)
        lora = read_lora(path, {"r": 1, "lora_alpha": 1, "use_mlora": True})
        (module,) = measure(lora).modules
        assert module.is_no_op == measure(lora).is_no_op == is_no_op
        own = lora.modules[0].U @ lora.modules[0].V.T
        assert module.departure == pytest.approx(float((own - 1).norm()), rel=1e-5)
        assert ("Every factor is one" in "".join(findings(lora, measure(lora)))) == is_no_op


def test_norms_of_blocks_add_up(tmp_path):
    names = ("lora_te1_text_model_encoder_layers_3_q", "lora_unet_down_blocks_0_attentions_1_q",
             "unet.down_blocks.10.attentions.0.q", "unet.down_blocks.9.resnets.0.conv1",
             "text_encoder_2.text_model.layers.4.q", "proj")  # fmt: skip
    tensors = {}
    for i, name in enumerate(names):
        tensors[f"{name}.lora_down.weight"] = rand(2, 8, seed=i)
        tensors[f"{name}.lora_up.weight"] = rand(8, 2, seed=i)
    geometry = measure(read_lora(write(tmp_path / "x.safetensors", tensors)))
    assert list(geometry.by_block) == [
        "elsewhere", "lora_te1_text_model_encoder_layers_3", "lora_unet_down_blocks_0",
        "text_encoder_2.text_model.layers.4", "unet.down_blocks.9", "unet.down_blocks.10",
    ]  # fmt: skip
    total = sum(norm**2 for norm in geometry.by_block.values()) ** 0.5
    assert total == pytest.approx(geometry.frobenius)


def test_resizing_keeps_the_wished_energy_and_loses_no_more(tmp_path):
    U, V = rand(24, 16), rand(20, 16)
    U *= 0.5 ** torch.arange(16)
    tensors = {"m.lora_down.weight": V.T, "m.lora_up.weight": U}
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    smaller, kept = resize(lora, 0.99)
    assert kept >= 0.99
    assert smaller.modules[0].rank < 8
    W, small = dense(lora)["m"], dense(smaller)["m"]
    assert float((W - small).norm() ** 2 / W.norm() ** 2) == pytest.approx(1 - kept, abs=1e-4)
    with pytest.raises(WsdemoError, match="energy is 0"):
        resize(lora, 0)


def cut_files() -> dict[str, tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Updates of more ranks than are read: tensors, and the whole update."""
    w1, w2, W = rand(8, 8), rand(48, 48), rand(300, 300)
    a, b, c, d = (rand(*s, seed=i) for i, s in enumerate([(300, 20), (20, 300)] * 2))
    loha = {"h.hada_w1_a": a, "h.hada_w1_b": b, "h.hada_w2_a": c, "h.hada_w2_b": d}
    return {
        "LoKr": ({"k.lokr_w1": w1, "k.lokr_w2": w2}, torch.kron(w1, w2)),
        "LoHa": (loha, (a @ b) * (c @ d)),
        "full difference": ({"d.diff": W}, W),
    }


@pytest.mark.parametrize("label", cut_files())
def test_the_norm_of_a_cut_update_is_that_of_the_whole(label, tmp_path):
    tensors, W = cut_files()[label]
    path = write(tmp_path / "x.safetensors", tensors)
    lora = read_lora(path)
    assert not lora.is_exact
    assert measure(lora).frobenius == pytest.approx(float(W.norm()), rel=1e-4)
    assert read_and_measure(path)[1].frobenius == pytest.approx(float(W.norm()), rel=1e-4)
    assert "1 of 1 modules are cut to" in lora.warnings[0]
    smaller, kept = resize(lora, 1.0)
    left = smaller.modules[0].U @ smaller.modules[0].V.T
    assert kept == pytest.approx(float(left.norm() ** 2 / W.norm() ** 2), rel=1e-3)
    with pytest.raises(WsdemoError, match="have more ranks than were read"):
        regauge(lora, seed=1)


def test_comparison_equals_the_dense_one(tmp_path):
    a, b = lora_of(tmp_path, 0, 4), lora_of(tmp_path, 50, 6)
    found = compare(a, b)
    A = torch.cat([W.flatten() for _, W in sorted(dense(a).items())]).double()
    B = torch.cat([W.flatten() for _, W in sorted(dense(b).items())]).double()
    assert found.cosine == pytest.approx(float(A @ B / A.norm() / B.norm()), abs=1e-6)
    assert found.ratio == pytest.approx(float(B.norm() / A.norm()), rel=1e-5)
    assert compare(a, a).cosine == pytest.approx(1)
    assert compare(a, a).modules[0].output_angle == pytest.approx(1, abs=1e-6)
    assert inner(a.modules[0], b.modules[0]) == pytest.approx(
        float((dense(a)["m0"] * dense(b)["m0"]).sum()), rel=1e-4
    )


def test_loras_without_a_common_module_do_not_compare(tmp_path):
    a = lora_of(tmp_path)
    b = dataclasses.replace(
        a, modules=tuple(dataclasses.replace(m, name=f"x{m.name}") for m in a.modules)
    )
    with pytest.raises(WsdemoError, match="share no module"):
        compare(a, b)
    multiplicative = tuple(dataclasses.replace(m, kind="multiplicative") for m in a.modules)
    with pytest.raises(WsdemoError, match="One is additive"):
        compare(a, dataclasses.replace(a, modules=multiplicative))


def test_merging_is_addition(tmp_path):
    a, b = lora_of(tmp_path, 0, 4), lora_of(tmp_path, 50, 6, modules=2)
    merged = merge([a, b], [1.0, -0.5])
    for name, W in dense(merged).items():
        expected = dense(a)[name] - 0.5 * dense(b).get(name, torch.zeros_like(W))
        torch.testing.assert_close(W, expected, rtol=1e-3, atol=1e-4)
    multiplicative = tuple(dataclasses.replace(m, kind="multiplicative") for m in a.modules)
    with pytest.raises(WsdemoError, match="do not add"):
        merge([a, dataclasses.replace(a, modules=multiplicative)], [1, 1])


@pytest.mark.parametrize("style", ["kohya", "peft"])
@pytest.mark.parametrize("label", ["loralib", "convolution", "LoHa", "AdaLoRA"])
def test_written_files_read_back_as_the_same_update(style, label, tmp_path):
    tensors, _, expected = families()[label]
    lora = read_lora(write(tmp_path / "in" / "x.safetensors", tensors))
    path = tmp_path / "out" / "y.safetensors"
    path.parent.mkdir()
    assert save_lora(lora, path, style) == path.stat().st_size
    again = read_lora(path)
    torch.testing.assert_close(dense(again)[lora.modules[0].name], expected, rtol=1e-3, atol=1e-4)
    assert again.modules[0].shape == lora.modules[0].shape
    assert again.is_exact


SPELLINGS = {
    "diffusers": ("unet.down_blocks.0.attentions.1.attn1.to_q", "lora_A.weight", "lora_B.weight"),
    "kohya": ("lora_unet_down_blocks_0_attentions_1_attn1_to_q", "lora_down.weight",
              "lora_up.weight"),
    "ComfyUI": ("diffusion_model.down_blocks.0.attentions.1.attn1.to_q", "lora_A.weight",
                "lora_B.weight"),
}  # fmt: skip


def spelled(tmp_path, spelling: str):
    name, down, up = SPELLINGS[spelling]
    tensors = {f"{name}.{down}": rand(3, 8), f"{name}.{up}": rand(9, 3)}
    return read_lora(write(tmp_path / f"{spelling}.safetensors", tensors))


@pytest.mark.parametrize("other", ["kohya", "ComfyUI"])
def test_one_lora_in_two_spellings_is_one_lora(other, tmp_path):
    a, b = spelled(tmp_path, "diffusers"), spelled(tmp_path, other)
    assert compare(a, b).cosine == pytest.approx(1)
    assert not compare(a, b).only_first
    merged = merge([a, b], [1.0, -1.0])
    assert [m.name for m in merged.modules] == [a.modules[0].name]
    assert measure(merged).frobenius < 1e-5


def test_names_that_differ_in_dots_alone_stay_two_modules(tmp_path):
    tensors = {}
    for i, name in enumerate(("a.b", "a_b", "A_b")):
        tensors |= {f"{name}.lora_A.weight": rand(2, 8, seed=i),
                    f"{name}.lora_B.weight": rand(9, 2, seed=i)}  # fmt: skip
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    assert len(compare(lora, lora).modules) == len(merge([lora], [1.0]).modules) == 3
    assert compare(lora, lora).cosine == pytest.approx(1)


def test_the_output_layers_of_the_first_generation_have_their_number():
    old, new = "unet.down_blocks.0.attn1.to_out", "unet.down_blocks.0.attn1.to_out.0"
    assert canonical_name(old) == canonical_name(new) == canonical_name(kohya_name(old, ""))
    assert canonical_name("text_encoder.a.b") == canonical_name("lora_te1_a_b")
    assert canonical_name("text_encoder_2.a.b") != canonical_name("text_encoder.a.b")


def test_names_follow_the_style_that_is_written(tmp_path):
    a, path = spelled(tmp_path, "diffusers"), tmp_path / "out.safetensors"
    save_lora(a, path, "kohya")
    assert f"{SPELLINGS['kohya'][0]}.alpha" in load_file(path)
    save_lora(a, path, "peft")
    assert f"{SPELLINGS['diffusers'][0]}.lora_A.weight" in load_file(path)
    assert not path.with_name("adapter_config.json").exists()
    assert read_lora(path).is_exact
    for lost in (spelled(tmp_path, "kohya"),
                 read_lora(write(path, families()["cloneofsimo"][0]))):  # fmt: skip
        with pytest.raises(WsdemoError, match="matches no module"):
            save_lora(lost, path, "peft")


def test_the_configuration_of_another_adapter_is_not_replaced(tmp_path):
    path, _ = peft_folder(tmp_path, {"r": 3, "lora_alpha": 6})
    lora, before = read_lora(path), measure(read_lora(path)).frobenius
    with pytest.raises(WsdemoError, match="belongs to another adapter"):
        save_lora(lora, tmp_path / "other.safetensors", "peft")
    assert measure(read_lora(path)).frobenius == before
    save_lora(lora, path, "peft")  # its own is replaced with it
    assert measure(read_lora(path)).frobenius == pytest.approx(before)


def test_a_language_model_called_transformer_stays_one_of_peft(tmp_path):
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_{}.weight"
    tensors = {name.format("A"): rand(2, 8), name.format("B"): rand(9, 2)}
    path = write(tmp_path / "adapter_model.safetensors", tensors)
    save_lora(read_lora(path, {"r": 2, "lora_alpha": 2}), path, "peft")
    assert set(load_file(path)) == set(tensors)
    assert path.with_name("adapter_config.json").is_file()


def test_the_first_generation_of_diffusers_is_written_as_todays(tmp_path):
    name = "down_blocks.0.attentions.1.attn1"
    tensors = {f"{name}.processor.to_out_lora.down.weight": rand(2, 8),
               f"{name}.processor.to_out_lora.up.weight": rand(9, 2)}  # fmt: skip
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    path = tmp_path / "out.safetensors"
    save_lora(lora, path, "peft")
    assert f"unet.{name}.to_out.0.lora_A.weight" in load_file(path)
    save_lora(lora, path, "kohya")
    assert "lora_unet_down_blocks_0_attentions_1_attn1_to_out_0.alpha" in load_file(path)
    assert compare(lora, read_lora(path)).cosine == pytest.approx(1)


def test_an_embedding_keeps_its_keys(tmp_path):
    tensors, name, W = families()["embedding"]
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    path = tmp_path / "adapter_model.safetensors"
    save_lora(lora, path, "peft")
    assert f"base_model.model.{name}.lora_embedding_A" in load_file(path)
    torch.testing.assert_close(dense(read_lora(path))[name], W, rtol=1e-4, atol=1e-5)
    with pytest.raises(WsdemoError, match="is an embedding"):
        save_lora(lora, path, "kohya")


def test_a_dora_is_not_written_without_its_magnitude(tmp_path):
    tensors, name, _ = families()["kohya"]
    path = write(tmp_path / "x.safetensors", {**tensors, f"{name}.dora_scale": rand(12, 1)})
    lora = read_lora(path)
    for changed in (lambda: merge([lora], [1.0]), lambda: save_lora(resize(lora)[0], path),
                    lambda: save_lora(regauge(lora, 1), path)):  # fmt: skip
        with pytest.raises(WsdemoError, match="depends on the base's weights"):
            changed()


def test_sums_that_float32_cannot_hold_are_refused(tmp_path):
    lora = lora_of(tmp_path)
    for weight, said in ((float("nan"), "weights are"), (float("inf"), "weights are"),
                         (1e38, "multiply to a norm")):  # fmt: skip
        with pytest.raises(WsdemoError, match=said):
            merge([lora, lora], [weight, 1.0])
    for energy in (2.0, float("nan")):
        with pytest.raises(WsdemoError, match="energy is"):
            merge([lora, lora], [1.0, 1.0], energy)
    for seed in (-1, 2**70):
        with pytest.raises(WsdemoError, match="The seed is"):
            regauge(lora, seed)
    with pytest.raises(WsdemoError, match="not written"):
        save_lora(lora, tmp_path)


def test_loras_without_a_common_module_do_not_merge(tmp_path):
    a, b = lora_of(tmp_path), spelled(tmp_path, "kohya")
    with pytest.raises(WsdemoError, match="no module in common"):
        merge([a, b], [1.0, 1.0])


def test_depth_counts_numbers_as_numbers_and_shares_add_up(tmp_path):
    tensors = {}
    for i in (2, 10, 1):
        strength = {1: 0.0, 2: 1.0, 10: 2.0}[i]
        tensors[f"layers.{i}.q.lora_A.weight"] = rand(2, 8, seed=i)
        tensors[f"layers.{i}.q.lora_B.weight"] = strength * rand(8, 2, seed=i)
    geometry = measure(read_lora(write(tmp_path / "x.safetensors", tensors)))
    first, middle, last = geometry.by_depth
    assert first == 0.0
    assert 0 < middle < last
    assert first + middle + last == pytest.approx(1.0)


def test_a_common_origin_is_hinted_at_only_where_there_is_one(tmp_path):
    lora = lora_of(tmp_path)
    assert "same update" in compare(lora, lora).ancestry
    stronger = merge([lora], [3.0])
    assert "same update" in compare(lora, stronger).ancestry

    def changed(seed, keep_inputs):
        modules = tuple(
            dataclasses.replace(
                m,
                U=rand(*m.U.shape, seed=seed + i),
                V=keep_inputs * m.V + (0.05 if keep_inputs else 1) * rand(*m.V.shape, seed=seed),
            )
            for i, m in enumerate(lora.modules)
        )  # fmt: skip
        return dataclasses.replace(lora, modules=modules)

    assert "one random start" in compare(lora, changed(50, True)).ancestry
    assert "No sign" in compare(lora, changed(70, False)).ancestry
    near = tuple(
        dataclasses.replace(m, U=m.U + 0.3 * rand(*m.U.shape, seed=5)) for m in lora.modules
    )
    assert "continue" in compare(lora, dataclasses.replace(lora, modules=near)).ancestry
