"""Trains the diffusion model of the faces' coordinates on their manifold:

    python -m wsdemo.train.faces.manifold_diffusion --data celeba.zip --minutes 30

How: train/manifold/diffusion.py.
"""

from pathlib import Path

import torch

from wsdemo.domains.faces import FACES_MANIFOLD
from wsdemo.train.faces.data import Faces, attributes_of, seen_and_unseen, wished
from wsdemo.train.faces.manifold import FaceViews
from wsdemo.train.loop import start
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.manifold.diffusion import (
    Points,
    manifold_diffusion_parser,
    train_manifold_diffusion,
)
from wsdemo.train.manifold.files import load_stage


def points_of(stage: Autoencoder, faces: Faces, with_mirrors: bool) -> Points:
    """Faces of one split as posteriors, with their mirror images or without."""
    views = FaceViews(faces)
    count = len(views) if with_mirrors else len(faces)
    mean, std = stage.posterior(views, torch.arange(count))
    attributes = attributes_of(faces, wished(faces)).float() * 2 - 1
    return Points(mean, std, attributes.repeat(count // len(faces), 1))


def main(arguments: list[str] | None = None) -> None:
    parser = manifold_diffusion_parser(str(__doc__), minutes=30)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    device = start(args)
    faces, held_out = seen_and_unseen(args.data, args.toy)
    stage, meta = load_stage(args.manifold or args.out / f"{FACES_MANIFOLD.name}.safetensors")
    stage = stage.to(device).requires_grad_(False)
    seen, unseen = points_of(stage, faces, True), points_of(stage, held_out, False)
    train_manifold_diffusion(FACES_MANIFOLD, stage, meta, seen, unseen, wished(faces), args)


if __name__ == "__main__":
    main()
