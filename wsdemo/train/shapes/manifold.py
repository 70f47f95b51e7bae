"""Trains the second-generation base of a set of shapes and its manifold, the first stage:

    python -m wsdemo.train.shapes.manifold shapes --data MESHES --minutes 120

What the stages are: train/manifold/autoencoder.py. Shapes are few: each is deformed anew whenever
it is seen (deform.py), KL weighs more than for faces, and the average with the least error on
validation shapes is kept, as the training error falls long after that rises.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.fields.adapters import AdapterConfig
from wsdemo.fields.base import FieldConfig
from wsdemo.fields.signal import grid_to_inputs, sdf_to_signal
from wsdemo.media.sdf import GRID, grid_points
from wsdemo.train.loop import Run, log, recipe_parser, start
from wsdemo.train.manifold.autoencoder import Autoencoder, as_text, train_autoencoder
from wsdemo.train.manifold.files import load_stage, save_stage
from wsdemo.train.shapes.data import SETS, Shapes, load_shapes, signals, toy_shapes
from wsdemo.train.shapes.deform import (
    BEND,
    Deformation,
    length_of,
    mirror_axes,
    normals_of,
    sample_grid,
)

CONFIG = FieldConfig(in_dim=3, out_dim=1, fourier_scale=3.0, fourier_scale_low=0.7, latent_dim=128)
KL_WEIGHT = 2e-4
"""β, four times that of faces."""
NEAR = 0.75
"""Share of a batch's points near the surface; the others are nodes of the coarse grid."""
LEAST_INSIDE = 0.1
"""What is solid of a shape's points weighs as half of them, if it is at least this share."""


class ShapeViews:
    """Signed distances of shapes, deformed at random.

    Args:
        shapes: Of one split.
        bend: See deform.py.
    """

    def __init__(self, shapes: Shapes, bend: float = BEND) -> None:
        self.shapes, self.bend = shapes, bend
        self.mirror = mirror_axes(shapes.grids, shapes.categories)
        self.nodes = torch.from_numpy(grid_points(GRID)).float()

    def __len__(self) -> int:
        return len(self.shapes)

    def inputs(self, index: Tensor) -> Tensor:
        """(n,) → (n, 1, GRID, GRID, GRID) in [-1, 1]."""
        return grid_to_inputs(self.shapes.grids[index])

    def error(self, values: Tensor, target: Tensor) -> Tensor:
        """Mean absolute error of (n, P, 1), inside and outside of each shape counting alike.

        Thin parts have few points inside, which would otherwise be lost among those outside.
        """
        inside = (target < 0).float()
        share = inside.mean(1, keepdim=True).clamp(LEAST_INSIDE, 1 - LEAST_INSIDE)
        weights = torch.where(target < 0, 0.5 / share, 0.5 / (1 - share))
        return (weights * (values - target).abs()).mean()

    def batch(
        self, index: Tensor, points: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Deformed grids, points near the deformed surface and of the grid, and values there."""
        grids = self.shapes.grids[index].float()
        change = Deformation.draw(self.mirror[index], generator, self.bend)
        normals = normals_of(grids)

        def deformed(p: Tensor, distances: Tensor) -> Tensor:
            # d' = d / ‖J⁻ᵀ n‖: what is stretched is farther away.
            n = sample_grid(normals, p)
            n = n / length_of(n, 2).clamp(min=1e-12)
            return distances / change.stretch_of(p, n).clamp(min=0.1)

        count, near = self.shapes.points.shape[1], int(points * NEAR)
        rows = index[:, None]
        close = torch.randint(count, (len(index), near), generator=generator)
        p = self.shapes.points[rows, close].float()
        d = deformed(p, self.shapes.distances[rows, close].float())
        nodes = self.nodes.expand(len(index), -1, -1)
        sources = change.backwards(nodes)
        coarse = deformed(sources, sample_grid(grids[:, None], sources)[..., 0])
        chosen = torch.randint(GRID**3, (len(index), points - near), generator=generator)
        places = torch.cat([change.forwards(p), self.nodes[chosen]], 1)
        values = sdf_to_signal(torch.cat([d, coarse.gather(1, chosen)], 1))[..., None]
        return grid_to_inputs(coarse.view_as(grids)), places, values


class Held:
    """Shapes that nothing is trained on, as they are."""

    def __init__(self, shapes: Shapes, count: int = 64) -> None:
        self.index = torch.arange(min(count, len(shapes)))
        self.views = ShapeViews(shapes)
        g = torch.Generator().manual_seed(0)
        self.points, self.targets = signals(shapes, self.index, 1536, 512, g)

    @torch.no_grad()
    def by_error(self, model: Autoencoder) -> tuple[float, dict[str, float]]:
        """The loss of encoding and decoding; with it the plain absolute error.

        Both in units of the truncation.
        """
        z = model.coordinates(self.views, self.index)
        features = model.manifold.features
        parts = zip(z.split(8), self.points.to(z).split(8), strict=True)
        values = torch.cat([model.manifold(one, features(points)) for one, points in parts])
        values, target = values.clamp(-1, 1), self.targets.to(z)
        error = float(self.views.error(values, target))
        plain = float((values - target).abs().mean())
        figures = {"validation_error": error, "absolute_error": plain, "n": len(self.index)}
        return error, figures


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = recipe_parser(str(__doc__), minutes=120)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    parser.add_argument("--from-checkpoint", type=Path, help="start there")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--instances", type=int, default=48, help="shapes a step")
    parser.add_argument("--points", type=int, default=384, help="random points a shape")
    parser.add_argument("--kl", type=float, default=KL_WEIGHT)
    parser.add_argument("--validate-minutes", type=float, default=4.0)
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = arguments_of(arguments)
    device = start(args)
    config = CONFIG
    if args.toy:
        shapes, held_out = toy_shapes(32), toy_shapes(8, seed=1)
        config = dataclasses.replace(CONFIG, width=32, frequencies=16, blocks=1, latent_dim=8)
    else:
        cache = args.runs / "shapes-samples"
        shapes = load_shapes(args.data, args.set, "train", cache, copies=False)
        held_out = load_shapes(args.data, args.set, "validation", cache)
    before = []
    if args.from_checkpoint:
        model, meta = load_stage(args.from_checkpoint)
        before = meta["stages"]
    else:
        adapter = AdapterConfig("mlora-asym", args.rank, args.seed, "carried")
        model = Autoencoder(config, adapter, torch.Generator().manual_seed(args.seed))
    run = Run(args.runs / f"{args.set}-manifold-autoencoder.pt", args.minutes, args.steps)
    log(f"{args.set}-manifold: {len(shapes)} shapes, {args.minutes} minutes on {device}")
    held = Held(held_out)
    best = train_autoencoder(model.to(device), ShapeViews(shapes), held.by_error, run, args)
    figures = {"steps": run.step, "minutes": run.seconds / 60, **best.figures}
    log(f"{args.set}-manifold: {as_text(figures)}")
    stages = [*before, {"stage": "autoencoder", **figures}]
    meta = {"name": f"{args.set}-manifold", "domain": "sdf", "size": 0, "toy": args.toy}
    meta |= {"stages": stages, "measured": figures}
    save_stage(args.out / f"{args.set}-manifold.safetensors", best.model.cpu(), None, meta)


if __name__ == "__main__":
    main()
