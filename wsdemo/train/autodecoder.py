"""Variational autodecoder: how every base field is trained (Paper A, Eq. 4).

    min over w and one Gaussian posterior q_i per instance of
    E_q L(f_w(p, z_i) − x_i(p)) + β KL(q_i ‖ N(0, I))

L is the squared error for pictures, the absolute one for signed distances (fields/fit.py).

Ours: for most of the budget a small convolutional encoder proposes the posteriors, since a
latent that is updated once an epoch learns too slowly on a small budget; then its proposals
become free parameters, one posterior per instance, and the paper's objective is trained as it
stands. The encoder is kept: it gives fits their start (fields/encoder.py). The schedule is
progressive: many instances and coarse points first, fewer instances and fine points later.
EMA weights are kept, and the scales at the mean latent folded into W.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from wsdemo.checkpoints import tensors_hash
from wsdemo.domains.domain import Domain
from wsdemo.fields.base import BaseField, FieldConfig
from wsdemo.fields.base_files import base_tensors, save_base
from wsdemo.fields.encoder import AmortisedStart, Encoder, save_start
from wsdemo.fields.fit import psnr_from_mse
from wsdemo.train.loop import Ema, Run, log

KL_WEIGHT = 1e-4
"""β, against an error summed over channels and averaged over points."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the progressive schedule."""

    until: float
    """Share of the budget at which it ends."""
    detail: float
    """How fine the training points are; what it means is the data's business."""
    instances: int
    """Instances a batch."""
    points: int
    """Random points per instance."""
    free_latents: bool
    """Whether posteriors are free parameters (autodecoder) or the encoder's."""


class Data(Protocol):
    """What a base is trained on."""

    def __len__(self) -> int:
        """Instances, mirror images included."""

    def inputs(self, index: Tensor) -> Tensor:
        """What the encoder reads of instances (n,): (n, channels, …) float."""

    absolute: bool
    """Whether L is the absolute error."""

    def batch(
        self, index: Tensor, inputs: Tensor, phase: Phase, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random points (n, P, in_dim) of instances (n,) and their values (n, P, out_dim)."""


def kl_to_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)), summed over the latent: (n, d), (n, d) → (n,)."""
    return 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1)


def lr_at(progress: float) -> float:
    """Warm-up over 1 % of the budget, then a cosine from 2e-3 to 1e-5."""
    warm = min(1.0, progress / 0.01 + 0.02)
    return 1e-5 + warm * 2e-3 * 0.5 * (1 + math.cos(math.pi * progress))


class Autoencoder(nn.Module):
    """The field and the encoder that proposes its latents."""

    free_latents: Tensor

    def __init__(self, config: FieldConfig, side: int, generator: torch.Generator) -> None:
        super().__init__()
        self.field = BaseField(config, generator)
        self.encoder = Encoder(config.latent_dim, config.in_dim, side)
        self.register_buffer("free_latents", torch.zeros((), dtype=torch.bool))


