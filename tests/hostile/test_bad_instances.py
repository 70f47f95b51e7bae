"""No damage to an instance file, and none to a predictor, does anything but refuse or read."""

import contextlib
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from wsdemo.domains.instances import open_instance
from wsdemo.errors import WsdemoError
from wsdemo.maps.weight_map import point_instance, weight_map

QUIET = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "face.safetensors"
    point_instance(weight_map("faces"), 0).save(path)
    return path


@QUIET
@given(
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), max_size=10),
    st.integers(0, 50_000),
)
def test_flipped_bytes_and_cuts(good, tmp_path, flips, cut):
    data = bytearray(good.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(data[: len(data) - (cut if cut % 2 else 0)]))
    with contextlib.suppress(WsdemoError):
        instance = open_instance(path)
        assert torch.isfinite(instance.weights).all()


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers()),
)  # fmt: skip


@QUIET
@given(
    st.sampled_from(
        ["kind", "version", "domain", "size", "base", "adapter", "measured", "base.name",
         "base.hash", "adapter.representation", "adapter.rank", "adapter.seed", "adapter.more"]
    ),
    VALUES,
)  # fmt: skip
def test_any_value_anywhere_in_the_metadata(good, tmp_path, where, value):
    with safe_open(good, framework="pt") as file:
        meta = json.loads(file.metadata()["wsdemo"])
    target, _, key = where.rpartition(".")
    (meta[target] if target else meta)[key] = value
    path = tmp_path / "x.safetensors"
    save_file(load_file(good), path, metadata={"wsdemo": json.dumps(meta)})
    with contextlib.suppress(WsdemoError):
        open_instance(path)
