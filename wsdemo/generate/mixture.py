"""What a mixture of Gaussians knows of the data that one Gaussian does not, as a denoiser's part.

With y_0 ~ Σ π_k N(μ_k, C_k) along the leading principal directions and y_t = √ᾱ y_0 + √(1−ᾱ) ε,

    E[y_0 | y_t]  = Σ r_k (μ_k + √ᾱ C_k (ᾱ C_k + (1−ᾱ) I)⁻¹ (y_t − √ᾱ μ_k)),
    r_k           ∝ π_k N(y_t; √ᾱ μ_k, ᾱ C_k + (1−ᾱ) I),

is known in closed form, and so is what it adds to the Gaussian prior's own estimate (prior.py):

    F = √((ᾱλ + 1−ᾱ) / ((1−ᾱ) λ)) (E_Gauss[y_0 | y_t] − E[y_0 | y_t]).

Some tens of components of 16,000 instances say more of how coordinates go together than a network
learns in an hour of two cores; what a condition changes, a network beside it adds (coordinates.py).
"""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from wsdemo.generate.schedule import alphas_bar

REGULAR = 0.25
"""Added to the variances of a component, as a share of those of all data: it has few instances a
direction."""

ROUNDS = 30
"""Of expectation maximisation, at most."""


class Mixture(nn.Module):
    """Buffers alone: nothing in it is learnt by gradients.

    Args:
        components: K Gaussians.
        directions: D leading principal coordinates that they describe.

    Attributes:
        variances: (D,) λ of the prior, the variance of each coordinate.
        logits: (K,) log π.
        means: (K, D) μ.
        axes: (K, D, D) principal axes of each component, in columns.
        spreads: (K, D) standard deviations along them.
    """

    variances: Tensor
    logits: Tensor
    means: Tensor
    axes: Tensor
    spreads: Tensor
    alphas: Tensor

    def __init__(self, components: int, directions: int) -> None:
        super().__init__()
        for name, shape in (
            ("variances", (directions,)), ("logits", (components,)),
            ("means", (components, directions)),
            ("axes", (components, directions, directions)), ("spreads", (components, directions)),
        ):  # fmt: skip
            self.register_buffer(name, torch.ones(shape))
        self.register_buffer("alphas", alphas_bar().float(), persistent=False)

    @torch.no_grad()
    def fit(self, y: Tensor, variances: Tensor, seed: int = 0) -> "Mixture":
        """Estimates it from data by expectation maximisation (scikit-learn's).

        Args:
            y: (n, K') principal coordinates of zero mean; the leading D are described.
            variances: (K',) of them.
            seed: Of the start.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        D = len(self.variances)
        scale = variances[:D].sqrt()
        estimate = GaussianMixture(
            len(self.logits), reg_covar=REGULAR, max_iter=ROUNDS, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # later rounds change little
            estimate.fit((y[:, :D] / scale).double().cpu().numpy())
        whole = scale.double().cpu().numpy()
        values, axes = np.linalg.eigh(estimate.covariances_ * np.outer(whole, whole))
        self.variances.copy_(variances[:D])
        self.logits.copy_(torch.from_numpy(np.log(estimate.weights_)))
        self.means.copy_(torch.from_numpy(estimate.means_ * whole))
        self.axes.copy_(torch.from_numpy(axes))
        self.spreads.copy_(torch.from_numpy(np.sqrt(values.clip(min=0))))
        return self

    @torch.no_grad()
    def forward(self, whitened: Tensor, t: Tensor) -> Tensor:
        """(n, K') whitened coordinates of noisy data, (n,) times → (n, K') F; 0 beyond D."""
        D = len(self.variances)
        a = self.alphas[t][:, None]
        s = 1 - a
        total = a * self.variances + s
        y = whitened[:, :D] * total.sqrt()
        offset = y[:, None] - a[:, None].sqrt() * self.means  # (n, K, D)
        along = torch.einsum("nkd,kde->nke", offset, self.axes)
        values = self.spreads.square()
        noisy = a[:, None] * values + s[:, None]  # (n, K, D)
        density = self.logits - 0.5 * (noisy.log() + along.square() / noisy).sum(-1)
        share = density.softmax(-1)
        inner = torch.einsum("nke,kde->nkd", along * (values / noisy), self.axes)
        mixed = (share[:, :, None] * (self.means + a[:, None].sqrt() * inner)).sum(1)
        alone = a.sqrt() * self.variances / total * y
        F = (total / (s * self.variances)).sqrt() * (alone - mixed)
        return nn.functional.pad(F, (0, whitened.shape[1] - D))
