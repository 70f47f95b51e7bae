"""Fitting: many instances to many signals in one program (Paper A, Eq. 2).

    min over ε_i of  mean_p L(f(p | W, ε_i) − x_i(p)) + λ ‖ε_i − ε₀‖² / D

L is the squared error for pictures and the absolute one for signed distances, where squares
would leave thin parts to the end.
ε₀ is the start: the adapter's, shared by all instances, unless others are given. All
instances see the same random choice of points, so an instance comes out the same whether
it is fitted alone or among thousands.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from wsdemo.fields.adapters import Adapter
from wsdemo.fields.base import evaluate


@dataclass(frozen=True)
class FitConfig:
    """How long and how to fit."""

    steps: int = 200
    """Gradient steps at most."""
    points: int = 1024
    """Random points a step; 0 takes all."""
    learning_rate: float = 0.05
    """Adam's peak rate; falls to 2 % of it along a cosine."""
    absolute: bool = False
    """Whether L is the absolute error rather than the squared one."""
    pull: float = 0.0
    """λ, the pull towards the start. It costs a little PSNR and keeps instances
    close together, which interpolation and diffusion thank for."""
    seconds: float = math.inf
    """Time at which the fit ends, to half a step; the schedule follows the time used. Without an
    end in time the same seed gives the same bytes."""
    target_psnr: float = math.inf
    """PSNR in dB that every instance reaches, on all points, when the fit ends."""
    report_every: int = 10
    """Steps between yields."""


RECHECK = 10
"""Steps until all points are asked again whether the target is reached."""


@dataclass(frozen=True)
class FitProgress:
    """What a fit reports while it runs.

    Attributes:
        step: Steps done.
        seconds: Time used.
        share: How far along the schedule, 0 to 1.
        mse: (n,) mean squared error of each instance on the points of this step.
        instances: (n, D) the weights so far (a copy).
        is_last: Whether the fit is over.
    """

    step: int
    seconds: float
    share: float
    mse: Tensor
    instances: Tensor
    is_last: bool


def psnr_from_mse(mse: Tensor, peak: float = 2.0) -> Tensor:
    """PSNR in dB for signals that span ``peak`` ([-1, 1] spans 2)."""
    return 10 * torch.log10(peak**2 / mse.clamp(min=1e-12))


def fit(
    adapter: Adapter,
    points: Tensor,
    targets: Tensor,
    config: FitConfig,
    generator: torch.Generator,
    start: Tensor | None = None,
    is_enough: Callable[[Tensor], bool] | None = None,
) -> Iterator[FitProgress]:
    """Fits n instances to n signals; yields every ``report_every`` steps and at the end.

    Args:
        adapter: Representation and base.
        points: (P, in_dim) float, shared by all signals, or (n, P, in_dim).
        targets: (n, P, out_dim) float.
        config: Budget and rates.
        generator: Draws the points of each step.
        start: (n, D) or (D,) float to start from instead of ε₀.
        is_enough: Judges (n, D) weights once the points of a step reach the target; default:
            whether all points do.
    """
    n, count = targets.shape[:2]
    origin = adapter.start if start is None else start
    ε = origin.expand(n, -1).clone().requires_grad_(True)
    trainable = adapter.trainable.to(adapter.dtype)
    optimizer = torch.optim.Adam([ε], lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    started = time.monotonic()
    batch = min(config.points or count, count)
    # Shared points: their features are computed once. Own points: those of a step, in the step.
    features = adapter.features(points) if points.dim() == 2 else None
    recheck = 0

    def all_points(instances: Tensor) -> bool:
        all_features = adapter.features(points) if features is None else features
        with torch.no_grad():
            error = (adapter.decode(instances, all_features) - targets).square().mean((1, 2))
        return bool(psnr_from_mse(error).min() >= config.target_psnr)

    for step in range(1, config.steps + 1):
        before = time.monotonic() - started
        share = max((step - 1) / config.steps, min(1.0, before / config.seconds))
        rate = config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        optimizer.param_groups[0]["lr"] = rate
        chosen: Tensor | slice = slice(None)
        if batch < count:
            chosen = torch.randperm(count, generator=generator)[:batch].to(adapter.device)
        phi = adapter.features(points[:, chosen]) if features is None else features[chosen]
        x = targets[:, chosen]
        residual = adapter.decode(ε, phi) - x
        mse = residual.square().mean((1, 2))
        error = residual.abs().mean((1, 2)) if config.absolute else mse
        loss = error.sum() + config.pull * (ε - origin).square().mean(1).sum()
        (gradient,) = torch.autograd.grad(loss, ε)
        ε.grad = gradient * trainable
        optimizer.step()
        used = time.monotonic() - started
        # Another step would end further beyond the time than this one did before it.
        done = step == config.steps or used + (used - before) / 2 >= config.seconds
        if not done and step >= recheck and bool(psnr_from_mse(mse).min() >= config.target_psnr):
            done = (is_enough or all_points)(ε.detach())
            recheck = step + RECHECK
        if done or step % config.report_every == 0:
            share = 1.0 if done else max(step / config.steps, min(1.0, used / config.seconds))
            yield FitProgress(step, used, share, mse.detach(), ε.detach().clone(), done)
        if done:
            return


@cache
def load_optimizer() -> None:
    """Lets torch import what its first optimiser needs: 800 modules, which take 1.6 s of a core.

    Before a fit that has so many seconds looks at the clock.
    """
    torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True)


MOST_STEPS = 5000
"""Of a fit whose length is given in seconds: more bring nothing."""


def budget(steps: int | None, seconds: float, spent: float) -> tuple[int, float]:
    """Steps and seconds of a fit: the steps asked for in any time, or what is left of a time.

    Args:
        steps: Asked for; None: as many as there is time for, up to MOST_STEPS.
        seconds: For the whole fit.
        spent: Of them, on the start.
    """
    if steps is not None:
        return steps, math.inf
    return MOST_STEPS, max(seconds / 10, seconds - spent)


def too_few(steps: int, enough: int) -> tuple[str, ...]:
    """What to say of a fit that ended, by its time, before it had steps enough to mean anything."""
    if steps >= enough:
        return ()
    return (
        f"Only {steps} steps were made in this time; fewer than {enough} say little about what"
        " these weights can show. Give it more --seconds, or ask for --steps.",
    )


def fit_to_end(
    adapter: Adapter,
    points: Tensor,
    targets: Tensor,
    config: FitConfig,
    generator: torch.Generator,
    start: Tensor | None = None,
) -> Tensor:
    """Runs ``fit`` and returns the final (n, D) instances."""
    progress = None
    for progress in fit(adapter, points, targets, config, generator, start):
        pass
    if progress is None:
        raise ValueError(f"steps must be at least 1, found {config.steps}")
    return progress.instances


def warm_start(adapter: Adapter, points: Tensor, steps: int = 200, rate: float = 5e-3) -> Tensor:
    """ε₀ for an MLP: weights fitted once to the base's own output at the mean latent.

    LoRA and mLoRA start at the base by construction. An MLP knows no base, and starts where
    HyperDiffusion's do: at one fitted instance that initialises all others.

    Returns:
        (D,) float.
    """
    base = adapter.base
    with torch.no_grad():
        values = evaluate(
            adapter.features(points), [W[None] for W in base.weights], list(base.biases)
        )
    config = FitConfig(steps=steps, points=2048, learning_rate=rate)
    generator = torch.Generator().manual_seed(adapter.config.seed)
    return fit_to_end(adapter, points, values, config, generator)[0]
