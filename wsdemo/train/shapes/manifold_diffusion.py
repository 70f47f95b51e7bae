"""Trains the diffusion model of a set of shapes' coordinates on their manifold:

    python -m wsdemo.train.shapes.manifold_diffusion shapes --data MESHES --minutes 10

How: train/manifold/diffusion.py. Shapes are few: each is also there mirrored and stretched, but
not bent, ``--views`` times.
"""

from pathlib import Path

import torch

from wsdemo.domains.registry import domain_named
from wsdemo.train.loop import start
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.manifold.diffusion import (
    Points,
    manifold_diffusion_parser,
    train_manifold_diffusion,
)
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.shapes.data import SETS, Shapes, load_shapes, toy_shapes
from wsdemo.train.shapes.manifold import ShapeViews


@torch.no_grad()
def points_of(stage: Autoencoder, shapes: Shapes, count: int, views: int = 1) -> Points:
    """Shapes as posteriors: as they are, then ``views`` − 1 times deformed.

    Args:
        stage: The encoder.
        shapes: Of one split.
        count: Categories of the condition.
        views: Posteriors a shape.
    """
    data, every = ShapeViews(shapes, bend=0), torch.arange(len(shapes))
    generator, device = torch.Generator().manual_seed(0), stage.manifold.origin.device
    parts = [stage.posterior(data, every)]
    for _ in range(views - 1):
        for some in every.split(128):
            mean, log_std = stage.encoder(data.batch(some, 4, generator)[0].to(device))
            parts.append((mean, log_std.exp()))
    mean, std = (torch.cat(one) for one in zip(*parts, strict=True))
    known = torch.nn.functional.one_hot(shapes.categories, count).float() * 2 - 1
    return Points(mean, std, known.repeat(views, 1)[:, : count if count > 1 else 0])


def main(arguments: list[str] | None = None) -> None:
    parser = manifold_diffusion_parser(str(__doc__), minutes=10)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    parser.add_argument("--views", type=int, default=24, help="of every training shape")
    args = parser.parse_args(arguments)
    device = start(args)
    domain = domain_named(f"{args.set}-manifold")
    categories = SETS[args.set]
    if args.toy:
        shapes, held_out = toy_shapes(32), toy_shapes(8, seed=1)
    else:
        cache = args.runs / "shapes-samples"
        shapes, held_out = (
            load_shapes(args.data, args.set, split, cache, copies=False)
            for split in ("train", "validation")
        )
    stage, meta = load_stage(args.manifold or args.out / f"{domain.name}.safetensors")
    stage = stage.to(device).requires_grad_(False)
    seen = points_of(stage, shapes, len(categories), args.views)
    unseen = points_of(stage, held_out, len(categories))
    names = categories if len(categories) > 1 else ()
    train_manifold_diffusion(domain, stage, meta, seen, unseen, names, args)


if __name__ == "__main__":
    main()
