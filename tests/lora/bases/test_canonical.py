"""Fused and split, one spelling and another: the same update, and files that keep everything."""

import dataclasses
import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks.base_matrix import PAGE, facts, line, rows, sample
from tests.lora.files import rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora.arithmetic import Size, resize
from wsdemo.lora.bases.tables import all_tables
from wsdemo.lora.comparison import compare
from wsdemo.lora.export import content_for, export, select
from wsdemo.lora.geometry import measure
from wsdemo.lora.loads import loads_in
from wsdemo.lora.merging import Method, merge
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import write_lora

TABLES = all_tables()


@pytest.mark.parametrize("key", ["flux1", "sdxl", "sd35_medium", "lumina2", "mochi", "bloom"])
def test_what_is_exported_for_any_program_is_the_same_lora(key, tmp_path):
    for row in rows(TABLES[key], tmp_path):
        read, written = row.read.split("/")
        assert (read, row.is_named, row.verdict) == (written, True, "same"), row
        assert row.cosine == pytest.approx(1, abs=1e-5)
        assert line(row) in PAGE.read_text(), "python -m benchmarks.base_matrix writes it again"


def test_the_page_of_bases_has_the_tables_facts():
    assert PAGE.read_text().endswith(facts())


def test_a_fused_file_loads_as_strong_as_the_split_one(tmp_path):
    """kohya's α, ComfyUI's missing one and PEFT's configuration all mean scale 1."""
    lora = sample(TABLES["flux1"])
    for program in ("kohya", "comfyui", "diffusers", "peft"):
        path = tmp_path / program / "x.safetensors"
        path.parent.mkdir()
        export(lora, program, path, "float32")
        again = read_lora(path)
        assert compare(lora, again).ratio == pytest.approx(1, rel=1e-5)
        own = loads_in(again)[program if program != "peft" else "peft"]
        assert own.ok is True, own
        assert own.strength == pytest.approx(1)


def kohya_file(path, rank=4, modules=3, dtype=torch.float16, seed=0, scale=1.0, **texts):
    tensors = {}
    for i in range(modules):
        name = f"lora_unet_double_blocks_{i}_img_attn_proj"
        tensors[f"{name}.lora_down.weight"] = rand(rank, 96, seed=seed + i).to(dtype)
        tensors[f"{name}.lora_up.weight"] = scale * rand(96, rank, seed=seed + 9 + i).to(dtype)
        tensors[f"{name}.alpha"] = torch.tensor(float(rank)).to(dtype)
    return write(path, tensors, texts or None)


def test_a_resized_file_keeps_spelling_precision_and_true_texts(tmp_path):
    path = kohya_file(tmp_path / "a.safetensors", rank=16, **{
        "ss_network_dim": "16", "ss_network_alpha": "16", "sshs_model_hash": "aa",
        "modelspec.hash_sha256": "0xaa", "modelspec.title": "kept"})  # fmt: skip
    lora = read_lora(path)
    smaller, _ = resize(lora, Size(rank=3))
    out = tmp_path / "b.safetensors"
    written = write_lora(smaller, out)
    assert written.bytes < path.stat().st_size
    assert written.dtype == "float16"
    assert load_file(out).keys() == load_file(path).keys()
    assert {t.dtype for t in load_file(out).values()} == {torch.float16}
    with safe_open(str(out), "pt") as file:
        texts = file.metadata()
    assert (texts["ss_network_dim"], texts["ss_network_alpha"]) == ("3", "3")
    assert texts["modelspec.title"] == "kept"
    assert texts["modelspec.hash_sha256"] == f"0x{texts['sshs_model_hash']}"
    again = read_lora(out)
    assert set(again.ranks) == {3}
    assert measure(again).frobenius == pytest.approx(measure(smaller).frobenius, rel=1e-2)


