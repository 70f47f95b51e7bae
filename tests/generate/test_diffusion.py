"""The diffusion model: seeds, conditions, files, and that training learns a distribution."""

import dataclasses

import pytest
import torch

from tests.conftest import make_base
from wsdemo.checkpoints import tensors_hash
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import base_tensors
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion, save_diffusion
from wsdemo.generate.prior import GaussianPrior
from wsdemo.generate.tokens import TokenLayout
from wsdemo.generate.transformer import TransformerConfig, WeightTransformer

BASE = make_base().to("cpu", torch.float32)
META = {"name": "m", "base": {"name": "toy", "hash": tensors_hash(base_tensors(BASE))}}


def make_model(flat: bool = False, attributes: int = 2) -> tuple[WeightDiffusion, torch.Tensor]:
    """A small model whose data form two clusters, told apart by the first attribute."""
    torch.manual_seed(0)
    adapter = Adapter(BASE, AdapterConfig("mlora-asym", 4))
    direction = torch.randn(adapter.size) * adapter.trainable
    sign = torch.where(torch.rand(200) < 0.5, -1.0, 1.0)
    noise = 0.2 * torch.randn(200, adapter.size) * adapter.trainable
    instances = adapter.start + sign[:, None] * direction + noise
    prior = GaussianPrior.fit(instances, adapter.trainable, 32)
    layout = TokenLayout(adapter)
    config = TransformerConfig(
        layout.layers, layout.per_layer, layout.token_dim, attributes,
        token_width=16, width=32, depth=1, heads=2, flat=flat, summary=0 if flat else 32,
    )  # fmt: skip
    names = ("First", "Second")[:attributes]
    return WeightDiffusion(adapter, prior, WeightTransformer(config), names), instances


def test_the_same_seed_draws_the_same_bits():
    model, _ = make_model()
    assert torch.equal(model.draw(3, seed=5, steps=8), model.draw(3, seed=5, steps=8))
    assert not torch.equal(model.draw(3, seed=5, steps=8), model.draw(3, seed=6, steps=8))


def test_a_sample_does_not_depend_on_its_company():
    model, _ = make_model()
    alone, among = model.draw(1, seed=5, steps=8), model.draw(4, seed=5, steps=8)[:1]
    torch.testing.assert_close(alone, among, rtol=1e-4, atol=1e-5)


def test_frozen_entries_stay_at_their_frozen_values():
    model, _ = make_model()
    drawn = model.draw(2, seed=1, steps=5)
    frozen = ~model.adapter.trainable
    assert torch.equal(drawn[0][frozen], model.adapter.start[frozen])


def test_training_learns_what_the_gaussian_cannot():
    """Two clusters: the linear denoiser puts samples between them, the network does not."""
    model, instances = make_model()
    x = model.prior.standardise(instances)
    first = model.prior.basis[:, 0]
    side = (x @ first).sign()
    attributes = torch.stack([side, torch.zeros_like(side)], 1)
    optimizer = torch.optim.Adam(model.network.parameters(), lr=3e-3)
    g = torch.Generator().manual_seed(0)
    for _ in range(150):
        index = torch.randint(len(x), (64,), generator=g)
        keep = (torch.rand(64, 1, generator=g) > 0.3).float()
        loss = model.loss(x[index], attributes[index] * keep, g).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scale = float((x @ first).abs().mean())

    def ambiguous(drawn: torch.Tensor) -> float:
        return float(((model.prior.standardise(drawn) @ first).abs() < 0.4 * scale).float().mean())

    assert ambiguous(model.draw(64, seed=0, steps=30)) < 0.15
    wish = model.condition({"First": True}, 32)
    drawn = model.prior.standardise(model.draw(32, seed=1, steps=30, attributes=wish)) @ first
    assert float((drawn > 0).float().mean()) > 0.9


def test_the_prior_alone_scores_one():
    model, instances = make_model()
    x = model.prior.standardise(instances).repeat(5, 1)
    model.network.head.weight.data.zero_()  # a silent network
    g = torch.Generator().manual_seed(0)
    loss = model.loss(x, torch.zeros(len(x), 2), g).mean()
    assert 0.9 < float(loss.detach()) < 1.1


def test_file_round_trip_keeps_the_samples(tmp_path):
    model, _ = make_model()
    save_diffusion(tmp_path / "m.safetensors", model, META)
    again, meta = load_diffusion(tmp_path / "m.safetensors", BASE)
    assert meta["name"] == "m"
    other = make_base(seed=1).to("cpu", torch.float32)
    with pytest.raises(WsdemoError, match="another version of toy"):
        load_diffusion(tmp_path / "m.safetensors", other)
    first, second = model.draw(2, seed=3, steps=5), again.draw(2, seed=3, steps=5)
    torch.testing.assert_close(first, second, rtol=0.05, atol=0.05)  # stored in a byte an entry


def test_large_models_are_split_into_files_below_ten_megabytes(tmp_path, monkeypatch):
    monkeypatch.setattr("wsdemo.generate.diffusion._PART_BYTES", 20_000)
    model, _ = make_model()
    paths = save_diffusion(tmp_path / "m.safetensors", model, META)
    assert len(paths) > 2
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    load_diffusion(tmp_path / "m.safetensors", BASE)


def test_unknown_attribute_is_refused():
    model, _ = make_model()
    with pytest.raises(WsdemoError, match="Found Third; this model knows First, Second"):
        model.condition({"Third": True}, 1)


