"""The prior from coordinates alone is that of the weights."""

import torch

from wsdemo.fields.adapters import AdapterConfig
from wsdemo.fields.base import FieldConfig
from wsdemo.fields.manifold import Manifold
from wsdemo.generate.manifold_prior import prior_of_manifold
from wsdemo.generate.prior import GaussianPrior


def test_prior_of_coordinates_is_the_prior_of_their_weights():
    config = FieldConfig(width=16, blocks=1, frequencies=4, latent_dim=4)
    g = torch.Generator().manual_seed(0)
    manifold = Manifold(config, AdapterConfig("mlora-asym", 3), g)
    z = torch.randn(60, 4, generator=g) @ torch.randn(4, 4, generator=g) + 1
    weights = manifold.instances(z).detach()
    direct = GaussianPrior.fit(weights, manifold.layout.trainable, 4)
    quick = prior_of_manifold(manifold, z)
    torch.testing.assert_close(quick.mean, direct.mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(quick.std, direct.std, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(quick.variances, direct.variances, rtol=1e-3, atol=1e-3)
    overlap = (quick.basis.T @ direct.basis).abs()
    torch.testing.assert_close(overlap, torch.eye(4), atol=1e-2, rtol=0)
    inside = quick.standardise(weights)
    torch.testing.assert_close(quick.project(inside) @ quick.basis.T, inside, atol=1e-3, rtol=1e-3)
