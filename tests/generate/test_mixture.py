"""The mixture's closed form against brute force, and models that draw with it."""

import pytest
import torch

from tests.conftest import make_base
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.generate.mixture import Mixture
from wsdemo.generate.prior import GaussianPrior
from wsdemo.generate.schedule import alphas_bar


def two_heaps(count: int, seed: int = 0) -> torch.Tensor:
    """(n, 2) with 30 % around (2, 0) and the others around (-6/7, 0), of mean 0."""
    g = torch.Generator().manual_seed(seed)
    is_right = torch.rand(count, generator=g) < 0.3
    y = 0.25 * torch.randn(count, 2, generator=g)
    y[:, 0] += torch.where(is_right, 2.0, -6 / 7)
    return y - y.mean(0)


def fitted(y: torch.Tensor, components: int) -> tuple[Mixture, torch.Tensor]:
    variances = y.var(0)
    return Mixture(components, y.shape[1]).fit(y, variances), variances


@pytest.mark.parametrize("t", [10, 300, 900])
def test_what_it_adds_is_the_posterior_mean_less_the_gaussians(t):
    """E[y_0 | y_t] by weighing 200,000 draws of the mixture itself by their likelihood."""
    mixture, variances = fitted(two_heaps(4000), 2)
    g = torch.Generator().manual_seed(1)
    which = torch.multinomial(mixture.logits.exp(), 200_000, replacement=True, generator=g)
    e = torch.randn(len(which), 2, generator=g) * mixture.spreads[which]
    clean = mixture.means[which] + (mixture.axes[which] @ e[..., None])[..., 0]
    a = alphas_bar()[t]
    noisy = torch.tensor([[0.4, 0.3], [1.5, -0.2], [-1.0, 0.1]]) * a.sqrt()
    weights = -0.5 * (noisy[:, None] - a.sqrt() * clean).square().sum(-1) / (1 - a)
    mean = (weights.softmax(1)[..., None] * clean).sum(1)
    total = a * variances + 1 - a
    alone = a.sqrt() * variances / total * noisy
    F = (total / ((1 - a) * variances)).sqrt() * (alone - mean)
    found = mixture(noisy / total.sqrt(), torch.full((3,), t), torch.zeros(3, 0))
    torch.testing.assert_close(found, F, atol=0.05, rtol=0.05)


def test_one_component_adds_nothing_and_knows_nothing_beyond_its_coordinates():
    g = torch.Generator().manual_seed(0)
    y = torch.randn(20_000, 3, generator=g) * torch.tensor([2.0, 1.0, 0.1])
    mixture = Mixture(1, 2).fit(y, y.var(0))
    out = mixture(
        torch.randn(5, 3, generator=g), torch.tensor([0, 10, 500, 900, 999]), torch.zeros(5, 0)
    )
    # Of the variances only REGULAR is added.
    assert float(out[:, :2].abs().max()) < 0.35
    assert torch.equal(out[:, 2], torch.zeros(5))


def test_a_model_draws_the_heaps_without_having_been_trained():
    """The network is silent at first: what is drawn is the mixture."""
    adapter = Adapter(make_base().to("cpu", torch.float32), AdapterConfig("mlora", 2))
    D = adapter.size
    basis = torch.zeros(D, 2)
    basis[0, 0] = basis[1, 1] = 1
    y = two_heaps(4000)
    prior = GaussianPrior(torch.zeros(D), torch.ones(D), basis, y.var(0), 0.0)
    shares = {}
    for components in (0, 2):
        network = CoordinateNetwork(CoordinateConfig(2, 0, 16, 1, components, 2 * bool(components)))
        if network.mixture is not None:
            network.mixture.fit(y, prior.variances)
        model = WeightDiffusion(adapter, prior, network)
        drawn = model.draw(200, seed=3, steps=40)[:, 0]
        shares[components] = float(((drawn > -0.2) & (drawn < 1.2)).float().mean())
        if components:
            assert float((drawn > 1).float().mean()) == pytest.approx(0.3, abs=0.1)
    assert shares[2] < 0.2 < 0.25 < shares[0]  # between the heaps lies nothing


def test_a_network_that_speaks_of_wishes_alone_leaves_the_mixture_as_it_is():
    g = torch.Generator().manual_seed(0)
    config = CoordinateConfig(2, 1, 16, 1, 2, 2)
    network = CoordinateNetwork(config)
    torch.nn.init.normal_(network.write.weight, generator=g)
    torch.nn.init.normal_(network.attributes.weight, generator=g)
    assert network.mixture is not None
    network.mixture.fit(two_heaps(4000), two_heaps(4000).var(0))
    y, t = torch.randn(5, 2, generator=g), torch.tensor([0, 10, 500, 900, 999])
    nothing, wished = torch.zeros(5, 1), torch.tensor([[1.0], [0], [0], [-1.0], [0]])
    known = network.mixture(y, t, nothing)
    torch.testing.assert_close(network(y, t, nothing), known)
    changed = network(y, t, wished) - known
    torch.testing.assert_close(
        changed, network.learnt(y, t, wished) - network.learnt(y, t, nothing)
    )
    assert (changed.abs().amax(1) > 1e-3).tolist() == [True, False, False, True, False]


def heaps_of_two_categories(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(2n, 2) around (1, 0), category 0, and around (-1, 0), category 1."""
    g = torch.Generator().manual_seed(0)
    y = 0.2 * torch.randn(2 * count, 2, generator=g)
    y[:count, 0] += 1
    y[count:, 0] -= 1
    return y, torch.arange(2).repeat_interleave(count)


def test_a_mixture_of_categories_hears_which_one_is_meant():
    y, category = heaps_of_two_categories(2000)
    mixture = Mixture(4, 2, 2).fit(y, y.var(0), category=category, regular=0.01)
    assert mixture.members.sum(1).tolist() == [1, 1, 1, 1]
    config = CoordinateConfig(2, 2, 8, 0, 4, 2, hears=True)
    network = CoordinateNetwork(config)
    network.mixture = mixture
    adapter = Adapter(make_base().to("cpu", torch.float32), AdapterConfig("mlora", 2))
    basis = torch.zeros(adapter.size, 2)
    basis[0, 0] = basis[1, 1] = 1
    prior = GaussianPrior(torch.zeros(adapter.size), torch.ones(adapter.size), basis, y.var(0), 0.0)
    model = WeightDiffusion(adapter, prior, network, ("first", "second"))
    for wish, sign in (({"first": True}, 1), ({"second": True}, -1), ({"second": False}, 1)):
        drawn = model.draw(50, 1, steps=30, attributes=model.condition(wish, 50))[:, 0]
        assert bool((sign * drawn > 0).all())
    both = model.draw(200, 1, steps=30)[:, 0]
    assert float((both > 0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_components_that_cannot_be_shared_out_are_refused():
    y, category = heaps_of_two_categories(20)
    with pytest.raises(ValueError, match="not shared out"):
        Mixture(3, 2, 2).fit(y, y.var(0), category=category)
