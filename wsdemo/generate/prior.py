"""A Gaussian model of the weights, and the optimal linear denoiser that it gives.

Ours. The weights of many instances fill a small subspace: fitted from one start on
one base, they are close to linear in the signal. If x ~ N(0, Σ) then the noise in
x_t = √ᾱ x + √(1−ᾱ) ε is best predicted, among all functions, by

    E[ε | x_t] = √(1−ᾱ) (ᾱ Σ + (1−ᾱ) I)⁻¹ x_t

so the network F has only the rest to learn. It sees the same information as the Gaussian
estimate of x_0 (directions drowned in noise are small there), and its output is scaled
by what is still unknown along each eigenvector, with eigenvalue λ:

    ε̂ = E[ε | x_t] + R F,   R = (ᾱλ / (ᾱλ + 1 − ᾱ))^(1/2)

the matrix form of EDM's preconditioning. Directions in which the data does not vary get
no noise from an imperfect network: R = 0 there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianPrior:
    """Standardisation of the weights and their covariance.

    Attributes:
        mean: (D,) mean of the weights.
        std: (D,) standard deviation, 0 at frozen entries.
        basis: (D, K) orthonormal principal directions of the standardised weights.
        variances: (K,) eigenvalues along them.
        rest: Variance per direction outside the basis.
    """

    mean: Tensor
    std: Tensor
    basis: Tensor
    variances: Tensor
    rest: float

    @classmethod
    def fit(cls, instances: Tensor, trainable: Tensor, directions: int) -> "GaussianPrior":
        """Estimates the prior from (n, D) instances; K = min(directions, n − 1)."""
        mean = instances.mean(0)
        std = instances.std(0) * trainable
        scaled = torch.where(std > 0, (instances - mean) / std.clamp(min=1e-12), 0.0)
        n, D = scaled.shape
        K = min(directions, n - 1, D)
        if n <= D:
            values, vectors = torch.linalg.eigh((scaled @ scaled.T).double())
            keep = values.flip(0)[:K].clamp(min=1e-9)
            basis = scaled.T.double() @ (vectors.flip(1)[:, :K] / keep.sqrt())
        else:
            values, vectors = torch.linalg.eigh((scaled.T @ scaled).double())
            keep, basis = values.flip(0)[:K].clamp(min=1e-9), vectors.flip(1)[:, :K]
        total = float(scaled.double().square().sum()) / (n - 1)
        variances = keep / (n - 1)
        free = max(1, int((std > 0).sum()) - K)
        rest = max(0.0, total - float(variances.sum())) / free
        return cls(mean, std, basis.float(), variances.float(), rest)

    def to(self, device: torch.device | str) -> "GaussianPrior":
        """Returns a copy on a device."""
        return GaussianPrior(
            self.mean.to(device),
            self.std.to(device),
            self.basis.to(device),
            self.variances.to(device),
            self.rest,
        )

    def standardise(self, instances: Tensor) -> Tensor:
        """(n, D) weights → (n, D) of zero mean and unit variance; frozen entries → 0."""
        return torch.where(
            self.std > 0,
            (instances - self.mean) / self.std.clamp(min=1e-12),
            torch.zeros(()).to(instances),
        )

    def restore(self, x: Tensor) -> Tensor:
        """The inverse of ``standardise``."""
        return x * self.std + self.mean

    def project(self, x: Tensor) -> Tensor:
        """(n, D) → (n, K) along the principal directions."""
        return x @ self.basis

    def whitened(self, y: Tensor, alpha_bar: Tensor) -> Tensor:
        """(n, K) projections y of x_t → the same with unit variance at every (n,) ᾱ."""
        along, _ = self._signal(alpha_bar)
        return y * (along + (1 - alpha_bar)[:, None]).rsqrt()

    def estimate(self, x_t: Tensor, y: Tensor, alpha_bar: Tensor) -> Tensor:
        """E[x_0 | x_t] of (n, D) x_t with projections (n, K) y, scaled to unit mean square."""
        along, outside = self._signal(alpha_bar)
        s = (1 - alpha_bar)[:, None]
        gain, gain_out = along / (along + s), outside / (outside + s)
        square = (gain * along).sum(1, keepdim=True) + self._others * gain_out * outside
        scale = (square / (self._others + self.basis.shape[1])).clamp(min=1e-30).rsqrt()
        return scale * (gain_out * x_t + (y * (gain - gain_out)) @ self.basis.T)

    def noise(
        self,
        x_t: Tensor,
        y: Tensor,
        alpha_bar: Tensor,
        output: Tensor | None = None,
        summary: Tensor | None = None,
    ) -> Tensor:
        """ε̂ = E[ε | x_t] + R F.

        Args:
            x_t: (n, D) noisy standardised weights.
            y: (n, K) their projections.
            alpha_bar: (n,) ᾱ.
            output: (n, D) the part of F that is given per weight; None is zero.
            summary: (n, S) the part of F along the first S principal directions.
        """
        along, outside = self._signal(alpha_bar)
        s = (1 - alpha_bar)[:, None]
        linear, linear_out = s.sqrt() / (along + s), s.sqrt() / (outside + s)
        R, R_out = (along / (along + s)).sqrt(), (outside / (outside + s)).sqrt()
        result, coefficients = linear_out * x_t, y * (linear - linear_out)
        if output is not None:
            result = result + R_out * output
            coefficients = coefficients + self.project(output) * (R - R_out)
        if summary is not None:
            S = summary.shape[1]
            extra = torch.nn.functional.pad(R[:, :S] * summary, (0, R.shape[1] - S))
            coefficients = coefficients + extra
        return result + coefficients @ self.basis.T

    def expected_error(self, alpha_bar: Tensor) -> Tensor:
        """(n,) E‖ε − E[ε | x_t]‖² = tr(ᾱΣ (ᾱΣ + (1−ᾱ) I)⁻¹) under the Gaussian model."""
        along, outside = self._signal(alpha_bar)
        s = (1 - alpha_bar)[:, None]
        rest = self._others * (outside / (outside + s)).squeeze(1)
        return (along / (along + s)).sum(1) + rest

    @property
    def _others(self) -> int:
        """Directions outside the basis in which the weights can vary."""
        return max(0, int((self.std > 0).sum()) - self.basis.shape[1])

    def _signal(self, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        a = alpha_bar[:, None]
        return a * self.variances, a * self.rest

    def of_coordinates(self, count: int) -> "GaussianPrior":
        """The prior of the projections onto the first ``count`` directions, (n, count), alone.

        Directions are independent under the model, so a network that reads and writes these
        coordinates only is trained on them alone, at a fraction of the cost.
        """
        variances = self.variances[:count]
        one = torch.ones_like(variances)
        return GaussianPrior(torch.zeros_like(one), one, torch.diag(one), variances, 0.0)

    def coordinates(self, instances: Tensor, count: int) -> Tensor:
        """(n, count) whitened principal coordinates of (n, D) weights."""
        scores = self.standardise(instances) @ self.basis[:, :count]
        return scores / self.variances[:count].sqrt()

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        """(n, c) whitened coordinates → (n, D) weights in the span of the first c directions."""
        c = coordinates.shape[1]
        scores = coordinates * self.variances[:c].sqrt()
        return self.restore(scores @ self.basis[:, :c].T)
