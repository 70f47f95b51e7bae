"""The learned linear manifold of adapters: what holds for any z, and its file."""

import pytest
import torch

from wsdemo.checkpoints import save_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import AdapterConfig
from wsdemo.fields.base import FieldConfig, pixel_grid
from wsdemo.fields.manifold import Manifold, load_manifold, save_manifold

CONFIG = FieldConfig(width=24, blocks=1, frequencies=8, latent_dim=5)


def make(representation="mlora-asym", start="carried"):
    adapter = AdapterConfig(representation, 3, 0, start)
    return Manifold(CONFIG, adapter, torch.Generator().manual_seed(0))


def coordinates(count, seed=1):
    return torch.randn(count, CONFIG.latent_dim, generator=torch.Generator().manual_seed(seed))


def trained(manifold, steps=5):
    """A few steps towards a constant picture, at rates that move everything."""
    optimizer = torch.optim.Adam(manifold.parameters(), lr=1e-2)
    features = manifold.features(pixel_grid(8, 8))
    for step in range(steps):
        loss = (manifold(coordinates(4, step), features) - 0.7).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return manifold


def test_frozen_entries_are_zero_for_any_z_before_and_after_training():
    for manifold in (make(), trained(make())):
        frozen = ~manifold.layout.trainable
        assert bool(frozen.any())
        assert not manifold.instances(10 * coordinates(7))[:, frozen].any()
        assert not manifold.origin[frozen].any()
        assert not manifold.directions[:, frozen].any()


def test_training_moves_base_start_and_directions():
    before, after = make(), trained(make())
    for name in ("origin", "directions", "weights.0", "biases.0"):
        assert not torch.equal(before.get_parameter(name), after.get_parameter(name))


@pytest.mark.parametrize("representation", ["mlora", "mlora-asym"])
def test_an_instance_of_the_manifold_decodes_alike_as_a_plain_adapter(representation):
    manifold = trained(make(representation))
    z, points = coordinates(3), pixel_grid(6, 5)
    adapter = manifold.adapter()
    plain = adapter.decode_points(manifold.instances(z).detach(), points)
    torch.testing.assert_close(manifold(z, manifold.features(points)), plain)
    torch.testing.assert_close(adapter.start, manifold.instances(torch.zeros(1, 5))[0].detach())


def test_projecting_an_instance_gives_its_coordinates():
    manifold, z = trained(make()), coordinates(6)
    instances = manifold.instances(z).detach()
    torch.testing.assert_close(manifold.project(instances), z, atol=1e-4, rtol=1e-4)


def test_projection_is_the_nearest_point_in_weights():
    manifold = trained(make())
    off = manifold.instances(coordinates(2)).detach()
    noise = torch.randn(off.shape, generator=torch.Generator().manual_seed(3))
    off = off + 0.05 * noise
    nearest = manifold.project(off)

    def distance(z):
        return ((manifold.instances(z) - off) * manifold.trainable).square().sum()

    for k in range(CONFIG.latent_dim):
        step = torch.zeros_like(nearest)
        step[:, k] = 0.05
        assert distance(nearest) < distance(nearest + step)
        assert distance(nearest) < distance(nearest - step)


def test_a_file_decodes_as_what_was_saved(tmp_path):
    manifold = trained(make())
    path = tmp_path / "toy-manifold.safetensors"
    save_manifold(path, manifold, {"name": "toy"})
    loaded, meta = load_manifold(path)
    assert meta["name"] == "toy"
    assert meta["adapter"]["start"] == "carried"
    features = manifold.features(pixel_grid(8, 8))
    z = coordinates(3)
    for name in ("origin", "weights.0", "biases.2", "frequencies"):
        assert torch.equal(loaded.state_dict()[name], manifold.state_dict()[name])
    torch.testing.assert_close(loaded(z, features), manifold(z, features), atol=0.02, rtol=0.02)


def test_a_second_trip_through_a_file_changes_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    save_manifold(path, trained(make()), {})
    once, meta = load_manifold(path)
    save_manifold(path, once, {})
    twice, again = load_manifold(path)
    assert meta["hash"] == again["hash"]
    assert torch.equal(once.directions, twice.directions)


def test_other_checkpoints_are_refused_by_kind(tmp_path):
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, {"x": torch.zeros(1)}, {"kind": "base"})
    with pytest.raises(WsdemoError, match="'base'"):
        load_manifold(path)


def test_additive_lora_has_no_manifold():
    with pytest.raises(WsdemoError, match="'lora'"):
        make("lora", "spread")
