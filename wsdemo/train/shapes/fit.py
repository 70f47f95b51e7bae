"""Fits one adapter to every shape of a set:

python -m wsdemo.train.shapes.fit shapes --data MESHES --workers 2
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.domains.registry import domain_named
from wsdemo.domains.shapes import SHAPES
from wsdemo.fields.signal import grid_to_inputs
from wsdemo.train.loop import start
from wsdemo.train.population import population_parser, run_population
from wsdemo.train.shapes.data import SETS, Shapes, load_shapes, signals, toy_shapes

NEAR, VOLUME = 24_576, 6_144
"""Points of a shape that its fit draws from, near the surface and of the coarse grid."""


class ShapeCollection:
    """Shapes as signed distances, each at points of its own."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    @property
    def names(self) -> Sequence[str]:
        return self.shapes.names

    def inputs(self, index: Tensor) -> Tensor:
        """(n, 1, GRID, GRID, GRID) in [-1, 1]."""
        return grid_to_inputs(self.shapes.grids[index])

    def signal(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """(n, P, 3) points and (n, P, 1) truncated distances."""
        return signals(self.shapes, index, NEAR, VOLUME, torch.Generator().manual_seed(0))


def main(arguments: list[str] | None = None) -> None:
    parser = population_parser(str(__doc__), SHAPES)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    args = parser.parse_args(arguments)
    device = start(args)
    if args.toy:
        shapes = toy_shapes(32)
    else:
        cache = args.runs / "shapes-samples"
        end = args.first + args.count if args.count else None
        shapes = load_shapes(args.data, args.set, args.split, cache, count=end)
    given = sys.argv[1:] if arguments is None else arguments
    recipe = ["wsdemo.train.shapes.fit", *given]
    run_population(domain_named(args.set), ShapeCollection(shapes), recipe, args, device)


if __name__ == "__main__":
    main()