class Trainer:
    """The state of a run: field, encoder, free posteriors, EMA."""

    def __init__(self, data: Data, config: FieldConfig, device: torch.device, seed: int) -> None:
        self.data, self.device = data, device
        side = data.inputs(torch.arange(1)).shape[-1]
        self.model = Autoencoder(config, side, torch.Generator().manual_seed(seed)).to(device)
        self.latents = nn.Embedding(len(data), 2 * config.latent_dim, sparse=True).to(device)
        self.ema = Ema(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.99))
        self.latent_optimizer = torch.optim.SparseAdam(self.latents.parameters(), lr=0.02)
        self.generator = torch.Generator().manual_seed(seed + 1)

    @torch.no_grad()
    def start_free_latents(self) -> None:
        """Copies the encoder's proposals into one free posterior per instance."""
        for index in torch.arange(len(self.data)).split(256):
            mean, log_std = self.model.encoder(self.data.inputs(index).to(self.device))
            self.latents.weight[index] = torch.cat([mean, log_std], -1)

    def step(self, phase: Phase, lr: float) -> dict[str, float]:
        """One update; returns the error and the KL term."""
        g = self.generator
        index = torch.randint(len(self.data), (phase.instances,), generator=g)
        inputs = self.data.inputs(index)
        if phase.free_latents:
            mean, log_std = self.latents(index.to(self.device)).chunk(2, dim=-1)
        else:
            mean, log_std = self.model.encoder(inputs.to(self.device))
        noise = torch.randn(mean.shape, generator=g).to(self.device)
        z = mean + log_std.exp() * noise
        points, target = self.data.batch(index, inputs, phase, g)
        values = self.model.field(points.to(self.device), z)
        residual = values - target.to(self.device)
        error = (residual.abs() if self.data.absolute else residual.square()).sum(-1).mean()
        kl = kl_to_standard_normal(mean, log_std).mean()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        self.latent_optimizer.zero_grad(set_to_none=True)
        (error + KL_WEIGHT * kl).backward()
        nn.utils.clip_grad_norm_(self.model.field.parameters(), 1.0)
        self.optimizer.step()
        if phase.free_latents:
            self.latent_optimizer.step()
        self.ema.update(self.model)
        return {"error": float(error.detach()), "kl": float(kl.detach())}

    @torch.no_grad()
    def psnr(self, inputs: Tensor, points: Tensor, targets: Tensor) -> float:
        """Mean PSNR in dB of encoding and decoding, EMA weights.

        Args:
            inputs: (n, channels, …) what the encoder reads.
            points: (P, in_dim), or (n, P, in_dim).
            targets: (n, P, out_dim) in [-1, 1].
        """
        field, encoder = self.ema.model.field, self.ema.model.encoder
        mean, _ = encoder(inputs.to(self.device))
        points = points.expand(len(inputs), -1, -1)
        values = []
        for z, p, x in zip(mean.split(16), points.split(16), targets.split(16), strict=True):
            shown = field(p.to(self.device), z).clamp(-1, 1)
            mse = (shown - x.to(self.device)).square().mean((1, 2))
            values.append(psnr_from_mse(mse))
        return float(torch.cat(values).mean())


def train_base(
    domain: Domain,
    data: Data,
    config: FieldConfig,
    phases: tuple[Phase, ...],
    validate: Callable[[Trainer], float],
    size: int,
    args: argparse.Namespace,
    device: torch.device,
) -> None:
    """Trains NAME-base and NAME-encoder for the budget in ``args`` and writes both.

    Args:
        domain: Whose: its name is that of the checkpoints and the resumable state.
        data: Training instances.
        config: Shape of the field.
        phases: The progressive schedule.
        validate: PSNR in dB of encoding and decoding unseen instances.
        size: Pixels a side of the instances, which the domain's size comes from; 0: none.
        args: Of ``recipe_parser``.
        device: Where to train.
    """
    name = domain.name
    log(f"{name}-base: {len(data)} instances, {args.minutes} minutes on {device}")
    trainer = Trainer(data, config, device, args.seed)
    run = Run(args.runs / f"{name}-base.pt", args.minutes, args.steps)
    run.attach(
        model=trainer.model,
        latents=trainer.latents,
        ema=trainer.ema,
        optimizer=trainer.optimizer,
        latent_optimizer=trainer.latent_optimizer,
    )
    trainer.generator.manual_seed(args.seed + 1 + run.step)  # a resumed run draws afresh
    free = bool(trainer.model.free_latents)
    while run.running():
        phase = next(p for p in phases if run.progress <= p.until)
        if phase.free_latents and not free:
            log(f"latents set free: validation PSNR {validate(trainer):.2f} dB")
            trainer.start_free_latents()
            trainer.model.free_latents.fill_(True)
            free = True
        values = trainer.step(phase, lr_at(run.progress))
        if run.step % 100 == 0:
            texts = [f"{k} {v:.4f}" for k, v in values.items()]
            if not free:
                texts.append(f"validation PSNR {validate(trainer):.2f} dB")
            log(f"step {run.step} {run.progress:.0%} {' '.join(texts)}")

    figures = {
        "steps": run.step,
        "minutes": run.seconds / 60,
        "instances": len(data),
        "autoencoder_validation_psnr": validate(trainer),
    }
    field = trainer.ema.model.field
    mean = trainer.latents.weight[:, : config.latent_dim].mean(0) if free else torch.zeros(1)
    mean = mean.detach().cpu().expand(config.latent_dim).clone()
    base = field.cpu().freeze(mean)
    meta = {
        "domain": domain.kind, "size": size, "name": domain.base_name, "toy": args.toy,
        "measured": figures,
    }  # fmt: skip
    save_base(args.out / f"{name}-base.safetensors", base, meta)
    start_here = AmortisedStart(trainer.ema.model.encoder.cpu(), field, mean)
    encoder_path = args.out / f"{name}-encoder.safetensors"
    save_start(encoder_path, start_here, tensors_hash(base_tensors(base)))
