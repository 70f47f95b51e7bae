"""A prior for every class: what it estimates, draws, learns from, and keeps in a file."""

import dataclasses

import pytest
import torch

from tests.generate.test_diffusion import BASE, META, make_model
from wsdemo.generate.classes import OWN, ClassPriors
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion, save_diffusion
from wsdemo.generate.prior import GaussianPrior

SIZES = (120, 80)
CENTRES = torch.tensor([[3.0, 0.0, 0.0], [-3.0, 1.0, 0.0]])
SPREADS = torch.tensor([[1.0, 0.2, 0.5], [0.1, 1.0, 0.5]])


def cloud() -> tuple[torch.Tensor, torch.Tensor]:
    """Two Gaussian classes in three coordinates, and the class of each row."""
    g = torch.Generator().manual_seed(0)
    classes = torch.tensor([0] * SIZES[0] + [1] * SIZES[1])
    y = CENTRES[classes] + SPREADS[classes] * torch.randn(len(classes), 3, generator=g)
    return y, classes


def class_model() -> WeightDiffusion:
    """A silent network over the first three directions, with two classes along them."""
    model, _ = make_model()
    shared = model.prior
    prior = dataclasses.replace(
        shared, basis=shared.basis[:, :3], variances=shared.variances[:3], rest=0.0
    )
    network = CoordinateNetwork(CoordinateConfig(3, 2, width=16, depth=1))
    classes = ClassPriors.fit(*cloud(), 2)
    return WeightDiffusion(model.adapter, prior, network, ("First", "Second"), classes)


def coordinates(model: WeightDiffusion, weights: torch.Tensor) -> torch.Tensor:
    return model.prior.project(model.prior.standardise(weights))


def test_means_are_those_of_the_members_and_variances_lean_on_all():
    y, classes = cloud()
    found = ClassPriors.fit(y, classes, 2)
    within = torch.cat([y[classes == c] - y[classes == c].mean(0) for c in (0, 1)])
    for c, size in enumerate(SIZES):
        own = y[classes == c]
        torch.testing.assert_close(found.means[c], own.mean(0))
        expected = (size * own.var(0, correction=0) + OWN * within.square().mean(0)) / (size + OWN)
        torch.testing.assert_close(found.variances[c], expected)
    assert found.shares.tolist() == pytest.approx([0.6, 0.4])


def test_a_class_without_instances_has_the_common_mean_and_can_be_asked_for():
    found = ClassPriors.fit(*cloud(), 3)
    assert found.means[2].tolist() == [0.0, 0.0, 0.0]
    assert bool((found.variances[2] > 0).all())
    g = torch.Generator().manual_seed(0)
    assert found.choose(torch.tensor([-1.0, -1.0, 1.0]), g) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_a_silent_network_draws_the_gaussian_of_the_wished_class(which):
    model = class_model()
    wish = model.condition({model.attribute_names[which]: True}, 400)
    drawn = coordinates(model, model.draw(400, 1, steps=4, attributes=wish))
    assert model.classes is not None
    spread = model.classes.variances[which].sqrt()
    assert ((drawn.mean(0) - model.classes.means[which]).abs() < 0.2 * spread).all()
    torch.testing.assert_close(drawn.std(0), spread, rtol=0.12, atol=0.02)


def test_temperature_is_the_share_of_the_spread_that_is_drawn():
    model = class_model()
    wish = model.condition({"First": True}, 50)
    assert model.classes is not None
    full, half = (
        coordinates(model, model.draw(50, 1, steps=4, attributes=wish, temperature=t))
        - model.classes.means[0]
        for t in (1.0, 0.5)
    )
    torch.testing.assert_close(half, full / 2, rtol=1e-3, atol=1e-3)


def test_without_a_wish_classes_come_by_their_shares_and_regardless_of_company():
    model = class_model()
    drawn = model.draw(300, 2, steps=3)
    share = float((coordinates(model, drawn)[:, 0] > 0).float().mean())
    assert abs(share - 0.6) < 0.1
    torch.testing.assert_close(model.draw(1, 2, steps=3), drawn[:1], rtol=1e-4, atol=1e-4)
    never = model.condition({"First": False}, 40)
    other = coordinates(model, model.draw(40, 3, steps=3, attributes=never))
    assert bool((other[:, 0] < 0).all())


def test_a_variation_stays_in_the_class_of_its_start():
    model = class_model()
    assert model.classes is not None
    y = model.classes.means[1:2]
    start = model.prior.restore(y @ model.prior.basis.T)[0]
    drawn = coordinates(model, model.draw(20, 5, steps=10, start=start, strength=0.3))
    assert bool((drawn[:, 0] < -2).all())


def test_the_prior_of_each_class_scores_one_on_its_own_instances():
    model = class_model()
    y, classes = cloud()
    alone = WeightDiffusion(
        model.adapter,
        GaussianPrior.of_coordinates(model.prior.variances),
        model.network,
        model.attribute_names,
        model.classes,
    )
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows, own = y.repeat(20, 1), classes.repeat(20)
        loss = alone.loss(rows, torch.zeros(len(own), 2), g, own)
    for c in (0, 1):
        assert float(loss[own == c].mean()) == pytest.approx(1.0, abs=0.1)


def test_classes_go_through_a_file(tmp_path):
    model = class_model()
    save_diffusion(tmp_path / "m.safetensors", model, META)
    again, _ = load_diffusion(tmp_path / "m.safetensors", BASE)
    assert again.classes is not None
    assert model.classes is not None
    for name, tensor in vars(model.classes).items():
        torch.testing.assert_close(vars(again.classes)[name], tensor)
