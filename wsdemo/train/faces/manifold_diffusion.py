"""Trains a diffusion model of the coordinates z of faces on their manifold, and draws from it.

    python -m wsdemo.train.faces.manifold_diffusion --data celeba.zip --minutes 30

It is a model of weights as any other (generate/diffusion.py): its prior is that of the weights
ε₀ + P z, and has a direction for each coordinate, all of which the network reads and writes. Each
time a face is seen its z is drawn anew from the encoder's posterior: the manifold was trained so,
and 8,000 faces last longer. A mixture of Gaussians (generate/mixture.py) is estimated afterwards,
in a minute. It knows more than the network learns of how coordinates go together, so it draws what
nothing is wished of, and the network adds what wishes change.

The z of ``--draw`` fields go to RUNS/faces-manifold-latents.safetensors: the stage *drawn* of
``manifold --latents`` then shows the discriminator what is really drawn.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.faces import FACES_MANIFOLD
from wsdemo.fields.manifold import Manifold
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion, save_diffusion
from wsdemo.generate.manifold_prior import prior_of_manifold
from wsdemo.generate.mixture import Mixture
from wsdemo.generate.prior import GaussianPrior
from wsdemo.train.faces.data import Faces, attributes_of, seen_and_unseen, wished
from wsdemo.train.faces.manifold import FaceViews
from wsdemo.train.loop import Run, Training, log, recipe_parser, start
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.weight_diffusion import drop_attributes, validation_loss


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


class Points:
    """What is learnt from: faces as posteriors on the manifold, and their attributes.

    Args:
        stage: Manifold and encoder.
        faces: Of one split.
        with_mirrors: Whether their mirror images count too.
    """

    def __init__(self, stage: Autoencoder, faces: Faces, with_mirrors: bool) -> None:
        views = FaceViews(faces)
        count = len(views) if with_mirrors else len(faces)
        self.mean, self.std = stage.posterior(views, torch.arange(count))
        attributes = attributes_of(faces, wished(faces)).float() * 2 - 1
        self.conditions = attributes.repeat(count // len(faces), 1)

    def z(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Draws z (n, K) of the posteriors of some: what shows the same faces just as well."""
        mean, std = self.mean[index.to(self.mean.device)], self.std[index.to(self.mean.device)]
        return mean + std * torch.randn(mean.shape, generator=generator).to(mean.device)


def add_mixture(
    network: CoordinateNetwork, y: Tensor, variances: Tensor, args: argparse.Namespace
) -> None:
    """Puts a mixture of the coordinates y (n, K) beside a trained network, which then adds what
    wishes change."""
    mixed = min(args.mixed, len(variances))
    mixture = Mixture(args.components, mixed).to(y.device)
    network.mixture = mixture.fit(y, variances, args.seed)
    network.config = dataclasses.replace(network.config, components=args.components, mixed=mixed)


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = recipe_parser(str(__doc__), minutes=30)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--manifold", type=Path, help="default: OUT/faces-manifold.safetensors")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--components", type=int, default=64, help="of the mixture; 0: none")
    parser.add_argument("--mixed", type=int, default=96, help="coordinates that it describes")
    parser.add_argument("--draw", type=int, default=0, help="fields whose z are kept")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = arguments_of(arguments)
    device = start(args)
    faces, held_out = seen_and_unseen(args.data, args.toy)
    stage, meta = load_stage(args.manifold or args.out / "faces-manifold.safetensors")
    stage = stage.to(device).requires_grad_(False)
    manifold, names = stage.manifold, wished(faces)
    seen, unseen = Points(stage, faces, True), Points(stage, held_out, False)
    count = len(seen.mean)
    generator = torch.Generator().manual_seed(args.seed)
    prior = prior_of_manifold(manifold, seen.z(torch.arange(count), generator))
    offset, matrix = linear_scores(prior, manifold)
    x_held = offset + unseen.z(torch.arange(len(held_out)), generator) @ matrix
    conditions_held = unseen.conditions.to(device)

    config = CoordinateConfig(len(matrix), len(names), args.width, args.depth)
    network = CoordinateNetwork(config).to(device)
    adapter, learnt = manifold.adapter(), GaussianPrior.of_coordinates(prior.variances)
    model = WeightDiffusion(adapter, learnt, network, names)
    run = Run(args.runs / "faces-manifold-diffusion.pt", args.minutes, args.steps)
    training = Training(network, run, args.rate, clip=1.0)
    averaged = WeightDiffusion(adapter, learnt, training.ema.model, names)
    log(f"faces-manifold-diffusion: {count} instances, {args.minutes} minutes on {device}")
    generator = torch.Generator().manual_seed(args.seed + run.step)

    def loss() -> Tensor:
        index = torch.randint(count, (args.batch,), generator=generator)
        given = drop_attributes(seen.conditions[index], generator).to(device)
        return model.loss(offset + seen.z(index, generator) @ matrix, given, generator).mean()

    figures = training.to_end(
        loss, every=500, validate=lambda: validation_loss(averaged, x_held, conditions_held)
    )
    figures |= {"instances": count}
    network = training.ema.model
    if args.components:
        known = offset + seen.z(torch.arange(count), generator) @ matrix
        add_mixture(network, known, prior.variances, args)
        model = WeightDiffusion(adapter, learnt, network, names)
        figures["validation_loss_with_mixture"] = validation_loss(model, x_held, conditions_held)
    full = WeightDiffusion(adapter, prior, network.cpu(), names)
    base = {"name": FACES_MANIFOLD.base_name, "hash": meta["hash"]}
    save_diffusion(
        args.out / "faces-manifold-diffusion.safetensors", full,
        {"name": "faces-manifold-diffusion", "domain": "image", "size": 64, "toy": args.toy,
         "base": base, "measured": figures},
    )  # fmt: skip
    if args.draw:
        drawn = draw_latents(full, manifold.cpu(), args.draw, seed=50_000)
        path = args.runs / "faces-manifold-latents.safetensors"
        save_checkpoint(path, {"z": drawn}, {"kind": "latents", "hash": meta["hash"]})


if __name__ == "__main__":
    main()
