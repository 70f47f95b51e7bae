"""What every recipe shares: budget, resumable state, EMA, the loop that trains a network."""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from wsdemo.files import whole
from wsdemo.runtime import choose_threads, default_device, tune_allocator


def recipe_parser(description: str, minutes: float) -> argparse.ArgumentParser:
    """The options that all recipes understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=minutes, help="training time in all")
    parser.add_argument("--steps", type=int, default=None, help="end after so many steps instead")
    parser.add_argument("--device", default=None, help="cpu, cuda; default: what is there")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="resumable state")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--toy", action="store_true", help="made-up data and a tiny model")
    return parser


def start(args: argparse.Namespace) -> torch.device:
    """Applies threads and allocator settings and returns the device."""
    tune_allocator()
    choose_threads(args.threads)
    torch.manual_seed(args.seed)
    args.runs.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    return torch.device(args.device or default_device())


def log(text: str) -> None:
    """Prints a line to stderr at once."""
    print(text, file=sys.stderr, flush=True)


class Run:
    """A training run that a later call continues where this one stopped.

    Args:
        path: File of the resumable state.
        minutes: Training time over all calls together.
        steps: Ends the run after so many steps instead, whatever the time.
        save_every: Seconds between saves.
    """

    def __init__(
        self, path: Path, minutes: float, steps: int | None = None, save_every: float = 90.0
    ) -> None:
        self.path, self.minutes, self.steps, self.save_every = path, minutes, steps, save_every
        self.step, self._before = 0, 0.0
        self._started = self._saved = time.monotonic()
        self._parts: dict[str, Any] = {}

    def attach(self, **parts: Any) -> None:
        """Names the objects with a state_dict that belong to the state, and resumes them."""
        self._parts = parts
        if self.path.exists():
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            self.step, self._before = state["step"], state["seconds"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
            log(f"resumed {self.path} at step {self.step}, minute {self._before / 60:.1f}")

    @property
    def seconds(self) -> float:
        """Training seconds so far, earlier calls included."""
        return self._before + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the budget that is used, 0 to 1: drives every schedule."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        return min(1.0, self.seconds / (self.minutes * 60))

    def running(self) -> bool:
        """Counts a step; saves now and then; says whether there is budget left."""
        if time.monotonic() - self._saved > self.save_every:
            self.save()
        if self.progress >= 1.0:
            self.save()
            return False
        self.step += 1
        return True

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        state = {name: part.state_dict() for name, part in self._parts.items()}
        with whole(self.path) as file:
            torch.save({"step": self.step, "seconds": self.seconds, **state}, file)
        self._saved = time.monotonic()


M = TypeVar("M", bound=nn.Module)


class Ema(nn.Module, Generic[M]):
    """Exponential moving average of a module's parameters, with a warm-up."""

    model: M
    updates: Tensor

    def __init__(self, model: M, decay: float = 0.999) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, model: M) -> None:
        """θ̄ ← d θ̄ + (1 − d) θ with d = min(decay, (1 + t) / (10 + t))."""
        self.updates += 1
        t = float(self.updates)
        decay = min(self.decay, (1 + t) / (10 + t))
        for mean, new in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(new.to(mean.dtype), 1 - decay)


Rate = Callable[[float, float], float]
"""Maps progress, 0 to 1, and a peak to a learning rate."""


def warm_cosine(progress: float, peak: float) -> float:
    """Warm-up over 2 % of the budget, then a cosine to 2 % of the peak."""
    warm = min(1.0, progress / 0.02 + 0.01)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def cosine(progress: float, peak: float) -> float:
    """A cosine from the peak to 1 % of it."""
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


SMOOTHED = 200
"""Steps that the loss in the log is a mean of, about."""


class Training(Generic[M]):
    """A network with its average and AdamW, which a run resumes and takes to its end.

    Args:
        network: What is trained, on its device.
        run: Budget and resumable state, which holds ``network``, ``ema`` and ``optimizer``.
        peak: Learning rate, or (a module's parameters, their rate) for several.
        weight_decay: AdamW's.
        rate: Learning rate at a progress; each group of parameters has its own peak.
        clip: Largest norm of the gradient.

    Attributes:
        ema: The average.
        loss: Mean over the last steps.
    """

    def __init__(
        self,
        network: M,
        run: Run,
        peak: float | Sequence[tuple[list[nn.Parameter], float]],
        weight_decay: float = 0.01,
        rate: Rate = warm_cosine,
        clip: float = math.inf,
    ) -> None:
        self.network, self.run, self.rate, self.clip, self.loss = network, run, rate, clip, 0.0
        parts = [(list(network.parameters()), peak)] if isinstance(peak, float) else peak
        self.peaks = [rate_of_part for _, rate_of_part in parts]
        self.ema = Ema(network)
        groups = [{"params": parameters, "lr": rate_of_part} for parameters, rate_of_part in parts]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
        run.attach(network=network, ema=self.ema, optimizer=self.optimizer)
        self.ema.to(next(network.parameters()).device)

    def to_end(
        self,
        loss_of_step: Callable[[], Tensor],
        every: int = 200,
        validate: Callable[[], float] | None = None,
    ) -> dict[str, float]:
        """Trains until the budget is used.

        Args:
            loss_of_step: Draws a batch and returns its loss.
            every: Steps between lines of the log.
            validate: Loss of the average on unseen data, for the log and the figures.

        Returns:
            ``steps``, ``minutes``, ``loss`` unless the budget had been used before, and, if
            validated, ``validation_loss``.
        """
        run, resumed_at = self.run, self.run.step
        while run.running():
            loss = loss_of_step()
            self.step(loss)
            self.loss += (float(loss.detach()) - self.loss) / min(run.step - resumed_at, SMOOTHED)
            if run.step % every == 0:
                text = f"step {run.step} {run.progress:.0%} loss {self.loss:.4f}"
                log(text + (f" validation {validate():.4f}" if validate else ""))
        figures = {"steps": run.step, "minutes": run.seconds / 60}
        figures |= {"loss": self.loss} if run.step > resumed_at else {}
        return figures | ({"validation_loss": validate()} if validate else {})

    def step(self, loss: Tensor) -> None:
        """One step of AdamW, and of the average."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.rate(self.run.progress, peak)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip < math.inf:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        self.ema.update(self.network)
