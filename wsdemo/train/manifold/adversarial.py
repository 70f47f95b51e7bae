"""The adversarial stages of a manifold: on reconstructions, then on drawn fields as well.

What the stages are: train/manifold/autoencoder.py. The losses: train/manifold/discriminator.py.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.train.autodecoder import kl_to_standard_normal
from wsdemo.train.loop import Ema, Run
from wsdemo.train.manifold.autoencoder import (
    Autoencoder,
    Best,
    Data,
    Rates,
    Validate,
    Watch,
    adam,
    rate_at,
    set_rate,
    shape_of,
)
from wsdemo.train.manifold.discriminator import (
    R1_EVERY,
    Discriminator,
    discriminator_loss,
    leaky_bound,
    matching,
    outside,
    r1_penalty,
)

EMA_DECAY = 0.997
"""These stages are short: an average over 300 steps."""
Change = Callable[[Tensor], Tensor]
Draw = Callable[[int, torch.Generator], Tensor]
"""Draws coordinates (n, K)."""


class Pictures(Data, Protocol):
    """Data that a discriminator can look at."""

    def whole(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Whole pictures of instances (n,), for a discriminator.

        Returns:
            What the encoder reads; points (P, d), the same for all; what the discriminator sees,
            (n, out_dim, …) with P cells.
        """

    def change(self, count: int, generator: torch.Generator) -> Change:
        """Random differentiable changes of (count, channels, …), the same at every call of it."""


@dataclass(frozen=True)
class Stage:
    """What an adversarial stage weighs, and how fast it learns."""

    matching: float = 0.05
    reconstructed: float = 0.02
    """Of D's opinion about reconstructions."""
    drawn: float = 0.0
    """Of its opinion about drawn fields; 0 trains the encoder, and draws none."""
    outside: float = 1.0
    """Of values outside [-1, 1]."""
    r1: float = 2.0
    rates: float = 0.25
    """Share of the first stage's rates."""
    discriminator_rate: float = 4e-4


ADVERSARIAL = Stage()
DRAWN = Stage(drawn=0.06)


class Gaussian:
    """N(μ, Σ) of coordinates (n, K), drawn from."""

    def __init__(self, z: Tensor) -> None:
        self.mean = z.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(z.T.double()))
        self.root = (vectors * values.clamp(min=0).sqrt()).float()

    def __call__(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, K)."""
        noise = torch.randn(count, len(self.mean), generator=generator).to(self.mean.device)
        return self.mean + noise @ self.root.T


def store(z: Tensor) -> Draw:
    """Draws out of coordinates (m, K) that another model drew; up to m of them are different."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        rounds = -(-count // len(z))
        order = [torch.randperm(len(z), generator=generator) for _ in range(rounds)]
        return z[torch.cat(order)[:count]]

    return draw


