"""Writes the second generation's base, and every shape as the point of its manifold:

    python -m wsdemo.train.shapes.manifold_fit shapes --data MESHES

What that is: train/manifold/points.py. A training shape's point is its posterior's mean; others
are found by gradient steps from what the encoder proposes.
"""

from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint
from wsdemo.domains.registry import domain_named
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.manifold.points import write_base, write_points
from wsdemo.train.population import fits_folder
from wsdemo.train.shapes.data import SETS, Shapes, load_shapes, signals, toy_shapes
from wsdemo.train.shapes.manifold import ShapeRows, fit_coordinates, posteriors_file

NEAR, VOLUME = 3072, 1024
"""Points of a shape that its coordinates are found by."""


def found_coordinates(model: Autoencoder, shapes: Shapes) -> Tensor:
    """Coordinates (n, K) of shapes."""
    rows, manifold = ShapeRows(shapes), model.manifold.requires_grad_(False)
    found = []
    for part in torch.arange(len(shapes)).split(10):
        points, target = signals(shapes, part, NEAR, VOLUME, torch.Generator().manual_seed(0))
        found.append(fit_coordinates(manifold, model.coordinates(rows, part), points, target))
    return torch.cat(found)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    args = parser.parse_args(arguments)
    start(args)
    domain = domain_named(f"{args.set}-manifold")
    model, meta = load_stage(args.out / f"{domain.name}.safetensors")
    write_base(domain, model.manifold, meta, args.out)
    folder = fits_folder(args.runs, domain.name, model.manifold.layout.config)
    known, facts = load_checkpoint(posteriors_file(args.runs, args.set))
    write_points(model.manifold, known["mean"][: len(facts["names"])], facts["names"],
                 folder / "train")  # fmt: skip
    for split in ("validation", "test"):
        if args.toy:
            shapes = toy_shapes(8)
        else:
            shapes = load_shapes(args.data, args.set, split, args.runs / "shapes-samples")
        write_points(model.manifold, found_coordinates(model, shapes), shapes.names, folder / split)


if __name__ == "__main__":
    main()
