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

Sampling solves DDIM's equation (η = 0), dx̄/dσ = ε̂ with x̄ = x/√ᾱ and σ = √((1−ᾱ)/ᾱ). Its linear
part is solved exactly: with u = x̄ / √(λ + σ²) along each eigenvector what remains is

    du/dθ = F,   θ = atan(σ / √λ)

so the Gaussian alone is drawn with its very covariance in any number of steps (but for what is
left of the data in x_T, which is taken for noise), where plain DDIM loses some percent of every
standard deviation, and only F is approximated (``step``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wsdemo.generate.principal import principal_directions


class Parts(NamedTuple):
    """A batch of n vectors of D entries, and its parts along the K principal directions.

    Attributes:
        full: (n, D) without ``summary``; None is zero.
        inside: (n, K) projections of ``full``.
        along: (n, K) projections of the whole vector.
    """

    full: Tensor | None
    inside: Tensor
    along: Tensor

    def towards(self, other: "Parts", share: float) -> "Parts":
        """self + share · (other − self)."""
        assert (self.full is None) == (other.full is None), "outputs of one network"
        return Parts(
            None if self.full is None else torch.lerp(self.full, other.full, share),  # type: ignore[arg-type]
            torch.lerp(self.inside, other.inside, share),
            torch.lerp(self.along, other.along, share),
        )


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
        squares, basis = principal_directions(scaled, directions)
        n = len(scaled)
        total = float(scaled.double().square().sum()) / (n - 1)
        variances = squares / (n - 1)
        free = max(1, int((std > 0).sum()) - len(squares))
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
        x: Parts,
        alpha_bar: Tensor,
        F: Parts | None = None,
    ) -> Tensor:
        """(n, D) ε̂ = E[ε | x_t] + R F, of x_t at (n,) ᾱ; without F of the Gaussian alone."""
        along, outside = self._signal(alpha_bar)
        s = (1 - alpha_bar)[:, None]
        terms = [(s.sqrt() / (along + s), s.sqrt() / (outside + s), x)]
        if F is not None:
            terms.append(((along / (along + s)).sqrt(), (outside / (outside + s)).sqrt(), F))
        return self._sum(terms)

    def step(
        self,
        x: Parts,
        alpha_bar: Tensor,
        after: Tensor,
        F: Parts,
        earlier: tuple[Parts, Tensor] | None = None,
    ) -> Parts:
        """One step of DDIM's equation, exact in its linear part.

        x' = √(ᾱ'λ + 1 − ᾱ') (u + F̃ Δθ) along each direction; F̃ is F, continued in a straight
        line from the step before where that is known (Adams–Bashforth).

        Args:
            x: x_t.
            alpha_bar: (n,) ᾱ of x_t.
            after: (n,) ᾱ of the result; 1 is free of noise.
            F: The network's output at x_t.
            earlier: Its output one step earlier, and (n,) ᾱ there.
        """
        before, before_out = self._scale(alpha_bar)
        scale, scale_out = self._scale(after)
        (θ, θ_out), (end, end_out) = self._angle(alpha_bar), self._angle(after)
        Δθ, Δθ_out = end - θ, end_out - θ_out
        terms = [(scale / before, scale_out / before_out, x)]
        weight, weight_out = Δθ, Δθ_out
        if earlier is not None:
            start, start_out = self._angle(earlier[1])
            more = 0.5 * Δθ * Δθ / (θ - start).clamp(max=-1e-12)
            more_out = 0.5 * Δθ_out * Δθ_out / (θ_out - start_out).clamp(max=-1e-12)
            weight, weight_out = weight + more, weight_out + more_out
            terms.append((-scale * more, -scale_out * more_out, earlier[0]))
        terms.append((scale * weight, scale_out * weight_out, F))
        y = torch.stack([a * part.along for a, _, part in terms]).sum(0)
        return Parts(self._sum(terms), y, y)

    def split(self, vector: Tensor | None, summary: Tensor | None = None) -> Parts:
        """(n, D) plus (n, S) coordinates along the first S principal directions, as parts."""
        K = self.basis.shape[1]
        extra = (
            None if summary is None else torch.nn.functional.pad(summary, (0, K - summary.shape[1]))
        )
        if vector is None:
            assert extra is not None
            return Parts(None, torch.zeros_like(extra), extra)
        inside = self.project(vector)
        return Parts(vector, inside, inside if extra is None else inside + extra)

    def _sum(self, terms: Sequence[tuple[Tensor, Tensor, Parts]]) -> Tensor:
        """Σ (B diag(a) Bᵀ + b (I − B Bᵀ)) v over terms of (n, K) a, (n, 1) b, v."""
        coefficients = torch.stack([a * v.along - b * v.inside for a, b, v in terms]).sum(0)
        total = coefficients @ self.basis.T
        for _, b, v in terms:
            if v.full is not None:
                total = total + b * v.full
        return total

    def _scale(self, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """√(ᾱλ + 1 − ᾱ), the standard deviation of x_t: (n, K) along and (n, 1) outside."""
        along, outside = self._signal(alpha_bar)
        s = (1 - alpha_bar)[:, None]
        return (along + s).sqrt(), (outside + s).sqrt()

    def _angle(self, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """θ = atan(√((1 − ᾱ) / (ᾱλ))): (n, K) along and (n, 1) outside."""
        along, outside = self._signal(alpha_bar)
        s = (1 - alpha_bar)[:, None].sqrt()
        return torch.atan2(s.expand_as(along), along.sqrt()), torch.atan2(s, outside.sqrt())

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
        """ᾱλ: (n, K) along the principal directions and (n, 1) outside."""
        a = alpha_bar[:, None]
        return a * self.variances, a * self.rest

    @classmethod
    def of_coordinates(cls, variances: Tensor) -> "GaussianPrior":
        """The prior of (n, K) projections onto directions of variances (K,), alone.

        Directions are independent under the model, so a network that reads and writes some of
        them only is trained on these alone, at a fraction of the cost.
        """
        ones = torch.ones_like(variances)
        return cls(torch.zeros_like(ones), ones, torch.diag(ones), variances, 0.0)

    def coordinates(self, instances: Tensor, count: int) -> Tensor:
        """(n, count) whitened principal coordinates of (n, D) weights."""
        scores = self.standardise(instances) @ self.basis[:, :count]
        return scores / self.variances[:count].sqrt()

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        """(n, c) whitened coordinates → (n, D) weights in the span of the first c directions."""
        c = coordinates.shape[1]
        scores = coordinates * self.variances[:c].sqrt()
        return self.restore(scores @ self.basis[:, :c].T)
