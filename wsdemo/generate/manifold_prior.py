"""The Gaussian prior of instances that lie on a manifold ε = ε₀ + P z, from their z alone.

The covariance of the standardised weights, S⁻¹ P Σ_z Pᵀ S⁻¹ with S the standard deviations, has
rank K, so its principal directions come from a (D, K) matrix and no (n, D) one is ever made.
"""

import torch
from torch import Tensor

from wsdemo.fields.manifold import Manifold
from wsdemo.generate.prior import GaussianPrior


@torch.no_grad()
def prior_of_manifold(manifold: Manifold, z: Tensor) -> GaussianPrior:
    """The prior of the weights ε₀ + P z, with all K principal directions.

    Args:
        manifold: Gives ε₀ and P.
        z: (n, K) coordinates of the training instances, n > K.
    """
    mean = manifold.instances(z.mean(0, keepdim=True))[0]
    values, vectors = torch.linalg.eigh(torch.cov(z.T.double()))
    root = (vectors * values.clamp(min=0).sqrt()).T  # (K, K), rootᵀ root = Σ_z
    spread = root @ (manifold.directions * manifold.trainable).double()  # (K, D)
    std = spread.square().sum(0).sqrt()
    scaled = torch.where(std > 0, spread / std.clamp(min=1e-12), 0.0)
    _, singular, basis = torch.linalg.svd(scaled, full_matrices=False)
    variances = singular.square().clamp(min=1e-9)
    return GaussianPrior(mean, std.float(), basis.T.float(), variances.float(), 0.0)
