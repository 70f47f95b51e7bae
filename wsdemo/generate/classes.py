"""A Gaussian of its own for every class: the mixture prior of a model of several categories.

One Gaussian over chairs and airplanes together is as wide as both and centred on neither. A
class has a mean and variances of its own along the shared principal directions; sampling and
training then run as ever, with these in place of the prior's (prior.py). Ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.generate.prior import GaussianPrior

OWN = 20
"""Instances that the variances of all classes together count for in those of one."""


@dataclass(frozen=True)
class ClassPriors:
    """C classes along K principal directions.

    Attributes:
        means: (C, K).
        variances: (C, K) around them.
        shares: (C,) of the training instances.
    """

    means: Tensor
    variances: Tensor
    shares: Tensor

    @classmethod
    def fit(cls, y: Tensor, classes: Tensor, count: int) -> "ClassPriors":
        """Estimates ``count`` classes from (n, K) projections y and (n,) classes.

        With S_c the variances within class c and S those within all: (n_c S_c + m S) / (n_c + m).
        A class without instances has the mean of all, zero.
        """
        members = [y[classes == c] for c in range(count)]
        means = torch.stack([own.sum(0) / max(1, len(own)) for own in members])
        square = [(own - mean).square().sum(0) for own, mean in zip(members, means, strict=True)]
        pooled = torch.stack(square).sum(0) / len(y)
        rows = [
            (s + OWN * pooled) / (len(own) + OWN) for s, own in zip(square, members, strict=True)
        ]
        return cls(means, torch.stack(rows), torch.tensor([len(m) / len(y) for m in members]))

    def first(self, count: int) -> "ClassPriors":
        """The same along the first ``count`` directions."""
        return ClassPriors(self.means[:, :count], self.variances[:, :count], self.shares)

    def to(self, device: torch.device | str) -> "ClassPriors":
        """Returns a copy on a device."""
        return ClassPriors(self.means.to(device), self.variances.to(device), self.shares.to(device))

    def prior(self, shared: GaussianPrior, classes: Tensor) -> GaussianPrior:
        """The prior of a batch of (n,) classes, a row each."""
        return shared.of_rows(self.means[classes], self.variances[classes])

    def choose(self, wishes: Tensor, generator: torch.Generator) -> int:
        """A class for (C,) wishes in {−1, 0, 1}, by its share among those not excluded."""
        allowed = wishes > 0 if bool((wishes > 0).any()) else wishes >= 0
        weights = self.shares * (allowed if bool(allowed.any()) else torch.ones_like(allowed))
        if not bool((weights > 0).any()):  # a class that training had none of
            weights = allowed.float()
        return int(torch.multinomial(weights.cpu(), 1, generator=generator))

    def likeliest(self, y: Tensor) -> int:
        """The class of (K,) projections, by Bayes' rule over the shared directions."""
        distance = (y - self.means).square() / self.variances + self.variances.log()
        return int((self.shares.log() - distance.sum(1) / 2).argmax())
