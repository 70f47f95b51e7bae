"""Canonical factors: the same field, and one form for all re-gauged copies."""

import pytest
import torch

from tests.conftest import SMALL, make_base
from tests.fields.test_adapters import close, decode, random_instances
from wsdemo.fields.adapters import REPRESENTATIONS, Adapter, AdapterConfig
from wsdemo.fields.gauges import canonicalise, regauge


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_canonical_form_shows_the_same_and_forgets_the_gauge(name, rank):
    adapter = Adapter(make_base(), AdapterConfig(name, rank))
    instances = random_instances(adapter, 3)
    changed = regauge(adapter, instances, torch.Generator().manual_seed(9))
    canonical = canonicalise(adapter, instances)
    close(decode(adapter, changed), decode(adapter, instances))
    close(decode(adapter, canonical), decode(adapter, instances))
    torch.testing.assert_close(canonicalise(adapter, changed), canonical, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["lora", "mlora", "mlora-asym"])
def test_regauge_really_moves_the_factors(name):
    adapter = Adapter(make_base(), AdapterConfig(name, 4))
    instances = random_instances(adapter)
    changed = regauge(adapter, instances, torch.Generator().manual_seed(9))
    assert float((changed - instances).norm() / instances.norm()) > 0.1


def test_regauge_and_canonical_form_keep_frozen_zeros():
    adapter = Adapter(make_base(), AdapterConfig("mlora-asym", 4))
    instances = random_instances(adapter)
    for changed in (
        regauge(adapter, instances, torch.Generator().manual_seed(9)),
        canonicalise(adapter, instances),
    ):
        assert float(changed[:, ~adapter.trainable].abs().max()) == 0


def test_canonical_ranks_are_balanced():
    adapter = Adapter(make_base(), AdapterConfig("mlora-asym", 4))
    tensors = adapter.tensors(canonicalise(adapter, random_instances(adapter)))
    for layer, _, _ in SMALL.layer_shapes():
        close(tensors[f"{layer}.A"].norm(dim=2), tensors[f"{layer}.B"].norm(dim=1))
        assert bool((tensors[f"{layer}.B"].sum(1) >= 0).all())
