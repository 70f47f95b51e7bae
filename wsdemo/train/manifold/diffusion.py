"""Trains a diffusion model of the coordinates z of instances on a manifold, and draws from it.

It is a model of weights as any other (generate/diffusion.py): its prior is that of the weights
ε₀ + P z, and has a direction for each coordinate, all of which the network reads and writes. Each
time an instance is seen its z is drawn anew from the encoder's posterior: the manifold was trained
so, and few instances last longer. A mixture of Gaussians (generate/mixture.py) is estimated
afterwards, in a minute. It knows more than the network learns of how coordinates go together, so
it draws what nothing is wished of, and the network adds what wishes change.

The z of ``--draw`` fields go to RUNS/SET-latents.safetensors: the stage *drawn* of
``manifold --latents`` then shows the discriminator what is really drawn.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.fields.manifold import Manifold
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion, save_diffusion
from wsdemo.generate.manifold_prior import prior_of_manifold
from wsdemo.generate.mixture import Mixture
from wsdemo.generate.prior import GaussianPrior
from wsdemo.train.loop import Run, Training, log, recipe_parser
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.weight_diffusion import drop_attributes, validation_loss


@dataclass(frozen=True)
class Points:
    """What is learnt from: instances as posteriors on the manifold, and what is known of them.

    Attributes:
        mean, std: (n, K), as the encoder proposes them.
        conditions: (n, a) in {−1, 1}.
    """

    mean: Tensor
    std: Tensor
    conditions: Tensor

    def __len__(self) -> int:
        return len(self.mean)

    def z(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Draws z (n, K) of the posteriors of some: what shows the same instances just as well."""
        mean, std = self.mean[index.to(self.mean.device)], self.std[index.to(self.mean.device)]
        return mean + std * torch.randn(mean.shape, generator=generator).to(mean.device)


def scores(prior: GaussianPrior, manifold: Manifold, z: Tensor) -> Tensor:
    """(n, K) projections of the standardised weights ε₀ + P z onto the prior's directions."""
    return prior.project(prior.standardise(manifold.instances(z)))


def linear_scores(prior: GaussianPrior, manifold: Manifold) -> tuple[Tensor, Tensor]:
    """(1, K) b and (K, K) A of ``scores`` = b + z A."""
    one = torch.eye(manifold.config.latent_dim, device=manifold.origin.device)
    offset = scores(prior, manifold, 0 * one[:1])
    return offset, scores(prior, manifold, one) - offset


def draw_latents(model: WeightDiffusion, manifold: Manifold, count: int, seed: int) -> Tensor:
    """Coordinates (count, K) of drawn weights."""
    weights = [
        model.draw(min(100, count - i), seed=seed + i, steps=30) for i in range(0, count, 100)
    ]
    return torch.cat([manifold.project(w) for w in weights])


def add_mixture(
    network: CoordinateNetwork, y: Tensor, variances: Tensor, args: argparse.Namespace
) -> None:
    """Puts a mixture of the coordinates y (n, K) beside a trained network, which then adds what
    wishes change."""
    mixed = min(args.mixed, len(variances))
    mixture = Mixture(args.components, mixed).to(y.device)
    network.mixture = mixture.fit(y, variances, args.seed)
    network.config = dataclasses.replace(network.config, components=args.components, mixed=mixed)


def save_model(
    domain: Domain, model: WeightDiffusion, meta: Mapping[str, Any], figures: dict[str, float],
    out: Path,
) -> None:  # fmt: skip
    """Writes the diffusion model of a domain whose manifold has the given metadata."""
    facts = {key: meta[key] for key in ("domain", "size", "toy")}
    name, base = f"{domain.name}-diffusion", {"name": domain.base_name, "hash": meta["hash"]}
    full = {"name": name, **facts, "base": base, "measured": figures}
    save_diffusion(out / f"{name}.safetensors", model, full)


def manifold_diffusion_parser(description: str, minutes: float) -> argparse.ArgumentParser:
    """The options of a recipe that trains a model on a manifold."""
    parser = recipe_parser(description, minutes=minutes)
    parser.add_argument("--manifold", type=Path, help="default: OUT/SET.safetensors")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--components", type=int, default=64, help="of the mixture; 0: none")
    parser.add_argument("--mixed", type=int, default=96, help="coordinates that it describes")
    parser.add_argument("--draw", type=int, default=0, help="fields whose z are kept")
    return parser


def train_manifold_diffusion(
    domain: Domain, stage: Autoencoder, meta: dict[str, Any], seen: Points, unseen: Points,
    names: Sequence[str], args: argparse.Namespace,
) -> None:  # fmt: skip
    """Trains a model for the budget in ``args`` and writes it.

    Args:
        domain: On whose manifold.
        stage: Manifold and encoder, on the device to train on.
        meta: Of their checkpoint.
        seen, unseen: Instances to learn from, and to judge by.
        names: Of the condition's entries.
        args: Of ``manifold_diffusion_parser``.
    """
    manifold = stage.manifold
    device = manifold.origin.device
    generator = torch.Generator().manual_seed(args.seed)
    prior = prior_of_manifold(manifold, seen.z(torch.arange(len(seen)), generator))
    offset, matrix = linear_scores(prior, manifold)
    x_held = offset + unseen.z(torch.arange(len(unseen)), generator) @ matrix
    conditions_held = unseen.conditions.to(device)

    config = CoordinateConfig(len(matrix), len(names), args.width, args.depth)
    network = CoordinateNetwork(config).to(device)
    adapter, learnt = manifold.adapter(), GaussianPrior.of_coordinates(prior.variances)
    model = WeightDiffusion(adapter, learnt, network, names)
    run = Run(args.runs / f"{domain.name}-diffusion.pt", args.minutes, args.steps)
    training = Training(network, run, args.rate, clip=1.0)
    averaged = WeightDiffusion(adapter, learnt, training.ema.model, names)
    log(f"{domain.name}-diffusion: {len(seen)} instances, {args.minutes} minutes on {device}")
    generator = torch.Generator().manual_seed(args.seed + run.step)

    def loss() -> Tensor:
        index = torch.randint(len(seen), (args.batch,), generator=generator)
        given = drop_attributes(seen.conditions[index], generator).to(device)
        return model.loss(offset + seen.z(index, generator) @ matrix, given, generator).mean()

    figures = training.to_end(
        loss, every=500, validate=lambda: validation_loss(averaged, x_held, conditions_held)
    )
    figures |= {"instances": len(seen)}
    network = training.ema.model
    if args.components:
        known = offset + seen.z(torch.arange(len(seen)), generator) @ matrix
        add_mixture(network, known, prior.variances, args)
        model = WeightDiffusion(adapter, learnt, network, names)
        figures["validation_loss_with_mixture"] = validation_loss(model, x_held, conditions_held)
    full = WeightDiffusion(adapter, prior, network.cpu(), names)
    save_model(domain, full, meta, figures, args.out)
    if args.draw:
        drawn = draw_latents(full, manifold.cpu(), args.draw, seed=50_000)
        path = args.runs / f"{domain.name}-latents.safetensors"
        save_checkpoint(path, {"z": drawn}, {"kind": "latents", "hash": meta["hash"]})
