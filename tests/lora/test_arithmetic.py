"""Resizing, re-gauging, merging and writing: the same update, read back."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from tests.lora.files import families, peft_folder, rand, write
from tests.lora.loras import dense, lora_of
from wsdemo.errors import WsdemoError
from wsdemo.lora.arithmetic import regauge, resize
from wsdemo.lora.comparison import compare
from wsdemo.lora.geometry import (
    measure,
)
from wsdemo.lora.merging import merge
from wsdemo.lora.names import canonical_name, kohya_name
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import save_lora


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
    """The reader takes such a file for one module in three spellings; a Lora may have them."""
    lora = lora_of(tmp_path, modules=3)
    names = ("a.b", "a_b", "A_b")
    modules = (dataclasses.replace(m, name=n) for m, n in zip(lora.modules, names, strict=True))
    lora = dataclasses.replace(lora, modules=tuple(modules))
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
