"""The command line's verbs for LoRAs, and pickles opened without harm."""

import argparse
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.lora.files import families, peft_folder, rand, write
from wsdemo.cli import lora as cli_lora
from wsdemo.cli import main as cli
from wsdemo.errors import WsdemoError
from wsdemo.lora.pickles import convert_pickle
from wsdemo.lora.reader import read_lora


def run(capsys, *arguments) -> tuple[int, dict]:
    status = cli.main([*map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def lora(tmp_path):
    return write(tmp_path / "a.safetensors", families()["kohya"][0])


def test_inspect_gives_the_passport(capsys, tmp_path):
    path, BA = peft_folder(
        tmp_path, {"r": 3, "lora_alpha": 6, "base_model_name_or_path": "org/llama-x"}
    )
    status, result = run(capsys, "inspect", path)
    assert status == 0
    assert result["family"] == "PEFT"
    assert result["base_model"]["name"] == "org/llama-x"
    assert result["base_model"]["evidence"][0]["source"] == "adapter_config.json"
    assert (result["modules"], result["ranks"]) == (2, {"3": 2})
    second = rand(12, 3, seed=6) @ rand(3, 10, seed=1)
    expected = 2 * float(BA.norm() ** 2 + second.norm() ** 2) ** 0.5
    assert result["frobenius_norm"] == pytest.approx(expected, rel=1e-5)
    assert (result["exact"], result["no_op"], result["ignored_keys"]) == (True, False, [])


def test_the_passport_names_settings_and_magnitudes_and_lists_modules_if_asked(tmp_path):
    tensors, name, _ = families()["kohya"]
    meta = {"ss_learning_rate": "1e-4", "modelspec.title": "x" * 500, "other": "y"}
    path = write(tmp_path / "x.safetensors", {**tensors, f"{name}.dora_scale": rand(12, 1)}, meta)
    found = cli_lora.run_inspect(argparse.Namespace(input=path))
    assert found["trainer"] == {"modelspec.title": "x" * 200, "ss_learning_rate": "1e-4"}
    low, high = found["magnitudes"]
    assert (low, high) == (float(rand(12, 1).min()), float(rand(12, 1).max()))
    assert "modules_detail" not in found
    (row,) = cli_lora.run_inspect(argparse.Namespace(input=path, modules=True))["modules_detail"]
    assert (row["name"], row["shape"], row["energy_kept"]) == (name, [12, 10], 1.0)


def test_what_is_no_lora_ends_with_the_reason(capsys, tmp_path):
    path = write(tmp_path / "x.safetensors", {"m.ia3_l": rand(4, 1)})
    status, result = run(capsys, "inspect", path)
    assert status == 2
    assert "IA3" in result["error"]["message"]
    status, result = run(capsys, "inspect", tmp_path / "none.safetensors")
    assert (status, result["error"]["title"]) == (2, "File not found")


def test_regauge_resize_merge_and_compare(capsys, lora, tmp_path):
    before = read_lora(lora)
    turned, small, sum_ = (
        tmp_path / n for n in ("t.safetensors", "s.safetensors", "m.safetensors")
    )
    dotted = write(tmp_path / "d.safetensors", families()["loralib"][0])
    status, result = run(capsys, "regauge", lora, "--seed", 1, "--out", turned)
    assert status == 0
    assert result["frobenius_norm"] == pytest.approx(result["frobenius_before"], rel=1e-4)
    assert not torch.allclose(read_lora(turned).modules[0].U, before.modules[0].U)
    status, result = run(capsys, "compare", lora, turned)
    assert result["cosine"] == pytest.approx(1, abs=1e-5)
    status, result = run(capsys, "resize", lora, "--energy", 0.9, "--out", small)
    assert status == 0
    assert 0.9 <= result["energy"] <= 1
    status, result = run(capsys, "merge", f"{lora}:1.0", f"{turned}:-1.0", "--out", sum_)
    assert status == 0
    assert result["frobenius_norm"] < 1e-4
    status, result = run(capsys, "merge", dotted, "--style", "peft", "--out", sum_)
    whole = families()["loralib"][2]
    assert result["frobenius_norm"] == pytest.approx(float(whole.norm()), rel=1e-4)
    assert (tmp_path / "adapter_config.json").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("merge", "FILE:nan", "--out", "out.safetensors"),
        ("merge", "FILE:1e38", "FILE:1e38", "--out", "out.safetensors"),
        ("merge", "FILE", "--energy", "2", "--out", "out.safetensors"),
        ("merge", "FILE", "--style", "peft", "--out", "out.safetensors"),
        ("regauge", "FILE", "--seed", str(2**70), "--out", "out.safetensors"),
        ("resize", "FILE", "--out", "."),
    ],
)
def test_wrong_values_end_with_two(arguments, capsys, lora, monkeypatch):
    monkeypatch.chdir(lora.parent)
    status, result = run(capsys, *(a.replace("FILE", str(lora)) for a in arguments))
    assert status == 2
    assert result["error"]["hint"]


