"""Geometry: equal to the dense computation, invariant to the gauge."""

import pytest
import torch

from tests.lora.files import rand, write
from tests.lora.loras import dense, lora_of
from wsdemo.errors import WsdemoError
from wsdemo.lora import geometry
from wsdemo.lora.arithmetic import regauge, resize
from wsdemo.lora.geometry import (
    findings,
    measure,
    read_and_measure,
    singular_values,
)
from wsdemo.lora.reader import read_lora


@pytest.mark.parametrize("shape", [(24, 20, 4), (6, 20, 9), (24, 5, 9), (3, 3, 8)])
def test_singular_values_equal_those_of_the_dense_product(shape):
    n, m, r = shape
    U, V = rand(2, n, r), rand(2, m, r, seed=1)
    expected = torch.linalg.svdvals(U.double() @ V.double().mT)
    found = singular_values([(U, V)])
    torch.testing.assert_close(found, expected[:, : min(shape)], rtol=1e-6, atol=1e-8)


def test_modules_measured_together_count_as_each_alone():
    stacks = [(rand(3, n, 4, seed=n), rand(3, m, 4, seed=m)) for n, m in ((9, 5), (4, 8), (30, 30))]
    stacks[1][0][2, :, 1] = stacks[1][0][2, :, 0]  # columns so alike that Cholesky gives up
    alone = torch.cat([singular_values([(u[None], v[None])]) for U, V in stacks
                       for u, v in zip(U, V, strict=True)])  # fmt: skip
    torch.testing.assert_close(singular_values(stacks), alone, rtol=1e-12, atol=1e-12)
    transposed = [(U.mT.contiguous().mT, V) for U, V in stacks]
    torch.testing.assert_close(singular_values(transposed), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("doubled", [False, True])
def test_rows_measured_in_parts_count_as_all_of_them(doubled, monkeypatch):
    U, V = rand(50, 4).repeat(2, 1, 1), rand(30, 4)[None].repeat(2, 1, 1)
    if doubled:  # columns so alike that Cholesky gives up
        U[1, :, 1] = U[1, :, 0]
    whole = singular_values([(U, V)])
    monkeypatch.setattr(geometry, "MEASURED_NUMBERS", 56)  # seven rows of two modules
    assert [part.shape[-2] for part in geometry._in_double(U)] == [7] * 7 + [1]
    torch.testing.assert_close(singular_values([(U, V)]), whole, rtol=1e-12, atol=1e-12)
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
        measuring.add([module], module.U[None], module.V[None])
        waiting = [stack for own in measuring._waiting.values() for _, stack in own]
        assert sum(X.numel() for stack in waiting for X in stack) < 60
    assert [m.frobenius for m in measuring.geometry(lora.modules).modules] == pytest.approx(
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


def test_names_are_in_the_order_in_which_people_count():
    long = "layers." + 5000 * "9"
    names = ["a.2.b", "a.10", "a.2.a", "b.1", "a", "a.02", "3", long]
    assert sorted(names, key=geometry.depth_key) == [
        "3", "a", "a.02", "a.2.a", "a.2.b", "a.10", "b.1", long
    ]  # fmt: skip


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
