"""Training one model on a collection of LoRAs: AdamW, early stop by the validation LoRAs."""

import copy
import math
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.data.probes import Probes
from wsdemo.lol.data.tasks import LabelledLoras, Task
from wsdemo.lol.models.networks import AlignedMlp, LolModel, build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.models.probes import ProbeNet
from wsdemo.lol.models.shared import SharedGlNet
from wsdemo.lol.models.spectral import SpectralLinear


@dataclass(frozen=True)
class Budget:
    """How long a model is trained."""

    epochs: int = 60
    """Passes over the training LoRAs."""
    batch: int = 16
    """LoRAs a step."""
    learning_rate: float = 2e-3
    """Peak of AdamW's rate, after a short warm-up; falls to zero by a cosine."""
    weight_decay: float = 0.05
    """AdamW's."""
    patience: int = 15
    """Epochs without a better validation loss after which training stops."""


@dataclass
class Fitted:
    """A trained model.

    Attributes:
        model: With the parameters of its best epoch.
        mean, std: (k,) of the training labels, which regression predicts in units of.
        validation_loss: Of the best epoch.
        epochs: Trained.
        seconds: Used.
        history: Validation loss after each epoch.
    """

    model: LolModel
    mean: Tensor
    std: Tensor
    validation_loss: float
    epochs: int
    seconds: float
    history: list[float] = field(default_factory=list)

    @torch.no_grad()
    def predict(self, pairs: Pairs) -> Tensor:
        """(N, k): values of a regression, logits of yes-or-no labels or of classes."""
        parts = [self.model(part) for part in pairs.chunks(64)]
        return torch.cat(parts) * self.std + self.mean


def task_loss(kind: str, output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of standardised labels, or cross-entropy of the yes-or-no ones known.

    Of a nominal task, whose target is one-hot, the cross-entropy of the softmax.
    """
    if kind == "regression":
        return F.mse_loss(output, target)
    if kind == "nominal":
        return F.cross_entropy(output, target.argmax(1))
    known = target.isfinite()
    return F.binary_cross_entropy_with_logits(output[known], target[known])


def train_model(
    signature: Signature,
    config: ModelConfig,
    task: Task,
    train: LabelledLoras,
    validation: LabelledLoras,
    seed: int,
    budget: Budget | None = None,
    probes: Probes | None = None,
) -> Fitted:
    """Trains a model on labelled LoRAs and keeps its best epoch by the validation loss.

    Raises:
        WsdemoError: That loss is never a number.
    """
    budget = budget or Budget()
    started = time.monotonic()
    train, validation = train.known(task), validation.known(task)
    target, unseen = train.targets(task), validation.targets(task)
    k = target.shape[1]
    mean, std = torch.zeros(k), torch.ones(k)
    if task.kind == "regression":
        mean, std = target.mean(0), target.std(0).clamp(min=1e-6)
    target, unseen = (target - mean) / std, (unseen - mean) / std
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(signature, config, probes)
        if isinstance(model, ProbeNet):  # what is read of a LoRA is far smaller than it is
            train, validation = (
                replace(part, pairs=model.probes.read(part.pairs)) for part in (train, validation)
            )
        model.scale.fit(train.pairs)
        if isinstance(model, AlignedMlp | SharedGlNet | SpectralLinear):
            model.fit(train.pairs)
        result = Fitted(model, mean, std, math.inf, 0, 0.0)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay
        )
        steps = budget.epochs * math.ceil(len(train.names) / budget.batch)
        best, best_epoch, step = copy.deepcopy(model.state_dict()), 0, 0
        for epoch in range(budget.epochs):
            model.train()
            for index in torch.randperm(len(train.names), generator=generator).split(budget.batch):
                rate = min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.param_groups[0]["lr"] = budget.learning_rate * rate
                batch = train.pairs.pick(index).in_full()
                loss = task_loss(task.kind, model(batch), target[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                step += 1
            model.eval()
            value = _loss(model, task.kind, validation.pairs, unseen)
            result.history.append(value)
            result.epochs = epoch + 1
            if value < result.validation_loss:
                result.validation_loss, best = value, copy.deepcopy(model.state_dict())
                best_epoch = epoch
            elif epoch - best_epoch >= budget.patience:
                break
        if not math.isfinite(result.validation_loss):
            raise WsdemoError(
                "Training failed",
                f"After each of {result.epochs} epochs of {config.model} on {task.name} the"
                " validation loss was no number: the factors or labels of some LoRA are too large.",
                "Look at the largest norms (wsdemo inspect) and leave out such LoRAs.",
            )
        model.load_state_dict(best)
    result.seconds = time.monotonic() - started
    model.eval().requires_grad_(False)
    return result


@torch.no_grad()
def _loss(model: LolModel, kind: str, pairs: Pairs, target: Tensor) -> float:
    total, labels = 0.0, 0
    for part, labelled in zip(pairs.chunks(64), target.split(64), strict=True):
        known = int(labelled.isfinite().sum())
        total += float(task_loss(kind, model(part), labelled)) * known
        labels += known
    return total / labels
