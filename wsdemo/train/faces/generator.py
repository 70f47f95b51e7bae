"""Trains the text-conditional face generator on the fits of ``faces_fit``:

    python -m wsdemo.train.faces.generator --data celeba.zip --minutes 25

Reads the weights of the fitted training faces as principal coordinates of faces-diffusion's
prior. Captions are made anew at every step; one in seven is dropped.
"""

import dataclasses
import random
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.generate.clip import FaceClip, shipped_clip
from wsdemo.generate.diffusion import prior_hash
from wsdemo.generate.text_to_face import (
    FaceGenerator,
    GeneratorConfig,
    GeneratorNetwork,
    shipped_decoder,
)
from wsdemo.train.faces.clip import captions_of
from wsdemo.train.faces.data import Faces, load_faces, toy_faces
from wsdemo.train.loop import Run, Training, log, recipe_parser, start
from wsdemo.train.population import load_fits

DROPPED = 1 / 7
"""Share of captions left out, so that the model also draws without one."""


def face_coordinates(runs: Path, split: str) -> tuple[Tensor, list[str]]:
    """(n, K) coordinates of the fitted faces of a split, and their files."""
    prior = shipped_decoder().prior
    weights, files = load_fits(runs / "faces-fit" / "mlora-asym-r8" / split)
    parts = [prior.project(prior.standardise(w.float())) for w in weights.split(500)]
    return torch.cat(parts), files


def toy_coordinates(faces: Faces) -> tuple[Tensor, Tensor]:
    """Made-up coordinates that depend on the attributes, and their variances."""
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(faces.attributes.shape[1], 64, generator=g)
    y = faces.attributes.float() @ mix + 0.3 * torch.randn(len(faces), 64, generator=g)
    y = y - y.mean(0)
    return y, y.var(0)


def batch_of(
    y: Tensor, faces: Faces, size: int, rng: random.Random, generator: torch.Generator
) -> tuple[Tensor, list[str]]:
    """Random coordinates and captions of them, some dropped."""
    index = torch.randint(len(y), (size,), generator=generator)
    texts = captions_of(faces, index, rng)
    return y[index], ["" if rng.random() < DROPPED else text for text in texts]


@torch.no_grad()
def validation_loss(model: FaceGenerator, y: Tensor, faces: Faces) -> float:
    """Mean loss on unseen faces with a fixed caption and noise each."""
    g, rng = torch.Generator().manual_seed(1), random.Random(1)
    texts = captions_of(faces, torch.arange(len(y)), rng)
    return float(model.loss(y, model.read(texts), g).mean())


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=25)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args(arguments)
    device = start(args)
    if args.toy:
        faces, unseen = toy_faces(64), toy_faces(32, seed=1)
        (y, variances), (y_unseen, _) = toy_coordinates(faces), toy_coordinates(unseen)
        config = GeneratorConfig(64, 32, 48, 2, 2)
        clip, of_prior = FaceClip(len(faces.attribute_names)).eval().requires_grad_(False), "toy"
    else:
        prior = shipped_decoder().prior
        y, files = face_coordinates(args.runs, "train")
        faces = load_faces(args.data, "train").pick(files)
        y_unseen, files = face_coordinates(args.runs, "validation")
        unseen = load_faces(args.data, "validation").pick(files)
        variances, config, clip = prior.variances, GeneratorConfig(), shipped_clip()
        of_prior = prior_hash(prior)
    network = GeneratorNetwork(config).to(device)
    run = Run(args.runs / "faces-generator.pt", args.minutes, args.steps)
    training = Training(network, run, args.rate, clip=1.0)
    model = FaceGenerator(network, variances, clip)
    averaged = FaceGenerator(training.ema.model, variances, clip)
    count = sum(p.numel() for p in network.parameters())
    log(f"face generator: {len(y)} faces, {count / 1e6:.1f} M parameters, {args.minutes} minutes")
    rng = random.Random(args.seed + run.step)
    generator = torch.Generator().manual_seed(args.seed + run.step)

    def loss() -> Tensor:
        rows, texts = batch_of(y, faces, args.batch, rng, generator)
        return model.loss(rows.to(device), model.read(texts), generator).mean()

    figures = training.to_end(
        loss, every=250, validate=lambda: validation_loss(averaged, y_unseen.to(device), unseen)
    )
    figures |= {"faces": len(y)}
    save_checkpoint(
        args.out / "faces-generator.safetensors",
        {k: v.half() for k, v in training.ema.model.cpu().state_dict().items()},
        {"name": "faces-generator", "kind": "generator", "toy": args.toy, "prior": of_prior,
         "network": dataclasses.asdict(config), "measured": figures},
    )  # fmt: skip


if __name__ == "__main__":
    main()
