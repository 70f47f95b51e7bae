"""The base field: evaluation, folding of the scales, one code for images and shapes."""

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import SMALL
from wsdemo.fields.base import BaseField, FieldConfig, evaluate, fourier_features, pixel_grid


def test_frozen_base_equals_the_modulated_field_at_its_latent(generator):
    field = BaseField(SMALL, generator).double()
    z = torch.randn(SMALL.latent_dim, generator=generator, dtype=torch.float64)
    points = torch.rand(50, 2, generator=generator, dtype=torch.float64) * 2 - 1
    base = field.freeze(z)
    features = fourier_features(points, base.frequencies)
    frozen = evaluate(features, [W[None] for W in base.weights], list(base.biases))[0]
    torch.testing.assert_close(frozen, field(points[None], z[None])[0], rtol=1e-10, atol=1e-12)


def test_evaluating_many_fields_equals_evaluating_each(base, generator):
    n = 3
    weights = [W + 0.1 * torch.randn(n, *W.shape, generator=generator) for W in base.weights]
    features = fourier_features(torch.rand(20, 2, generator=generator).double(), base.frequencies)
    together = evaluate(features, weights, list(base.biases))
    for i in range(n):
        h = features @ weights[0][i].T + base.biases[0]
        inner = F.silu(h) @ weights[1][i].T + base.biases[1]
        h = h + F.silu(inner) @ weights[2][i].T + base.biases[2]
        alone = F.silu(h) @ weights[3][i].T + base.biases[3]
        torch.testing.assert_close(together[i], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("in_dim", "out_dim"), [(2, 3), (3, 1)])
def test_the_dimension_is_a_parameter(in_dim, out_dim, generator):
    field = BaseField(FieldConfig(in_dim=in_dim, out_dim=out_dim, width=8), generator)
    points = torch.rand(2, 5, in_dim, generator=generator)
    assert field(points, torch.zeros(2, 128)).shape == (2, 5, out_dim)


def test_pixel_grid_runs_row_by_row_over_pixel_centres():
    grid = pixel_grid(2, 4)
    assert grid[0].tolist() == [-0.75, -0.5]
    assert grid[1].tolist() == [-0.25, -0.5]
    assert grid[-1].tolist() == [0.75, 0.5]
