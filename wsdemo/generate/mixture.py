"""What a mixture of Gaussians knows of the data that one Gaussian does not, as a denoiser's part.

With y_0 ~ Σ π_k N(μ_k, C_k) along the leading principal directions and y_t = √ᾱ y_0 + √(1−ᾱ) ε,

    E[y_0 | y_t]  = Σ r_k (μ_k + √ᾱ C_k (ᾱ C_k + (1−ᾱ) I)⁻¹ (y_t − √ᾱ μ_k)),
    r_k           ∝ π_k N(y_t; √ᾱ μ_k, ᾱ C_k + (1−ᾱ) I),

is known in closed form; so is what a condition changes, r_k ∝ π_k P(c | k) …, where each component
was estimated from one category's instances; and what it adds to the Gaussian prior's own estimate
(prior.py):

    F = √((ᾱλ + 1−ᾱ) / ((1−ᾱ) λ)) (E_Gauss[y_0 | y_t] − E[y_0 | y_t]).

Some tens of components of 16,000 instances say more of how coordinates go together than a network
learns in an hour of two cores; what a condition changes, a network beside it adds (coordinates.py).
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsdemo.generate.schedule import alphas_bar

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

FloatArray = NDArray[np.float64]

REGULAR = 0.25
"""Added to the variances of a component, as a share of those of all data: it has few instances a
direction."""

ROUNDS = 30
"""Of expectation maximisation, at most."""

EXCLUDED = 1e4
"""Taken from the logarithm of a component's share where a condition speaks against it."""


def _estimated(x: FloatArray, components: int, regular: float, seed: int) -> "GaussianMixture":
    """A mixture of whitened data (n, D)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    estimate = GaussianMixture(components, reg_covar=regular, max_iter=ROUNDS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # later rounds change little
        return estimate.fit(x)


class Mixture(nn.Module):
    """Buffers alone: nothing in it is learnt by gradients.

    Args:
        components: K Gaussians.
        directions: D leading principal coordinates that they describe.
        categories: Entries of a condition that it hears, of which one at most is true; 0: it hears
            none.

    Attributes:
        variances: (D,) λ of the prior, the variance of each coordinate.
        logits: (K,) log π.
        means: (K, D) μ.
        axes: (K, D, D) principal axes of each component, in columns.
        spreads: (K, D) standard deviations along them.
        members: (K, categories) 1 where a component is of a category.
    """

    variances: Tensor
    logits: Tensor
    means: Tensor
    axes: Tensor
    spreads: Tensor
    members: Tensor
    alphas: Tensor

    def __init__(self, components: int, directions: int, categories: int = 0) -> None:
        super().__init__()
        for name, shape in (
            ("variances", (directions,)), ("logits", (components,)),
            ("means", (components, directions)),
            ("axes", (components, directions, directions)), ("spreads", (components, directions)),
        ):  # fmt: skip
            self.register_buffer(name, torch.ones(shape))
        none = torch.zeros(components, categories)
        self.register_buffer("members", none, persistent=categories > 0)
        self.register_buffer("alphas", alphas_bar().float(), persistent=False)

    @torch.no_grad()
    def fit(
        self,
        y: Tensor,
        variances: Tensor,
        seed: int = 0,
        category: Tensor | None = None,
        regular: float = REGULAR,
    ) -> "Mixture":
        """Estimates it from data by expectation maximisation (scikit-learn's).

        Args:
            y: (n, K') principal coordinates of zero mean; the leading D are described.
            variances: (K',) of them.
            seed: Of the start.
            category: (n,) long; each gets its own components, as many as the others.
            regular: See REGULAR.
        """
        D, K = len(self.variances), len(self.logits)
        whitened = (y[:, :D] / variances[:D].sqrt()).double().cpu()
        groups = torch.zeros(len(y), dtype=torch.long) if category is None else category.cpu()
        labels = groups.unique().tolist()
        each = K // len(labels)
        if each * len(labels) != K:
            raise ValueError(f"{K} components are not shared out among {len(labels)} categories")
        self.variances.copy_(variances[:D])
        self.members.zero_()
        whole = variances[:D].sqrt().double().cpu().numpy()
        for place, label in enumerate(labels):
            own, rows = groups == label, slice(place * each, (place + 1) * each)
            estimate = _estimated(whitened[own].numpy(), each, regular, seed)
            values, axes = np.linalg.eigh(estimate.covariances_ * np.outer(whole, whole))
            share = float(own.double().mean())
            self.logits[rows] = torch.from_numpy(np.log(share * estimate.weights_))
            self.means[rows] = torch.from_numpy(estimate.means_ * whole)
            self.axes[rows] = torch.from_numpy(axes)
            self.spreads[rows] = torch.from_numpy(np.sqrt(values.clip(min=0)))
            if self.members.shape[1]:
                self.members[rows, label] = 1
        return self

    def prior_logits(self, condition: Tensor) -> Tensor:
        """(n, K) log π_k P(c | k), unnormalised, of conditions (n, categories) in {−1, 0, 1}."""
        if not self.members.shape[1]:
            return self.logits.expand(len(condition), -1)
        against = (condition > 0).float() @ (1 - self.members).T
        against = against + (condition < 0).float() @ self.members.T
        return self.logits - EXCLUDED * against

    @torch.no_grad()
    def forward(self, whitened: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The part F of a denoiser's answer; 0 beyond D.

        Args:
            whitened: (n, K') whitened coordinates of noisy data.
            t: (n,) times.
            condition: (n, a) in {−1, 0, 1}, of which it hears what it has categories for.

        Returns:
            (n, K').
        """
        D = len(self.variances)
        a = self.alphas[t][:, None]
        s = 1 - a
        total = a * self.variances + s
        y = whitened[:, :D] * total.sqrt()
        offset = y[:, None] - a[:, None].sqrt() * self.means  # (n, K, D)
        along = torch.einsum("nkd,kde->nke", offset, self.axes)
        values = self.spreads.square()
        noisy = a[:, None] * values + s[:, None]  # (n, K, D)
        density = self.prior_logits(condition) - 0.5 * (noisy.log() + along.square() / noisy).sum(
            -1
        )
        share = density.softmax(-1)
        inner = torch.einsum("nke,kde->nkd", along * (values / noisy), self.axes)
        mixed = (share[:, :, None] * (self.means + a[:, None].sqrt() * inner)).sum(1)
        alone = a.sqrt() * self.variances / total * y
        F = (total / (s * self.variances)).sqrt() * (alone - mixed)
        return nn.functional.pad(F, (0, whitened.shape[1] - D))
