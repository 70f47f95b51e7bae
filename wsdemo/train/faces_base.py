"""Trains the base field of the faces: ``python -m wsdemo.train.faces_base --data celeba.zip``.

A variational autodecoder (Paper A, Eq. 4): min over w and one Gaussian posterior
per face of  E‖f_w(p, z_i) − x_i(p)‖² + β KL(q_i ‖ N(0, I)).

Ours: for most of the budget a small convolutional encoder proposes the
posteriors, since a latent that is updated once an epoch learns too slowly on a
small budget; then its proposals become free parameters, one posterior per face, and
the paper's objective is trained as it stands. The encoder is kept: it gives fits their
start (fields/encoder.py). The
schedule is progressive: many faces at 32x32 first, fewer points at 64x64 later.
EMA weights are kept, and the scales at the mean latent folded into W.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.checkpoints import base_tensors, save_base, tensors_hash
from wsdemo.fields.base import BaseField, FieldConfig, pixel_grid
from wsdemo.fields.encoder import AmortisedStart, Encoder, save_start
from wsdemo.train.common import Ema, Run, log, recipe_parser, start
from wsdemo.train.faces_data import Faces, load_faces, to_signal, toy_faces


@dataclass(frozen=True)
class Phase:
    """A stretch of the progressive schedule."""

    until: float
    """Share of the budget at which it ends."""
    size: int
    """Pixels a side of the training pictures."""
    faces: int
    """Faces a batch."""
    points: int
    """Random pixels per face."""
    free_latents: bool
    """Whether posteriors are free parameters (autodecoder) or the encoder's."""


PHASES = (
    Phase(until=0.25, size=32, faces=128, points=256, free_latents=False),
    Phase(until=0.75, size=64, faces=96, points=384, free_latents=False),
    Phase(until=1.00, size=64, faces=64, points=576, free_latents=True),
)
TOY = tuple(
    Phase(p.until, size=p.size, faces=8, points=64, free_latents=p.free_latents) for p in PHASES
)
KL_WEIGHT = 1e-4
"""β, against a squared error summed over channels and averaged over pixels."""


