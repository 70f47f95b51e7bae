"""The stage *free*: a manifold from the fits of a first generation, and one posterior an instance.

    min over W, b, ε₀, P and one Gaussian posterior q_i an instance of
    E_q L(f_{ε₀ + P z}(p) − x_i(p)) + β KL(q_i ‖ N(0, I))

An encoder reads shapes too coarsely to say where on a manifold they lie: what it proposes decodes
to twice the error of what gradient steps on z find (its card has both). So the posteriors are free
parameters, as in Paper A's autodecoder (Eq. 4). W, b, ε₀ and P begin as the base, the mean and the
principal directions of the fits of a first generation, scaled so that z ~ N(0, I), and z as what
its encoder proposes. The encoder beside the manifold, which fits start from, learns at the end to
say what the posteriors say.
"""

import argparse
import dataclasses

import torch
from torch import Tensor, nn

from wsdemo.fields.encoder import AmortisedStart
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.train.autodecoder import kl_to_standard_normal
from wsdemo.train.loop import Ema, Run, log
from wsdemo.train.manifold.autoencoder import (
    LOG_EVERY,
    Autoencoder,
    Data,
    Rates,
    adam,
    as_text,
    batches,
    rate_at,
    seeded,
    set_rate,
)

POSTERIOR_RATE = 0.05
"""Of SparseAdam, for means and log σ."""
FIRST_STD = 0.3
"""Of every posterior at the start."""
SHARE_OF_RATES = 0.5
"""Of the first stage's rates: what is learnt begins as something good."""
MANY, MANY_UNTIL = 3, 0.5
"""Up to this share of the budget a step has so many times as many instances, of as many fewer
points each: a posterior that is seldom updated learns too slowly."""
ENCODER_FROM = 0.8
"""Share of the budget from which the encoder learns, and the others do not."""


@torch.no_grad()
def manifold_of_fits(model: WeightDiffusion, seed: int) -> Autoencoder:
    """A manifold whose coordinates are those of a model's prior, each of unit variance, and a new
    encoder."""
    prior, adapter = model.prior, model.adapter
    config = adapter.field_config
    K = len(prior.variances)
    made = Autoencoder(dataclasses.replace(config, latent_dim=K), adapter.config, seeded(seed))
    manifold = made.manifold
    base = adapter.base
    manifold.frequencies.copy_(base.frequencies)
    for ours, theirs in zip(manifold.weights, base.weights, strict=True):
        ours.copy_(theirs)
    for ours, theirs in zip(manifold.biases, base.biases, strict=True):
        ours.copy_(theirs)
    manifold.origin.copy_(prior.mean)
    manifold.directions.copy_((prior.basis * prior.std[:, None] * prior.variances.sqrt()).T)
    return made


@torch.no_grad()
def first_coordinates(model: WeightDiffusion, start: AmortisedStart, inputs: Tensor) -> Tensor:
    """Coordinates (n, K) of what a first generation's encoder proposes for what it reads."""
    prior = model.prior
    c = prior.project(prior.standardise(start(model.adapter, inputs)))
    return c / prior.variances.sqrt()


class Posteriors(nn.Module):
    """One q_i = N(μ_i, σ_i²) an instance."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        log_std = torch.full_like(mean, FIRST_STD).log()
        self.table = nn.Embedding.from_pretrained(
            torch.cat([mean, log_std], 1), freeze=False, sparse=True
        )

    def forward(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log σ (n, K) of instances (n,)."""
        mean, log_std = self.table(index).chunk(2, dim=1)
        return mean, log_std


def train_free(
    model: Autoencoder, posteriors: Posteriors, data: Data, run: Run, args: argparse.Namespace
) -> Autoencoder:
    """Trains all but the encoder, then the encoder alone, for the budget in ``run``.

    Args:
        model: Is trained, with the posteriors.
        posteriors: Of the instances of ``data``.
        data: What is learnt from.
        run: Budget and resumable state.
        args: ``instances`` and ``points`` of a step, ``kl`` (β), ``seed``.

    Returns:
        The average.
    """
    manifold = model.manifold
    ema = Ema(model)
    optimizer = adam(model, Rates().scaled(SHARE_OF_RATES))
    of_posteriors = torch.optim.SparseAdam(list(posteriors.parameters()), lr=POSTERIOR_RATE)
    run.attach(
        model=model, ema=ema, posteriors=posteriors, optimizer=optimizer,
        of_posteriors=of_posteriors,
    )  # fmt: skip
    generator = seeded(-1 - args.seed - run.step)
    few, many = (args.instances, args.points), (MANY * args.instances, args.points // MANY)
    made = batches(
        data, lambda: many if run.progress < MANY_UNTIL else few, seeded(args.seed + run.step)
    )
    device = manifold.origin.device
    means: dict[str, float] = {}
    while run.running():
        index, points, target = (t.to(device) for t in next(made))
        mean, log_std = posteriors(index)
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=generator).to(device)
        past = (run.progress - ENCODER_FROM) / (1 - ENCODER_FROM)
        if past > 0:
            guess, log_spread = model.encoder(data.inputs(index.cpu()).to(device))
            apart = (z.detach() - guess) / log_spread.exp()
            loss = (0.5 * apart.square() + log_spread).mean()
            figures = {"encoder": loss}
        else:
            error = data.error(manifold(z, manifold.features(points)), target)
            kl = kl_to_standard_normal(mean, log_std).mean()
            loss = error + args.kl * kl
            figures = {"error": error, "kl": kl, "std": log_std.exp().mean()}
        rate = rate_at(past if past > 0 else run.progress / ENCODER_FROM, 0.05)
        set_rate(optimizer, rate)
        of_posteriors.param_groups[0]["lr"] = POSTERIOR_RATE * rate
        optimizer.zero_grad(set_to_none=True)
        of_posteriors.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(manifold.parameters(), 1.0)
        optimizer.step()
        if past <= 0:
            of_posteriors.step()
        ema.update(model)
        for key, value in figures.items():
            means[key] = means.get(key, 0.0) + float(value.detach()) / LOG_EVERY
        if run.step % LOG_EVERY == 0:
            log(f"step {run.step} minute {run.seconds / 60:.1f} {as_text(means)}")
            means = {}
    made.close()
    return ema.model