def test_condition_says_yes_no_and_unknown():
    model, _ = make_model()
    assert model.condition({"Second": False}, 2).tolist() == [[0, -1], [0, -1]]


# ---- a network over principal coordinates ------------------------------------------


def coordinate_model(attributes: int = 2) -> tuple[WeightDiffusion, torch.Tensor]:
    """The same two clusters, kept to the span of the principal directions."""
    model, instances = make_model(attributes=attributes)
    prior = dataclasses.replace(model.prior, rest=0.0)
    config = CoordinateConfig(prior.basis.shape[1], attributes, width=64, depth=2)
    return (
        WeightDiffusion(model.adapter, prior, CoordinateNetwork(config), model.attribute_names),
        instances,
    )


def test_an_untrained_network_adds_nothing_to_the_prior():
    model, _ = coordinate_model()
    x = torch.randn(3, model.adapter.size)
    t, none = torch.tensor([10, 500, 900]), torch.zeros(3, 2)
    a = model.alphas_bar[t]
    expected = model.prior.noise(model.prior.split(x), a)
    torch.testing.assert_close(model.predict_noise(x, t, none), expected)


def test_coordinate_network_learns_two_clusters_and_their_condition():
    model, instances = coordinate_model()
    x = model.prior.standardise(instances)
    x = model.prior.project(x) @ model.prior.basis.T
    first = model.prior.project(x)[:, 0].sign()
    condition = torch.stack([first, torch.zeros(len(x))], 1)
    g = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.network.parameters(), lr=3e-3)
    for _ in range(300):
        index = torch.randint(len(x), (64,), generator=g)
        given = condition[index] * (torch.rand(64, 1, generator=g) < 0.7)
        loss = model.loss(x[index], given, g).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spread = model.prior.project(x)[:, 0].abs().mean()
    for wish, sign in ((True, 1), (False, -1)):
        drawn = model.draw(24, 3, steps=25, attributes=model.condition({"First": wish}, 24))
        along = model.prior.project(model.prior.standardise(drawn))[:, 0] / spread
        assert float((along * sign > 0.4).float().mean()) > 0.85
    free = model.draw(48, 4, steps=25)
    along = (model.prior.project(model.prior.standardise(free))[:, 0] / spread).abs()
    assert float((along < 0.5).float().mean()) < 0.25  # a Gaussian: 0.38


def test_a_network_over_few_coordinates_is_trained_on_these_alone():
    """The prior of the first S coordinates gives what the whole model says along them."""
    few, (model, _) = 5, coordinate_model()
    network = CoordinateNetwork(CoordinateConfig(few, 2, width=32, depth=1))
    torch.nn.init.normal_(network.write.weight, std=0.1)
    whole = WeightDiffusion(model.adapter, model.prior, network, model.attribute_names)
    alone = WeightDiffusion(
        model.adapter, GaussianPrior.of_coordinates(model.prior.variances[:few]), network
    )
    x, t, none = torch.randn(3, model.adapter.size), torch.tensor([10, 500, 900]), torch.zeros(3, 2)
    said = model.prior.project(whole.predict_noise(x, t, none))
    own = alone.predict_noise(model.prior.project(x)[:, :few], t, none)
    torch.testing.assert_close(said[:, :few], own, rtol=1e-4, atol=1e-4)
    gaussian = model.prior.noise(model.prior.split(x), model.alphas_bar[t])
    rest = model.prior.project(gaussian)[:, few:]
    torch.testing.assert_close(said[:, few:], rest, rtol=1e-4, atol=1e-4)


def test_temperature_is_the_share_of_the_spread_that_a_gaussian_draws():
    model, _ = coordinate_model()  # an untrained network is silent
    full, half = (
        model.prior.standardise(model.draw(3, 1, steps=6, temperature=t)) for t in (1.0, 0.5)
    )
    torch.testing.assert_close(half, full / 2, rtol=1e-3, atol=1e-3)


def test_samples_stay_in_the_span_of_the_principal_directions():
    model, _ = coordinate_model()
    x = model.prior.standardise(model.draw(2, 1, steps=6))
    outside = x - model.prior.project(x) @ model.prior.basis.T
    assert float(outside.norm()) < 1e-3 * float(x.norm())


def test_a_coordinate_model_goes_through_its_file(tmp_path):
    model, _ = coordinate_model()
    torch.nn.init.normal_(model.network.write.weight, std=0.01)
    save_diffusion(tmp_path / "m.safetensors", model, META)
    again, _ = load_diffusion(tmp_path / "m.safetensors", BASE)
    assert isinstance(again.network, CoordinateNetwork)
    torch.testing.assert_close(
        again.draw(2, 3, steps=5), model.draw(2, 3, steps=5), rtol=0.05, atol=0.05
    )


def test_variations_stay_near_their_start_the_less_noise_they_get():
    from wsdemo.maps import weight_map as maps

    found = maps.weight_map("faces")
    start = found.weights(10)
    away = []
    for strength in (0.05, 0.4, 1.0):
        drawn = found.model.draw(2, seed=3, steps=20, start=start, strength=strength)
        away.append(float((found.model.prior.standardise(drawn - start + found.model.prior.mean))
                          .norm(dim=1).mean()))  # fmt: skip
    assert away[0] < away[1] < away[2]
    assert away[0] < 0.2 * away[2]