class Adversary:
    """Model and discriminator, and one step of both.

    Args:
        model: Field, manifold, encoder.
        discriminator: On the same device.
        data: What both are trained on.
        stage: Weights and rates.
        kl: β while the encoder learns.
        draw: Draws coordinates; needed if the stage looks at drawn fields.
    """

    def __init__(
        self, model: Autoencoder, discriminator: Discriminator, data: Pictures, stage: Stage,
        kl: float, draw: Draw | None = None,
    ) -> None:  # fmt: skip
        self.model, self.discriminator, self.data = model, discriminator, data
        self.stage, self.kl, self.draw = stage, kl, draw
        self.device = model.manifold.origin.device
        self.encoder_learns = draw is None
        model.encoder.requires_grad_(self.encoder_learns)
        self.optimizer = adam(model, Rates().scaled(stage.rates))
        rate = stage.discriminator_rate
        groups = [{"params": list(discriminator.parameters()), "lr": rate, "peak": rate}]
        self.opponent = torch.optim.Adam(groups, betas=(0.0, 0.99))
        self.field: Callable[[Tensor, Tensor], Tensor] = model.manifold
        """The manifold, or what torch.compile makes of it."""

    def step(
        self, index: Tensor, step: int, progress: float, generator: torch.Generator
    ) -> dict[str, float]:
        """One update of the model and one of the discriminator, with instances (n,)."""
        inputs, points, real = (t.to(self.device) for t in self.data.whole(index, generator))
        share = rate_at(progress, 0.1)
        set_rate(self.optimizer, share)
        set_rate(self.opponent, share)
        values, pictures, changes = self._improve_field(
            inputs, points, real, min(1.0, progress / 0.1), generator
        )
        return values | self._improve_discriminator(real, pictures, changes, step)

    def _coordinates(self, inputs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """z of the inputs, sampled while the encoder learns, and the KL term."""
        with torch.set_grad_enabled(self.encoder_learns):
            mean, log_std = self.model.encoder(inputs)
        if not self.encoder_learns:
            return mean, mean.new_zeros(())
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return mean + log_std.exp() * noise, kl_to_standard_normal(mean, log_std).mean()

    def _improve_field(
        self, inputs: Tensor, points: Tensor, real: Tensor, ramp: float, generator: torch.Generator
    ) -> tuple[dict[str, float], list[Tensor], list[Change]]:
        """Returns the losses, the decoded pictures by kind, and the changes of each kind."""
        stage, n = self.stage, len(inputs)
        z, kl = self._coordinates(inputs, generator)
        if self.draw is not None:
            z = torch.cat([z, self.draw(n, generator).to(z)])
        values = self.field(z, self.model.manifold.features(points))
        target = real.flatten(2).transpose(1, 2)
        error = self.data.error(values[:n], target)
        beyond = outside(values)
        pictures = list(leaky_bound(shape_of(values, real)).split(n))
        changes = [self.data.change(n, generator) for _ in pictures]

        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            _, wanted = self.discriminator(changes[0](real))
        logits, seen = self.discriminator(changes[0](pictures[0]))
        match, opinion = matching(seen, wanted), F.softplus(-logits).mean()
        weight = {"matching": stage.matching, "rec": ramp * stage.reconstructed}
        terms = {"matching": match, "rec": opinion}
        if len(pictures) > 1:
            logits, _ = self.discriminator(changes[1](pictures[1]))
            terms["drawn"], weight["drawn"] = F.softplus(-logits).mean(), ramp * stage.drawn
        loss = error + self.kl * kl + stage.outside * beyond
        loss = loss + torch.stack([weight[k] * v for k, v in terms.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.manifold.parameters(), 1.0)
        self.optimizer.step()
        self.discriminator.requires_grad_(True)
        terms |= {"error": error, "kl": kl, "outside": beyond}
        figures = {k: float(v.detach()) for k, v in terms.items()}
        return figures, [p.detach() for p in pictures], changes

    def _improve_discriminator(
        self, real: Tensor, pictures: list[Tensor], changes: list[Change], step: int
    ) -> dict[str, float]:
        shown = changes[0](real)
        fakes = [change(p) for change, p in zip(changes, pictures, strict=True)]
        loss, accuracy = discriminator_loss(self.discriminator, shown, fakes)
        figures = {"d": float(loss.detach()), "told": float(accuracy)}
        if step % R1_EVERY == 0:
            penalty = r1_penalty(self.discriminator, shown)
            loss = loss + R1_EVERY * self.stage.r1 * penalty
        self.opponent.zero_grad(set_to_none=True)
        loss.backward()
        self.opponent.step()
        return figures


def train_adversarial(
    adversary: Adversary, validate: Validate, run: Run, args: argparse.Namespace
) -> Best:
    """Runs an adversarial stage.

    Args:
        adversary: Both sides.
        validate: Judges the average.
        run: Budget and resumable state.
        args: ``instances`` of a step, ``compile``; ``bfloat16``: whether matrices are multiplied
            with 8 bits of mantissa, which some processors do several times as fast; ``last``:
            whether the last average is kept, whatever ``validate`` says of those before.

    Returns:
        The best average, or the last, with its figures.
    """
    model = adversary.model
    if args.compile:
        adversary.field = torch.compile(model.manifold)
    ema, best = Ema(model, EMA_DECAY), Best(model)
    run.attach(
        model=model,
        ema=ema,
        best=best,
        discriminator=adversary.discriminator,
        optimizer=adversary.optimizer,
        opponent=adversary.opponent,
    )
    generator = torch.Generator().manual_seed(args.seed + 1 + run.step)
    watch = Watch(run, ema, best, validate, args.validate_minutes)
    while run.running():
        index = torch.randint(len(adversary.data), (args.instances,), generator=generator)
        with torch.autocast(adversary.device.type, torch.bfloat16, enabled=args.bfloat16):
            figures = adversary.step(index, run.step, run.progress, generator)
        watch.note(figures)
        ema.update(model)
    if args.last:
        best.score.fill_(math.inf)
    watch.judge()
    return best
