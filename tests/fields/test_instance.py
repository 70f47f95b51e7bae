"""Instance files: an exact round trip, and a clear refusal of everything else."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from tests.conftest import make_base
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import REPRESENTATIONS, Adapter, AdapterConfig
from wsdemo.fields.base import FrozenBase, pixel_grid
from wsdemo.fields.instance import Instance, read_instance

BASE: FrozenBase = make_base().to("cpu", torch.float32)


def load_base(name: str):
    assert name == "toy"
    return BASE, {"hash": "abc", "domain": "image"}


def make(name: str = "mlora-asym", rank: int = 4) -> Instance:
    adapter = Adapter(BASE, AdapterConfig(name, rank, 3))
    noise = torch.randn(adapter.size, generator=torch.Generator().manual_seed(0))
    weights = adapter.start + 0.2 * noise * adapter.trainable
    return Instance(adapter, weights, "image", "toy", "abc", 64, {"psnr": 31.5})


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_round_trip_is_exact(name, tmp_path):
    instance = make(name)
    path = tmp_path / "x.safetensors"
    instance.save(path)
    again = read_instance(path, load_base)
    assert torch.equal(again.weights, instance.weights)
    assert again.adapter.config == instance.adapter.config
    assert again.measured == {"psnr": 31.5}
    assert again.to_bytes() == path.read_bytes() == instance.to_bytes()
    grid = pixel_grid(8, 8)
    first, second = (i.adapter.decode_points(i.weights[None], grid) for i in (instance, again))
    assert torch.equal(first, second)


# ---- bad files ---------------------------------------------------------------------


def parts() -> tuple[dict[str, torch.Tensor], dict]:
    content = make().to_bytes()
    length = int.from_bytes(content[:8], "little")
    return load(content), json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["wsdemo"])


def refuse(tmp_path: Path, content: bytes, match: str) -> WsdemoError:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WsdemoError, match=match) as caught:
        read_instance(path, load_base)
    assert caught.value.hint
    return caught.value


def with_meta(**changes) -> bytes:
    tensors, meta = parts()
    return save(tensors, metadata={"wsdemo": json.dumps(meta | changes)})


def test_another_version_of_the_base_is_refused(tmp_path):
    content = with_meta(base={"name": "toy", "hash": "def"})
    refuse(tmp_path, content, "another version of the base 'toy'")


def test_a_missing_tensor_is_named(tmp_path):
    tensors, meta = parts()
    del tensors["output.B"]
    refuse(tmp_path, save(tensors, metadata={"wsdemo": json.dumps(meta)}), "missing output.B")


def test_a_wrong_shape_is_named(tmp_path):
    tensors, meta = parts()
    tensors["output.B"] = torch.zeros(2, 4)
    refuse(tmp_path, save(tensors, metadata={"wsdemo": json.dumps(meta)}), "wrong shape output.B")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    tensors, meta = parts()
    tensors["input.A"][0, 0] = value
    content = save(tensors, metadata={"wsdemo": json.dumps(meta)})
    refuse(tmp_path, content, "NaN or infinite values in input.A")


def test_integer_weights_are_refused(tmp_path):
    tensors, meta = parts()
    tensors["input.A"] = tensors["input.A"].to(torch.int32)
    refuse(tmp_path, save(tensors, metadata={"wsdemo": json.dumps(meta)}), "I32")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "base"}, "kind = 'base'"),
        ({"version": 9}, "version = '9'"),
        ({"domain": "sound"}, "domain 'sound'"),
        ({"base": 5}, "lack base.name"),
        ({"adapter": {"rank": 4}}, "lack adapter.representation"),
        ({"adapter": {"representation": "mlora", "rank": 10**6, "seed": 0}}, "Rank out of range"),
        ({"adapter": {"representation": "x", "rank": 4, "seed": 0}}, "Found 'x'"),
        ({"adapter": {"representation": "mlora", "rank": 4, "seed": 0, "new": 1}}, "no field new"),
        ({"size": -5}, "size = '-5'; expected 1 to"),
        ({"measured": {"psnr": "high"}}, "measured.psnr = 'high'; expected a number"),
        ({"measured": {"psnr": math.nan}}, "measured.psnr = 'nan'; expected a finite"),
        ({"measured": {"psnr": True}}, "measured.psnr = 'True'; expected a number"),
        (
            {"measured": {"scale": 2.0, "centre_x": 1.0}},
            "lack measured.centre_y, measured.centre_z",
        ),
        (
            {"measured": dict.fromkeys(("centre_x", "centre_y", "centre_z", "scale"), 0.0)},
            "above 0",
        ),
        ({"size": 64.5}, "size = '64.5'; expected a whole"),
        ({"canonical": 1}, "canonical = '1'; expected true or false"),
        ({"measured": None}, "measured = 'None'; expected an object"),
    ],
)
def test_wrong_metadata_are_refused(tmp_path, changes, match):
    refuse(tmp_path, with_meta(**changes), match)


def test_whole_numbers_may_be_written_either_way(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_meta(size=64.0, measured={"steps": 5}))
    again = read_instance(path, load_base)
    assert (again.size, again.measured) == (64, {"steps": 5.0})


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    content = save({"lora_A": torch.zeros(2, 2)}, metadata={"format": "pt"})
    assert "other models" in refuse(tmp_path, content, "no wsdemo metadata").hint


def test_metadata_that_are_no_json_are_refused(tmp_path):
    tensors, _ = parts()
    refuse(tmp_path, save(tensors, metadata={"wsdemo": "{" * 5000}), "malformed")


def test_instances_of_one_adapter_can_be_replaced_without_touching_it():
    instance = make()
    other = dataclasses.replace(instance, weights=instance.weights * 2)
    assert not torch.equal(other.weights, instance.weights)
