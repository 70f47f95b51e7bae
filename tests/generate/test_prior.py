"""The Gaussian prior: its denoiser is the optimal linear one."""

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch

from wsdemo.generate.prior import GaussianPrior, Parts
from wsdemo.generate.schedule import add_noise, alphas_bar, ddim_times

D = 12
Network = Callable[[GaussianPrior, Parts, torch.Tensor], Parts]


def data(count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(5, D, generator=g)
    x = torch.randn(count, 5, generator=g) @ mix + 0.05 * torch.randn(count, D, generator=g) + 3.0
    trainable = torch.ones(D, dtype=torch.bool)
    trainable[7] = False
    x[:, 7] = 0.25
    return x, trainable


def test_denoiser_equals_the_dense_formula():
    x, trainable = data()
    prior = GaussianPrior.fit(x, trainable, 5)
    rest = torch.eye(D).double() - (prior.basis @ prior.basis.T).double()
    basis = prior.basis.double()
    cov = basis @ torch.diag(prior.variances.double()) @ basis.T + prior.rest * rest
    x_t = torch.randn(4, D, generator=torch.Generator().manual_seed(1))
    a = torch.tensor([0.99, 0.5, 0.1, 0.001])
    for i in range(4):
        ai = a[i].double()
        dense = (1 - ai).sqrt() * torch.linalg.solve(
            ai * cov + (1 - ai) * torch.eye(D).double(), x_t[i].double()
        )
        torch.testing.assert_close(
            prior.noise(prior.split(x_t), a)[i].double(), dense, rtol=1e-4, atol=1e-5
        )


def test_no_linear_map_denoises_better():
    """Least squares on many draws finds no lower error than the closed form."""
    x, trainable = data(4000)
    prior = GaussianPrior.fit(x, trainable, 5)
    z = prior.standardise(x)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    a = torch.full((len(z),), 0.5)
    x_t = add_noise(z, noise, a)
    ours = (prior.noise(prior.split(x_t), a) - noise).square().mean()
    best = torch.linalg.lstsq(x_t, noise).solution
    fitted = (x_t @ best - noise).square().mean()
    assert float(ours) < 1.02 * float(fitted)


def test_standardised_weights_have_unit_variance_and_frozen_entries_are_zero():
    x, trainable = data()
    prior = GaussianPrior.fit(x, trainable, 5)
    z = prior.standardise(x)
    torch.testing.assert_close(z[:, trainable].std(0), torch.ones(D - 1), rtol=1e-4, atol=1e-4)
    assert float(z[:, 7].abs().max()) == 0
    torch.testing.assert_close(prior.restore(z), x, rtol=1e-4, atol=1e-4)


def test_eigenvalues_agree_between_few_and_many_instances():
    """n ≤ D goes through the Gram matrix, n > D through the covariance."""
    x, trainable = data(D)
    wide = GaussianPrior.fit(x, trainable, 5)
    tall = GaussianPrior.fit(torch.cat([x, x]), trainable, 5)
    ratio = (2 * D - 1) / (2 * (D - 1)) * (tall.std[0] / wide.std[0]) ** 2
    torch.testing.assert_close(tall.variances * ratio, wide.variances, rtol=1e-3, atol=1e-4)


def test_output_is_not_passed_on_where_the_data_does_not_vary():
    x, trainable = data()
    prior = dataclasses.replace(GaussianPrior.fit(x, trainable, 5), rest=0.0)
    outside = torch.randn(1, D, generator=torch.Generator().manual_seed(3))
    outside = outside - outside @ prior.basis @ prior.basis.T
    zero, a = torch.zeros(1, D), torch.tensor([0.5])
    said = prior.noise(prior.split(zero), a, prior.split(outside))
    assert float(said.abs().max()) < 1e-5


def test_summary_and_output_along_the_same_direction_do_the_same():
    x, trainable = data()
    prior = GaussianPrior.fit(x, trainable, 5)
    zero, a = torch.zeros(1, D), torch.tensor([0.3])
    summary = torch.tensor([[0.0, 2.0]])
    by_summary = prior.noise(prior.split(zero), a, prior.split(None, summary))
    by_output = prior.noise(prior.split(zero), a, prior.split(2 * prior.basis[:, 1][None]))
    torch.testing.assert_close(by_summary, by_output, rtol=1e-4, atol=1e-5)


# ---- sampling ----------------------------------------------------------------------


def walk(
    prior: GaussianPrior, x: torch.Tensor, levels: torch.Tensor, network: Network, order: int = 2
) -> torch.Tensor:
    """Steps of ``prior.step`` through the given ᾱ to its end."""
    state, earlier = prior.split(x), None
    for before, after in itertools.pairwise(levels):
        a, b = before.expand(len(x)), after.expand(len(x))
        F = network(prior, state, a)
        state = prior.step(state, a, b, F, earlier if order == 2 else None)
        earlier = F, a
    assert state.full is not None
    return state.full


def silent(prior: GaussianPrior, state: Parts, a: torch.Tensor) -> Parts:
    return prior.split(torch.zeros(len(a), D))


def bent(prior: GaussianPrior, state: Parts, a: torch.Tensor) -> Parts:
    """A network that is not linear, and speaks inside and outside of the basis."""
    assert state.full is not None
    return prior.split(torch.tanh(state.full), 0.3 * torch.cos(state.along))


def test_the_gaussian_alone_is_drawn_exactly_in_two_steps():
    x, trainable = data()
    prior = GaussianPrior.fit(x, trainable, 5)
    last = float(alphas_bar()[-1])
    start = torch.randn(20_000, D, generator=torch.Generator().manual_seed(1)) * trainable
    drawn = walk(prior, start, torch.tensor([last, 0.5, 1.0]), silent)
    along = prior.project(drawn).var(0) / prior.variances
    # At the start x_t is taken for pure noise, though a little of the data is left in it.
    torch.testing.assert_close(along, torch.ones(5), rtol=0.03, atol=0.03)
    outside = drawn - prior.project(drawn) @ prior.basis.T
    assert float(outside.square().sum(1).mean()) == pytest.approx(
        prior.rest * (int(trainable.sum()) - 5), rel=0.03
    )


def test_steps_solve_the_equation_of_ddim_to_second_order():
    x, trainable = data()
    prior = GaussianPrior.fit(x, trainable, 5)
    start = torch.randn(4, D, generator=torch.Generator().manual_seed(1)) * trainable

    def levels(count: int) -> torch.Tensor:
        angle = torch.linspace(1.4, 0.05, count + 1, dtype=torch.float64)
        return angle.cos().square().float()

    # Plain DDIM in 4,000 steps: dx̄/dσ = ε̂.
    state, fine = start.double(), levels(4000).double()
    tensors = (prior.mean, prior.std, prior.basis, prior.variances)
    double = GaussianPrior(*(t.double() for t in tensors), prior.rest)
    for a, b in itertools.pairwise(fine):
        parts = double.split(state)
        eps = double.noise(parts, a.expand(4), bent(double, parts, a.expand(4)))
        x0 = (state - (1 - a).sqrt() * eps) / a.sqrt()
        state = b.sqrt() * x0 + (1 - b).sqrt() * eps

    def error(count: int, order: int) -> float:
        return float((walk(prior, start, levels(count), bent, order) - state).norm())

    assert error(20, 2) < 0.4 * error(20, 1)
    assert error(20, 2) < 0.35 * error(10, 2)
    assert error(40, 2) < 0.001 * float(state.norm())


def test_estimate_has_unit_mean_square_at_every_time():
    x, trainable = data(4000)
    prior = GaussianPrior.fit(x, trainable, 5)
    z = prior.standardise(x)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)) * (prior.std > 0)
    for level in (0.999, 0.5, 0.01):
        a = torch.full((len(z),), level)
        x_t = add_noise(z, noise, a)
        square = prior.estimate(x_t, prior.project(x_t), a).square().sum(1).mean() / (D - 1)
        assert abs(float(square) - 1) < 0.1


def test_coordinates_lead_back_into_the_span():
    x, trainable = data()
    prior = GaussianPrior.fit(x, trainable, 6)
    again = prior.from_coordinates(prior.coordinates(x, 6))
    assert float((again - x).norm() / x.norm()) < 0.05


def test_schedule_is_linear_in_beta_and_ends_in_noise():
    a = alphas_bar()
    assert a.shape == (1000,)
    assert abs(float(a[0]) - (1 - 1e-4)) < 1e-6
    assert abs(float(a[-1] / a[-2]) - (1 - 2e-2)) < 1e-5
    assert float(a[-1]) < 1e-4


def test_ddim_times_fall_from_the_end_to_zero():
    times = ddim_times(30)
    assert len(times) == 30
    assert (times[0], times[-1]) == (999, 0)
    assert all(a > b for a, b in itertools.pairwise(times))
