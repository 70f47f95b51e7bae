"""The second-generation base: field, linear manifold and encoder, trained together in stages.

    autoencoder   min over W, b, ε₀, P and the encoder of
                  E_q L(f_{ε₀ + P z}(p) − x(p)) + β KL(q(z | x) ‖ N(0, I))
                  at random points; L is the error that the data name
    adversarial   whole decoded pictures, and a small convolutional discriminator beside L
    drawn         the encoder frozen; the discriminator also sees fields that are drawn from the
                  Gaussian of all z, so that what is drawn looks like what is fitted

This file has what the stages share and the first of them; the other two are in
train/manifold/adversarial.py. Every stage has a budget and a resumable state of its own, keeps an
EMA, and ends by writing the average that was best on validation as the checkpoint, from which
alone the next stage starts: train/manifold/files.py. Shapes have another stage, free.py.
"""

import argparse
import copy
import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from wsdemo.fields.adapters import AdapterConfig
from wsdemo.fields.base import FieldConfig
from wsdemo.fields.encoder import Encoder
from wsdemo.fields.manifold import Manifold
from wsdemo.train.autodecoder import kl_to_standard_normal
from wsdemo.train.loop import Ema, Run, log

KL_WEIGHT = 5e-5
"""β, against an error summed over channels and averaged over points."""


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of Adam. P moves every weight at once: at W's rate it diverges."""

    weights: float = 2e-3
    """Of W and b."""
    encoder: float = 1e-3
    origin: float = 4e-4
    """Of ε₀."""
    directions: float = 2e-4
    """Of P."""

    def scaled(self, factor: float) -> "Rates":
        """All rates times a factor."""
        return Rates(*(factor * rate for rate in vars(self).values()))


class Data(Protocol):
    """What a manifold is trained on."""

    def __len__(self) -> int:
        """Instances, mirror images included."""

    def inputs(self, index: Tensor) -> Tensor:
        """What the encoder reads of instances (n,), not augmented: (n, channels, …) float."""

    def batch(
        self, index: Tensor, points: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Instances (n,): what the stage takes for them, points (n, P, d), values there.

        What it takes are, of augmented instances, what the encoder reads; where each has a
        posterior of its own (free.py), their numbers (n,).
        """

    def error(self, values: Tensor, target: Tensor) -> Tensor:
        """L of decoded values (n, P, c) against what they should be, a scalar."""


class Autoencoder(nn.Module):
    """The manifold and the encoder that proposes coordinates on it."""

    def __init__(
        self, config: FieldConfig, adapter: AdapterConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.manifold = Manifold(config, adapter, generator)
        self.encoder = Encoder(config.latent_dim, config.in_dim)

    @torch.no_grad()
    def posterior(self, data: Data, index: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations (n, K) that the encoder proposes for instances (n,), not
        augmented."""
        device = self.manifold.origin.device
        parts = [self.encoder(data.inputs(part).to(device)) for part in index.split(128)]
        mean, log_std = (torch.cat(one) for one in zip(*parts, strict=True))
        return mean, log_std.exp()

    def coordinates(self, data: Data, index: Tensor) -> Tensor:
        """The means (n, K) alone."""
        return self.posterior(data, index)[0]


def shape_of(values: Tensor, like: Tensor) -> Tensor:
    """Values (n, P, c) of a whole grid → (n, c, …), the shape of a batch of pictures."""
    return values.transpose(1, 2).reshape(len(values), *like.shape[1:])


def rate_at(progress: float, end: float) -> float:
    """A share of the peak: warm-up over 1 % of the budget, then a cosine down to ``end``."""
    warm = min(1.0, progress / 0.01 + 0.02)
    return warm * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress)))


def adam(model: Autoencoder, rates: Rates) -> torch.optim.Adam:
    """One group of parameters for each rate, which it keeps as ``peak``."""
    manifold = model.manifold
    groups = [
        ([*manifold.weights, *manifold.biases], rates.weights),
        ([*model.encoder.parameters()], rates.encoder),
        ([manifold.origin], rates.origin),
        ([manifold.directions], rates.directions),
    ]
    parameters = [{"params": p, "lr": rate, "peak": rate} for p, rate in groups]
    return torch.optim.Adam(parameters, betas=(0.9, 0.99))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Sets every group to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak"]


