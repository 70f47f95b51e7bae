"""Putting modules together from a file: stacks, bounds, pairs, and what is left out."""

import pytest
import torch

from tests.lora.files import M, N, R, families, rand, write
from wsdemo.errors import WsdemoError
from wsdemo.lora import assembly
from wsdemo.lora.containers import safetensors
from wsdemo.lora.forms import products
from wsdemo.lora.reader import read_lora
from wsdemo.safetensors_header import read_header

CASES = families()


def product(module) -> torch.Tensor:
    return module.U @ module.V.T


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("MAX_MODULE_NUMBERS", 74, "75 numbers, of 74"),
        ("MAX_MODULE_NUMBERS", 148, "factors have 75 numbers"),
        ("MAX_EXPANDED_NUMBERS", 40, "more than"),
    ],
)
def test_modules_beyond_the_bounds_are_left_out(bound, value, said, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, bound, value)
    tensors = {f"small{i}.lokr_w1": rand(2, 2, seed=i) for i in range(2)}
    tensors |= {f"small{i}.lokr_w2": rand(2, 2) for i in range(2)}
    tensors |= {"big.lora_down.weight": rand(3, 10), "big.lora_up.weight": rand(15, 3)}
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    assert len(lora.modules) < 3
    assert any(said in w for w in lora.warnings)
    assert not lora.is_exact


def test_numbers_of_64_bits_count_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "MAX_MODULE_NUMBERS", 100)
    small = {"a.diff": rand(2, 8)}
    large = {"b.diff": rand(6, 9).double()}
    lora = read_lora(write(tmp_path / "x.safetensors", small | large))
    assert [m.name for m in lora.modules] == ["a"]
    assert any("108 numbers, of 100" in w for w in lora.warnings)


def test_a_loha_that_takes_too_long_is_left_out(tmp_path, monkeypatch):
    factors = {"w1_a": (90, 20), "w1_b": (20, 90), "w2_a": (90, 20), "w2_b": (20, 90)}
    tensors = {f"h.hada_{k}": rand(*shape) for k, shape in factors.items()}
    path = write(tmp_path / "x.safetensors", tensors)
    assert read_lora(path).modules[0].rank == 90
    monkeypatch.setattr(products, "MAX_LOHA_PRODUCTS", 90 * 90 * 20 - 1)
    with pytest.raises(WsdemoError, match="takes too long"):
        read_lora(path)


def test_pairs_are_found_by_name_in_any_order(tmp_path):
    tensors, expected = {}, {}
    for i in range(12):
        a, b = rand(R, M, seed=i), rand(N, R, seed=i + 50)
        tensors[f"m{i}.lora_up.weight"], tensors[f"m{11 - i}.lora_down.weight"] = b, a
    for i in range(12):
        expected[f"m{i}"] = tensors[f"m{i}.lora_up.weight"] @ tensors[f"m{i}.lora_down.weight"]
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    for module in lora.modules:
        torch.testing.assert_close(product(module), expected[module.name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("together", "small"), [(1, 0), (200, 2**23), (2**21, 0)])
def test_how_many_modules_are_read_together_does_not_show(together, small, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "BATCH_NUMBERS", together)
    monkeypatch.setattr(safetensors, "SMALL_BYTES", small)
    tensors, expected = {}, {}
    for i in range(15):
        m, n, dtype = 8 + i % 2, 6 + i % 3, torch.float64 if i == 7 else torch.float32
        a, b, alpha = rand(R, m, seed=i).to(dtype), rand(n, R, seed=i + 50), float(i + 1)
        name = f"m{i:02}"
        tensors |= {f"{name}.lora_up.weight": b, f"{name}.lora_down.weight": a}
        if i % 4:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
        expected[name] = (alpha / R if i % 4 else 1.0) * b @ a.float()
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    assert [m.name for m in lora.modules] == list(expected)
    for module in lora.modules:
        torch.testing.assert_close(product(module), expected[module.name], rtol=1e-4, atol=1e-5)
        for X in (module.U, module.V):
            assert X.is_contiguous()
            assert X.untyped_storage().nbytes() == 4 * X.numel()  # not a part of its batch


def test_one_bad_value_among_modules_read_together_is_found(tmp_path):
    tensors = {}
    for i in range(5):
        tensors |= {f"m{i}.lora_down.weight": rand(R, M), f"m{i}.lora_up.weight": rand(N, R)}
    tensors["m0.lora_up.weight"] *= 1e30  # large, but finite
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    assert len(lora.modules) == 5
    tensors["m3.lora_up.weight"][1, 1] = float("inf")
    with pytest.raises(WsdemoError, match=r"Module 'm3' holds NaN or infinite"):
        read_lora(write(tmp_path / "x.safetensors", tensors))


def test_a_scale_that_is_assumed_is_that_of_its_own_module_alone(tmp_path):
    tensors = {f"{name}.lora_{k}.weight": v for name in "ac"
               for k, v in (("down", rand(R, M)), ("up", rand(N, R)))}  # fmt: skip
    tensors |= {"b.lora_A.weight": rand(R, M), "b.lora_B.weight": rand(N, R)}
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    assert [m.is_exact for m in lora.modules] == [True, False, True]
    assert not lora.is_exact


@pytest.mark.parametrize("small", [0, 2**23])
def test_a_file_that_shrinks_while_it_is_read_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "SMALL_BYTES", small)
    tensors, _, _ = CASES["kohya"]
    path = write(tmp_path / "x.safetensors", tensors)
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:-20])
    last = max(header.places, key=lambda key: header.places[key])
    with (
        safetensors.opened(path, header) as file,
        pytest.raises(WsdemoError, match="cannot be read"),
    ):
        file.raw([last])


SECOND_UPDATES = {
    "a pair and a difference": (
        {"m.lora_down.weight": rand(2, 6), "m.lora_up.weight": rand(5, 2),
         "m.alpha": torch.tensor(8.0), "m.diff": rand(5, 6)},
        4 * rand(5, 2) @ rand(2, 6), {"m.diff"}),
    "two pairs": (
        {"m.lora_down.weight": rand(2, 6), "m.lora_up.weight": rand(5, 2),
         "m.lora_A.weight": rand(2, 6), "m.lora_B.weight": rand(5, 2)},
        rand(5, 2) @ rand(2, 6), {"m.lora_A.weight", "m.lora_B.weight"}),
}  # fmt: skip


@pytest.mark.parametrize("label", SECOND_UPDATES)
def test_a_second_update_of_a_module_is_left_out_and_that_is_said(label, tmp_path):
    tensors, expected, unused = SECOND_UPDATES[label]
    lora = read_lora(write(tmp_path / "x.safetensors", tensors))
    torch.testing.assert_close(product(lora.modules[0]), expected, rtol=1e-4, atol=1e-5)
    assert {i.key for i in lora.ignored} == unused
    assert lora.used_keys == len(tensors) - len(unused)
    assert not lora.is_exact
    assert any("second update" in w for w in lora.warnings)
