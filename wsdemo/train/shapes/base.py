"""Trains the base field of a set of shapes:

    python -m wsdemo.train.shapes.base airplane --data MESHES --minutes 15
    python -m wsdemo.train.shapes.base shapes --data MESHES --minutes 20

A variational autodecoder (train/autodecoder.py) of truncated signed distances. A phase's
detail is the share of points that lie near the surface; the others come from the coarse grid.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.domains.registry import domain_named
from wsdemo.fields.base import FieldConfig
from wsdemo.fields.signal import grid_to_inputs
from wsdemo.train.autodecoder import Phase, Trainer, train_base
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.shapes.data import SETS, Shapes, load_shapes, signals, toy_shapes

CONFIG = FieldConfig(in_dim=3, out_dim=1, fourier_scale=3.0, fourier_scale_low=0.7)
PHASES = (
    Phase(until=0.25, detail=0.50, instances=96, points=256, free_latents=False),
    Phase(until=0.75, detail=0.75, instances=64, points=512, free_latents=False),
    Phase(until=1.00, detail=0.85, instances=48, points=768, free_latents=True),
)
TOY = tuple(dataclasses.replace(p, instances=4, points=512) for p in PHASES)


class ShapeData:
    """Signed distances of shapes."""

    absolute = True

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def inputs(self, index: Tensor) -> Tensor:
        """(n,) → (n, 1, GRID, GRID, GRID) in [-1, 1]."""
        return grid_to_inputs(self.shapes.grids[index])

    def batch(
        self, index: Tensor, inputs: Tensor, phase: Phase, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random points, near the surface and of the grid."""
        near = int(phase.points * phase.detail)
        return signals(self.shapes, index, near, phase.points - near, generator)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=20)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    args = parser.parse_args(arguments)
    device = start(args)
    cache = args.runs / "shapes-samples"
    if args.toy:
        shapes, held_out = toy_shapes(8), toy_shapes(8, seed=1)
        config = dataclasses.replace(CONFIG, width=32, frequencies=16, blocks=1)
        phases = TOY
    else:
        shapes = load_shapes(args.data, args.set, "train", cache)
        held_out = load_shapes(args.data, args.set, "validation", cache)
        config, phases = CONFIG, PHASES
    chosen = torch.arange(min(64, len(held_out)))
    points, targets = signals(held_out, chosen, 1536, 512, torch.Generator().manual_seed(0))
    inputs = grid_to_inputs(held_out.grids[chosen])

    def validate(trainer: Trainer) -> float:
        return trainer.psnr(inputs, points, targets)

    domain = domain_named(args.set)
    train_base(domain, ShapeData(shapes), config, phases, validate, 0, args, device)


if __name__ == "__main__":
    main()