Validate = Callable[[Autoencoder], tuple[float, dict[str, float]]]
"""Maps an averaged model to a score on unseen instances, lower is better, and its figures."""


class Best(nn.Module):
    """The averaged model at its best validation, part of the resumable state."""

    score: Tensor

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("score", torch.tensor(math.inf))
        self.figures: dict[str, float] = {}

    def offer(self, model: Autoencoder, score: float, figures: dict[str, float]) -> None:
        """Keeps the model if its score is lower than any before."""
        if score < float(self.score):
            self.model.load_state_dict(model.state_dict())
            self.score.fill_(score)
            self.figures = dict(figures)

    def get_extra_state(self) -> dict[str, float]:
        return self.figures

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.figures = dict(state)


def as_text(values: dict[str, float]) -> str:
    """Figures as a line of text."""
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())


LOG_EVERY = 50
"""Steps between two lines of the log."""


class Watch:
    """Logs means over some steps, and validates every ``minutes``."""

    def __init__(
        self, run: Run, ema: Ema[Autoencoder], best: Best, validate: Validate, minutes: float
    ) -> None:
        self.run, self.ema, self.best, self.validate = run, ema, best, validate
        self.minutes, self.judged = minutes, run.seconds / 60
        self.means: dict[str, float] = {}
        self.seen = 0

    def note(self, values: dict[str, float]) -> None:
        """Adds the values of one step."""
        self.seen += 1
        for name, value in values.items():
            mean = self.means.get(name, 0.0)
            self.means[name] = mean + (value - mean) / self.seen
        minute = self.run.seconds / 60
        if self.seen == LOG_EVERY:
            log(f"step {self.run.step} minute {minute:.1f} {as_text(self.means)}")
            self.means, self.seen = {}, 0
        if minute - self.judged > self.minutes:
            self.judge()

    def judge(self) -> None:
        """Validates the average, and keeps it if it is the best."""
        score, figures = self.validate(self.ema.model)
        self.best.offer(self.ema.model, score, figures)
        self.judged = self.run.seconds / 60
        log(f"  validation: {as_text(figures)}; best score {float(self.best.score):.4g}")


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers of its own."""
    return torch.Generator().manual_seed(seed)


def batches(
    data: Data, size: Callable[[], tuple[int, int]], generator: torch.Generator
) -> Generator[tuple[Tensor, Tensor, Tensor]]:
    """Batches without end; the next is made in a thread while one is learnt from.

    Args:
        data: What is learnt from.
        size: Says how many instances, and points of each, the next one has.
        generator: Draws both; nothing else may use it.
    """

    def make() -> tuple[Tensor, Tensor, Tensor]:
        instances, points = size()
        index = torch.randint(len(data), (instances,), generator=generator)
        return data.batch(index, points, generator)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make)
        while True:
            batch = coming.result()
            coming = pool.submit(make)
            yield batch


def train_autoencoder(
    model: Autoencoder, data: Data, validate: Validate, run: Run, args: argparse.Namespace
) -> Best:
    """The first stage; ``args`` has ``instances`` and ``points``, those of a batch.

    Returns:
        The best average, with its figures.
    """
    manifold = model.manifold
    device = manifold.origin.device
    ema, best = Ema(model), Best(model)
    optimizer = adam(model, Rates())
    run.attach(model=model, ema=ema, best=best, optimizer=optimizer)
    generator = seeded(-1 - args.seed - run.step)  # of the noise: batches are drawn beside it
    field = torch.compile(manifold) if args.compile else manifold
    size = (args.instances, args.points)
    made = batches(data, lambda: size, seeded(args.seed + run.step))
    watch = Watch(run, ema, best, validate, args.validate_minutes)
    while run.running():
        inputs, points, target = (t.to(device) for t in next(made))
        mean, log_std = model.encoder(inputs)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        values = field(mean + log_std.exp() * noise, manifold.features(points))
        error = data.error(values, target)
        kl = kl_to_standard_normal(mean, log_std).mean()
        set_rate(optimizer, rate_at(run.progress, 0.05))
        optimizer.zero_grad(set_to_none=True)
        (error + args.kl * kl).backward()
        nn.utils.clip_grad_norm_(manifold.parameters(), 1.0)
        optimizer.step()
        ema.update(model)
        watch.note({"error": float(error.detach()), "kl": float(kl.detach())})
    made.close()
    watch.judge()
    return best