def test_sizes_are_what_was_asked_for(tmp_path):
    lora = read_lora(kohya_file(tmp_path / "a.safetensors", rank=8, dtype=torch.float32))
    assert set(resize(lora, Size(rank=2))[0].ranks) == {2}
    for module in resize(lora, Size(ratio=1.5))[0].modules:
        s = torch.linalg.svdvals(module.U @ module.V.T)[: module.rank]
        assert float(s[0] / s[-1]) <= 1.5 + 1e-4
    assert max(resize(lora, Size(rank=100))[0].ranks) == 8
    for wrong in (Size(rank=0), Size(ratio=0.5), Size(ratio=math.nan), Size(energy=0)):
        with pytest.raises(WsdemoError, match="out of range"):
            resize(lora, wrong)


def test_only_some_blocks_are_copied_bit_by_bit(tmp_path):
    path = kohya_file(tmp_path / "a.safetensors")
    lora = read_lora(path)
    out = tmp_path / "b.safetensors"
    write_lora(select(lora, only=["1-2"], without=["*blocks_2_*"]), out)
    kept = load_file(out)
    assert {k.split("_img")[0] for k in kept} == {"lora_unet_double_blocks_1"}
    original = load_file(path)
    assert all(torch.equal(t, original[k]) for k, t in kept.items())
    with pytest.raises(WsdemoError, match="means none"):
        select(lora, only=["nowhere"])
    with pytest.raises(WsdemoError, match="Every module"):
        select(lora, without=["double"])