def test_a_comparison_with_nothing_is_json(capsys, lora, tmp_path):
    tensors = families()["kohya"][0]
    silent = write(tmp_path / "z.safetensors", {k: 0 * t for k, t in tensors.items()})
    status, result = run(capsys, "compare", silent, lora)
    assert (status, result["ratio"], result["cosine"]) == (0, None, 0.0)


def test_pickles_are_converted_and_never_run(capsys, tmp_path):
    tensors, _, expected = families()["loralib"]
    source, target = tmp_path / "a.bin", tmp_path / "b.safetensors"
    torch.save(tensors, source)
    status, result = run(capsys, "convert", source, "--out", target)
    assert (status, result["tensors"]) == (0, 2)
    module = read_lora(target).modules[0]
    torch.testing.assert_close(module.U @ module.V.T, expected, rtol=1e-4, atol=1e-5)


def test_what_a_conversion_leaves_out_is_said_and_equal_keys_are_refused(tmp_path):
    nested = {"x.lora_A": rand(2, 6), "meta": {"x.lora_B": rand(5, 2), "deep": [rand(2, 2)]},
              "epoch": [3], "loras": [rand(5, 2)]}  # fmt: skip
    torch.save(nested, tmp_path / "n.pt")
    said = []
    assert convert_pickle(tmp_path / "n.pt", tmp_path / "n.safetensors", said.append) == 2
    assert said == ["Left out, as they are nested: meta.deep, loras"]
    torch.save({"a": {"x": rand(2, 2)}, "b": {"x": rand(2, 3)}}, tmp_path / "e.pt")
    with pytest.raises(WsdemoError, match="two of its parts hold 'x'"):
        convert_pickle(tmp_path / "e.pt", tmp_path / "e.safetensors")


def test_cloneofsimo_lists_keep_their_pairs(tmp_path):
    up, down = rand(6, 2), rand(2, 5)
    torch.save([up, down, up * 2, down], tmp_path / "l.pt")
    assert convert_pickle(tmp_path / "l.pt", tmp_path / "l.safetensors") == 4
    lora = read_lora(tmp_path / "l.safetensors")
    assert lora.family == "cloneofsimo"
    torch.testing.assert_close(lora.modules[1].U @ lora.modules[1].V.T, 2 * up @ down)


class Evil:
    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path):
    evil = Evil()
    evil.path = tmp_path / "ran"
    (tmp_path / "e.pt").write_bytes(pickle.dumps({"x": evil}))
    torch.save({"x": 1}, tmp_path / "n.pt")
    for name in ("e.pt", "n.pt"):
        with pytest.raises(WsdemoError, match="more than tensors, or is damaged"):
            convert_pickle(tmp_path / name, tmp_path / "o.safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_named_safetensors_is_refused_by_the_reader(tmp_path):
    torch.save({"m.lora_A.weight": rand(2, 2)}, tmp_path / "p.safetensors")
    with pytest.raises(WsdemoError, match="pickle"):
        read_lora(tmp_path / "p.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_reading_a_large_file_needs_little_memory_beyond_it(tmp_path):
    """200 MB in bfloat16: read and measured within 0.8 GB, of which torch takes a third."""
    tensors = {}
    for i in range(64):
        tensors[f"m{i}.lora_down.weight"] = rand(128, 6000, seed=i).bfloat16()
        tensors[f"m{i}.lora_up.weight"] = rand(6000, 128, seed=i).bfloat16()
    path = write(tmp_path / "big.safetensors", tensors)
    code = (
        "from pathlib import Path\n"
        "from wsdemo.lora.geometry import read_and_measure\n"
        f"read_and_measure(Path({str(path)!r}))\n"
        # Not ru_maxrss, which begins at the size of the process that started this one.
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(int(l.split()[1]) // 1024 for l in lines if l.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < 800