def kl_to_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)), summed over the latent: (n, d), (n, d) → (n,)."""
    return 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1)


def _unit(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


class Autoencoder(nn.Module):
    """The field and the encoder that proposes its latents."""

    free_latents: Tensor

    def __init__(self, config: FieldConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.field = BaseField(config, generator)
        self.encoder = Encoder(config.latent_dim)
        self.register_buffer("free_latents", torch.zeros((), dtype=torch.bool))


class Trainer:
    """The state of a run: field, encoder, free posteriors, EMA."""

    def __init__(self, faces: Faces, config: FieldConfig, device: torch.device, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.device = device
        self.images = faces.images
        self.model = Autoencoder(config, g).to(device)
        self.latents = nn.Embedding(2 * len(faces), 2 * config.latent_dim, sparse=True)
        self.latents.to(device)
        self.ema = Ema(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.99))
        self.latent_optimizer = torch.optim.SparseAdam(self.latents.parameters(), lr=0.02)
        # A face and its mirror image are two instances: index i + n is i mirrored.
        self.generator = torch.Generator().manual_seed(seed + 1)

    def batch(self, index: Tensor) -> Tensor:
        """Faces (n,) → (n, 3, 64, 64) in [-1, 1]; indices past the end are mirrored."""
        n = len(self.images)
        images = _unit(self.images[index % n])
        return torch.where((index >= n)[:, None, None, None], images.flip(-1), images)

    @torch.no_grad()
    def start_free_latents(self) -> None:
        """Copies the encoder's proposals into one free posterior per face."""
        for index in torch.arange(2 * len(self.images)).split(256):
            mean, log_std = self.model.encoder(self.batch(index).to(self.device))
            self.latents.weight[index] = torch.cat([mean, log_std], -1)

    def step(self, phase: Phase, lr: float) -> dict[str, float]:
        """One update; returns the squared error and the KL term."""
        g = self.generator
        index = torch.randint(2 * len(self.images), (phase.faces,), generator=g)
        images = self.batch(index).to(self.device)
        if phase.free_latents:
            mean, log_std = self.latents(index.to(self.device)).chunk(2, dim=-1)
        else:
            mean, log_std = self.model.encoder(images)
        noise = torch.randn(mean.shape, generator=g).to(self.device)
        z = mean + log_std.exp() * noise
        if phase.size < images.shape[-1]:
            images = F.avg_pool2d(images, images.shape[-1] // phase.size)
        signal = images.flatten(2).transpose(1, 2)
        pixels = torch.randint(phase.size**2, (phase.faces, phase.points), generator=g)
        points = pixel_grid(phase.size, phase.size)[pixels].to(self.device)
        target = signal.gather(1, pixels[..., None].expand(-1, -1, 3).to(self.device))
        error = (self.model.field(points, z) - target).square().sum(-1).mean()
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
    def psnr(self, images: Tensor) -> float:
        """Mean PSNR in dB of encoding and decoding (n, 3, 64, 64) uint8 faces, EMA weights."""
        field, encoder = self.ema.model.field, self.ema.model.encoder
        mean, _ = encoder(_unit(images).to(self.device))
        points = pixel_grid(*images.shape[-2:]).to(self.device)
        target = to_signal(images).to(self.device)
        values = []
        for z, x in zip(mean.split(16), target.split(16), strict=True):
            mse = (field(points.expand(len(z), -1, -1), z).clamp(-1, 1) - x).square().mean((1, 2))
            values.append(10 * torch.log10(4 / mse))
        return float(torch.cat(values).mean())


def lr_at(progress: float) -> float:
    """Warm-up over 1 % of the budget, then a cosine from 2e-3 to 1e-5."""
    warm = min(1.0, progress / 0.01 + 0.02)
    return 1e-5 + warm * 2e-3 * 0.5 * (1 + math.cos(math.pi * progress))


def phases_of(run: Run, phases: tuple[Phase, ...]) -> Iterator[Phase]:
    """Yields the phase of each step until the budget is used."""
    while run.running():
        yield next(p for p in phases if run.progress <= p.until)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=20)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    device = start(args)
    if args.toy:
        faces, held_out = toy_faces(64), toy_faces(16, seed=1)
        config, phases = FieldConfig(width=32, frequencies=16, blocks=1), TOY
    else:
        faces, held_out = load_faces(args.data, "train"), load_faces(args.data, "validation")
        config, phases = FieldConfig(), PHASES
    log(f"faces base: {len(faces)} faces, {args.minutes} minutes on {device}, saved in {args.runs}")

    trainer = Trainer(faces, config, device, args.seed)
    run = Run(args.runs / "faces-base.pt", args.minutes, args.steps)
    run.attach(
        model=trainer.model,
        latents=trainer.latents,
        ema=trainer.ema,
        optimizer=trainer.optimizer,
        latent_optimizer=trainer.latent_optimizer,
    )
    free = bool(trainer.model.free_latents)
    for phase in phases_of(run, phases):
        if phase.free_latents and not free:
            log(f"latents set free: validation PSNR {trainer.psnr(held_out.images[:64]):.2f} dB")
            trainer.start_free_latents()
            trainer.model.free_latents.fill_(True)
            free = True
        values = trainer.step(phase, lr_at(run.progress))
        if run.step % 100 == 0:
            texts = [f"{k} {v:.4f}" for k, v in values.items()]
            if not free:
                texts.append(f"validation PSNR {trainer.psnr(held_out.images[:64]):.2f} dB")
            log(f"step {run.step} {run.progress:.0%} {' '.join(texts)}")

    figures = {
        "steps": run.step,
        "minutes": run.seconds / 60,
        "faces": len(faces),
        "autoencoder_validation_psnr": trainer.psnr(held_out.images[:128]),
    }
    field = trainer.ema.model.field
    mean = trainer.latents.weight[:, : config.latent_dim].mean(0) if free else torch.zeros(1)
    mean = mean.detach().cpu().expand(config.latent_dim).clone()
    base = field.cpu().freeze(mean)
    meta = {"name": "faces-base", "domain": "image", "size": 64, "toy": args.toy}
    meta["measured"] = figures
    save_base(args.out / "faces-base.safetensors", base, meta)
    start_here = AmortisedStart(trainer.ema.model.encoder.cpu(), field, mean)
    save_start(args.out / "faces-encoder.safetensors", start_here, tensors_hash(base_tensors(base)))


if __name__ == "__main__":
    main()