def test_a_lokr_stays_one_where_a_pair_would_be_larger(tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {f"{name}.lokr_w1": rand(8, 8), f"{name}.lokr_w2": rand(12, 12),
               f"{name}.alpha": torch.tensor(1.0)}  # fmt: skip
    path = write(tmp_path / "a.safetensors", tensors)
    lora = read_lora(path)
    out = tmp_path / "b.safetensors"
    written = write_lora(resize(lora, 0.999)[0], out)
    assert load_file(out).keys() == tensors.keys()
    assert "stay as they are" in written.warnings[0]
    write_lora(resize(lora, Size(rank=1))[0], out)
    assert set(read_lora(out).ranks) == {1}


@pytest.mark.parametrize("kind", ["whole", "both low"])
def test_a_pefts_lokr_keeps_its_configuration_where_it_stays_one(kind, tmp_path):
    stem = "base_model.model.l.q.lokr_"
    parts = {"w1": rand(8, 8), "w2": rand(12, 12)}
    if kind == "both low":
        parts = {
            f"{w}_{x}": rand(*s) for w in ("w1", "w2") for x, s in (("a", (9, 2)), ("b", (2, 9)))
        }
    path = write(tmp_path / "adapter_model.safetensors", {stem + k: v for k, v in parts.items()})
    config = {"peft_type": "LOKR", "r": 2, "alpha": 6, "target_modules": ["q"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "adapter_model.safetensors"
    write_lora(resize(lora, 1.0)[0], out)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config
    assert compare(lora, read_lora(out)).ratio == pytest.approx(1, rel=1e-5)
    (tmp_path / "pair").mkdir()
    pair = tmp_path / "pair" / "adapter_model.safetensors"
    write_lora(resize(lora, Size(rank=1))[0], pair)  # of which a pair is smaller
    if kind == "whole":
        assert json.loads((tmp_path / "pair" / "adapter_config.json").read_text()) == {
            "peft_type": "LORA", "base_model_name_or_path": None, "bias": "none",
            "target_modules": ["q"], "r": 1, "lora_alpha": 1, "rank_pattern": {},
            "alpha_pattern": {}, "use_rslora": False}  # fmt: skip
    assert read_lora(pair).is_exact


@pytest.mark.parametrize("is_root", [False, True])
def test_experts_keep_their_scale_where_the_attention_beside_them_is_resized(is_root, tmp_path):
    """Experts that share one pair stay as they are stored, and so does the α that they need."""
    stem = "base_model.model.model.layers.0."
    tensors = {
        f"{stem}mlp.experts.lora_A.weight": rand(6, 8),
        f"{stem}mlp.experts.lora_B.weight": rand(5, 6),
        f"{stem}self_attn.q_proj.lora_A.weight": rand(2, 8),
        f"{stem}self_attn.q_proj.lora_B.weight": rand(9, 2),
    }  # fmt: skip
    path = write(tmp_path / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "use_rslora": is_root,
              "target_modules": ["q_proj"], "target_parameters": ["mlp.experts.down_proj"],
              "alpha_pattern": {"q_proj": 6}}  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "adapter_model.safetensors"
    write_lora(resize(lora, 1.0)[0], out)
    again = read_lora(out)
    assert [m.name for m in again.modules] == [m.name for m in lora.modules]
    for old, new in zip(lora.modules, again.modules, strict=True):
        torch.testing.assert_close(new.U @ new.V.T, old.U @ old.V.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_stacked", [False, True])
def test_an_mlx_adapter_keeps_its_configuration_with_the_scale(is_stacked, tmp_path):
    name = "model.layers.0." + ("mlp.switch_mlp.up_proj" if is_stacked else "self_attn.q_proj")
    a, b = (rand(3, 4, 6), rand(3, 5, 4)) if is_stacked else (rand(6, 4), rand(4, 5))
    path = write(tmp_path / "adapters.safetensors", {f"{name}.lora_a": a, f"{name}.lora_b": b})
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 20.0}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "adapters.safetensors"
    write_lora(resize(lora, Size(rank=3))[0], out)
    again = read_lora(out)
    assert again.is_exact
    assert compare(lora, again).ratio == pytest.approx(1, abs=0.2)
    told = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert told["lora_parameters"] == {"rank": 4 if is_stacked else 3, "scale": 20.0}


def test_a_bias_follows_the_scale_of_its_module(tmp_path):
    name = "base_model.model.l.fc"
    bias = rand(6, seed=3)
    tensors = {f"{name}.lora_A.weight": rand(2, 6), f"{name}.lora_B.weight": rand(6, 2),
               f"{name}.lora_B.bias": bias}  # fmt: skip
    path = write(tmp_path / "in" / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "lora_bias": True,
              "target_modules": ["fc"], "task_type": "CAUSAL_LM"}  # fmt: skip
    (tmp_path / "in" / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    out = tmp_path / "out" / "adapter_model.safetensors"
    out.parent.mkdir()
    write_lora(resize(lora, 1.0)[0], out)
    torch.testing.assert_close(load_file(out)[f"{name}.lora_B.bias"], 4 * bias)
    new = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (new["lora_alpha"], new["r"], new["task_type"]) == (2, 2, "CAUSAL_LM")
    both = merge([lora, lora], [1.0, -0.5])
    write_lora(both, out)
    torch.testing.assert_close(load_file(out)[f"{name}.lora_B.bias"], 2 * bias)


def test_sums_of_two_spellings_have_the_first_ones(tmp_path):
    lora = sample(TABLES["flux1"])
    paths = {}
    for program in ("kohya", "diffusers"):
        paths[program] = tmp_path / program / "x.safetensors"
        paths[program].parent.mkdir()
        export(lora, program, paths[program], "float32")
    fused, split = (read_lora(paths[p]) for p in ("kohya", "diffusers"))
    for first, second in ((fused, split), (split, fused)):
        out = tmp_path / "sum.safetensors"
        write_lora(merge([first, second], [1.0, 1.0]), out)
        again = read_lora(out)
        assert {m.name for m in again.modules} == {m.name for m in first.modules}
        found = compare(first, again)
        assert found.verdict.word == "rescaling"
        assert found.ratio == pytest.approx(2, rel=1e-4)


def test_different_bases_do_not_merge(tmp_path):
    files = []
    for key in ("flux1", "wan_14b"):
        path = tmp_path / key / "x.safetensors"
        path.parent.mkdir()
        export(sample(TABLES[key]), "diffusers", path)
        files.append(read_lora(path))
    with pytest.raises(WsdemoError, match=r"first is for FLUX.*, number 2 for Wan"):
        merge(files, [1.0, 1.0])


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_other_sums_are_those_of_peft(method, tmp_path):
    peft = pytest.importorskip("peft")
    utils = pytest.importorskip("peft.utils.merge_utils")
    a = read_lora(kohya_file(tmp_path / "a.safetensors", modules=1, dtype=torch.float32))
    b = read_lora(kohya_file(tmp_path / "b.safetensors", modules=1, dtype=torch.float32, seed=50))
    weights = torch.tensor([0.7, -0.4])
    root = weights.abs().sqrt()
    signed = root * weights.sign()
    if method == "ties":
        A = utils.ties([m.modules[0].V.T for m in (a, b)], signed, 0.5)
        B = utils.ties([m.modules[0].U for m in (a, b)], root, 0.5)
        found = merge([a, b], weights.tolist(), method=Method("ties", 0.5)).modules[0]
        torch.testing.assert_close(found.U @ found.V.T, B @ A, rtol=1e-4, atol=1e-4)
    else:  # what is dropped is drawn: with nothing dropped both are linear
        A = utils.dare_linear([m.modules[0].V.T for m in (a, b)], signed, 1.0)
        B = utils.dare_linear([m.modules[0].U for m in (a, b)], root, 1.0)
        found = merge([a, b], weights.tolist(), method=Method("dare", 1.0)).modules[0]
        torch.testing.assert_close(found.U @ found.V.T, B @ A, rtol=1e-4, atol=1e-4)
        half = merge([a, b], weights.tolist(), method=Method("dare", 0.5, seed=1)).modules[0]
        again = merge([a, b], weights.tolist(), method=Method("dare", 0.5, seed=1)).modules[0]
        assert torch.equal(half.U, again.U)
    assert peft.__version__


def test_verdicts(tmp_path):
    a = read_lora(kohya_file(tmp_path / "a.safetensors", rank=8, dtype=torch.float32))
    b = read_lora(kohya_file(tmp_path / "b.safetensors", rank=8, dtype=torch.float32, seed=70))

    def word(x, y):
        return compare(x, y).verdict.word

    assert word(a, a) == "same"
    assert word(a, merge([a], [0.5])) == "rescaling"
    assert word(a, resize(a, Size(rank=4))[0]) == "shrunk copy"
    assert word(resize(a, Size(rank=4))[0], a) == "shrunk copy"
    assert word(a, b) == "independent"
    assert word(a, merge([a, b], [1.0, 1.0])) == "reinforcing"
    assert word(a, merge([a, b], [-1.0, 1.0])) == "cancelling"
    silent = dataclasses.replace(
        a, modules=tuple(dataclasses.replace(m, U=0 * m.U) for m in a.modules)
    )
    assert word(a, silent) == "no effect"
    overlap = compare(a, b).verdict.overlap
    assert 0.5 < overlap < 2  # random spaces overlap as by chance
    assert compare(a, a).verdict.overlap > 8


def test_a_program_without_the_base_says_so(tmp_path):
    lora = sample(TABLES["bloom"])
    with pytest.raises(WsdemoError, match="no LoRAs of BLOOM"):
        export(lora, "kohya", tmp_path / "x.safetensors")
    assert content_for(lora, TABLES["bloom"], "peft").tensors


def test_a_configured_scale_is_lost_in_comfyui_and_that_is_said(tmp_path):
    name = "base_model.model.transformer_blocks.0.attn.to_q"
    tensors = {f"{name}.lora_A.weight": rand(4, 3072), f"{name}.lora_B.weight": rand(3072, 4)}
    path = write(tmp_path / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = loads_in(read_lora(path))
    assert found["peft"].strength == 1
    lost = found["kohya"]
    assert lost.ok is False
    assert set(lost.lost) == set(tensors)
