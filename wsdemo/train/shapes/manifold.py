"""Trains the second-generation base of a set of shapes and its manifold:

    python -m wsdemo.train.shapes.manifold shapes --data MESHES --minutes 45

How: train/manifold/free.py, from the first generation's base, encoder and diffusion model in OUT.
Shapes are few, so each is there as it is, mirrored, and stretched, with a posterior each; they go
to RUNS/SET-manifold-posteriors.safetensors.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.fields.base_files import load_base
from wsdemo.fields.encoder import load_start
from wsdemo.fields.manifold import Manifold
from wsdemo.fields.signal import grid_to_inputs, sdf_to_signal
from wsdemo.generate.diffusion import load_diffusion
from wsdemo.media.sdf import GRID, grid_points
from wsdemo.train.loop import Run, log, recipe_parser, start
from wsdemo.train.manifold.autoencoder import Autoencoder, as_text
from wsdemo.train.manifold.files import save_stage
from wsdemo.train.manifold.free import (
    Posteriors,
    first_coordinates,
    manifold_of_fits,
    train_free,
)
from wsdemo.train.shapes.data import SETS, Shapes, load_shapes, signals, toy_shapes
from wsdemo.train.shapes.stretch import (
    draw_factors,
    gradients_of,
    mirror_axes,
    mirrored,
    sample_grid,
    stretched_distances,
)

KL_WEIGHT = 5e-5
"""β, as for faces."""
NEAR = 0.75
"""Share of a step's points near the surface; the others are nodes of the coarse grid."""
LEAST_INSIDE = 0.1
"""What is solid of a shape's points weighs as half of them, if it is at least this share."""
COPIES = 3
"""Posteriors a training shape: as it is, mirrored, and stretched."""


def balanced_error(values: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of (n, P, 1), inside and outside of each shape counting alike.

    Thin parts have few points inside, which would otherwise be lost among those outside.
    """
    inside = (target < 0).float()
    share = inside.mean(1, keepdim=True).clamp(LEAST_INSIDE, 1 - LEAST_INSIDE)
    weights = torch.where(target < 0, 0.5 / share, 0.5 / (1 - share))
    return (weights * (values - target).abs()).mean()


class ShapeRows:
    """Shapes, then copies of them: every second one mirrored, all but the first two stretched.

    Args:
        shapes: Of one split.
        copies: How often each is there.
    """

    def __init__(self, shapes: Shapes, copies: int = 1) -> None:
        self.shapes, self.copies = shapes, copies
        self.nodes = torch.from_numpy(grid_points(GRID)).float()
        parts = torch.arange(len(shapes)).split(64)
        self.gradients = torch.cat([gradients_of(shapes.grids[p].float()).half() for p in parts])
        axes = mirror_axes(shapes.grids, shapes.categories)
        generator = torch.Generator().manual_seed(0)
        factors = []
        for copy in range(copies):
            own = torch.ones(len(shapes), 3)
            if copy > 1:
                own = draw_factors(len(shapes), generator)
            factors.append(mirrored(own, axes) if copy % 2 else own)
        self.factors = torch.cat(factors)

    def __len__(self) -> int:
        return len(self.factors)

    @property
    def categories(self) -> Tensor:
        """(n,) long, of every row."""
        return self.shapes.categories.repeat(self.copies)

    def error(self, values: Tensor, target: Tensor) -> Tensor:
        """See ``balanced_error``."""
        return balanced_error(values, target)

    def inputs(self, index: Tensor) -> Tensor:
        """(n,) → (n, 1, GRID, GRID, GRID) in [-1, 1]."""
        if int(index.max()) < len(self.shapes):
            return grid_to_inputs(self.shapes.grids[index])
        parts = []
        for part in index.split(64):
            places = self.nodes.expand(len(part), -1, -1) / self.factors[part][:, None]
            distances = self._distances(part, places)
            parts.append(grid_to_inputs(distances.view(len(part), GRID, GRID, GRID)))
        return torch.cat(parts)

    def _distances(self, index: Tensor, places: Tensor, known: Tensor | None = None) -> Tensor:
        """d' (n, P) where places (n, P, 3) of the unstretched shapes go to; ``known`` (n, K) are
        the distances of the first K of them."""
        shape = index % len(self.shapes)
        count = 0 if known is None else known.shape[1]
        grids = self.shapes.grids[shape].float()[:, None]
        d = sample_grid(grids, places[:, count:])[..., 0]
        d = d if known is None else torch.cat([known, d], 1)
        normals = sample_grid(self.gradients[shape].float(), places)
        return stretched_distances(d, normals, self.factors[index])

    def batch(
        self, index: Tensor, points: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (n,), points near their surfaces and of the grid, and values there."""
        shape, near = index % len(self.shapes), int(points * NEAR)
        factors = self.factors[index][:, None]
        size = (len(index), near)
        close = torch.randint(self.shapes.points.shape[1], size, generator=generator)
        rows = shape[:, None]
        nodes = torch.randint(GRID**3, (len(index), points - near), generator=generator)
        volume = self.nodes[nodes]
        places = torch.cat([self.shapes.points[rows, close].float(), volume / factors], 1)
        known = self.shapes.distances[rows, close].float()
        values = sdf_to_signal(self._distances(index, places, known))[..., None]
        return index, torch.cat([places[:, :near] * factors, volume], 1), values


def fit_coordinates(
    manifold: Manifold, z: Tensor, points: Tensor, target: Tensor, steps: int = 100
) -> Tensor:
    """Coordinates (n, K) after gradient steps from z: points (n, P, 3), values (n, P, 1)."""
    z = z.detach().clone().requires_grad_(True)
    features = manifold.features(points)
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(steps):
        loss = balanced_error(manifold(z, features), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return z.detach()


class Held:
    """Shapes that nothing is trained on."""

    def __init__(self, shapes: Shapes, count: int = 40) -> None:
        self.index = torch.arange(min(count, len(shapes)))
        self.rows = ShapeRows(shapes)
        self.points, self.targets = signals(
            shapes, self.index, 2048, 1024, torch.Generator().manual_seed(0)
        )

    def figures(self, model: Autoencoder) -> dict[str, float]:
        """Balanced errors, in units of the truncation: of what the encoder proposes, and after
        gradient steps on z, at points that those did not see."""
        manifold, half = model.manifold.requires_grad_(False), slice(0, None, 2)
        proposed: list[float] = []
        found: list[float] = []
        for part in self.index.split(10):
            points, target = self.points[part], self.targets[part]
            z = model.coordinates(self.rows, part)
            fitted = fit_coordinates(manifold, z, points[:, half], target[:, half])
            unseen = manifold.features(points[:, 1::2])
            for errors, one in ((proposed, z), (found, fitted)):
                values = manifold(one, unseen).clamp(-1, 1)
                errors.append(float(balanced_error(values, target[:, 1::2])))
        return {
            "proposed_error": sum(proposed) / len(proposed),
            "fitted_error": sum(found) / len(found),
            "n": len(self.index),
        }


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = recipe_parser(str(__doc__), minutes=45)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    parser.add_argument("--instances", type=int, default=32, help="shapes a step, later")
    parser.add_argument("--points", type=int, default=640, help="random points a shape, later")
    parser.add_argument("--kl", type=float, default=KL_WEIGHT)
    return parser.parse_args(arguments)


def posteriors_file(runs: Path, name: str) -> Path:
    """Where the posteriors of a set's training shapes lie."""
    return runs / f"{name}-manifold-posteriors.safetensors"


def main(arguments: list[str] | None = None) -> None:
    args = arguments_of(arguments)
    device = start(args)
    name = f"{args.set}-manifold"
    if args.toy:
        shapes, held_out = toy_shapes(32), toy_shapes(8, seed=1)
    else:
        cache = args.runs / "shapes-samples"
        shapes, held_out = (
            load_shapes(args.data, args.set, split, cache, copies=False)
            for split in ("train", "validation")
        )
    base, base_meta = load_base(args.out / f"{args.set}-base.safetensors")
    first, _ = load_diffusion(args.out / f"{args.set}-diffusion.safetensors", base)
    encoder = load_start(args.out / f"{args.set}-encoder.safetensors", base_hash=base_meta["hash"])
    rows = ShapeRows(shapes, COPIES)
    log(f"{name}: {len(rows)} rows of {len(shapes)} shapes, {args.minutes} minutes on {device}")
    model = manifold_of_fits(first, args.seed)
    model.encoder.body.load_state_dict(encoder.encoder.body.state_dict())
    parts = torch.arange(len(rows)).split(64)
    z = torch.cat([first_coordinates(first, encoder, rows.inputs(part)) for part in parts])
    posteriors = Posteriors(z).to(device)
    run = Run(args.runs / f"{name}-free.pt", args.minutes, args.steps)
    averaged = train_free(model.to(device), posteriors, rows, run, args).cpu()
    figures = {"steps": run.step, "minutes": run.seconds / 60, **Held(held_out).figures(averaged)}
    log(f"{name}: {as_text(figures)}")
    meta = {"name": name, "domain": "sdf", "size": 0, "toy": args.toy}
    meta |= {"stages": [{"stage": "free", **figures}], "measured": figures}
    path = args.out / f"{name}.safetensors"
    save_stage(path, averaged, None, meta)
    mean, log_std = posteriors.table.weight.detach().cpu().chunk(2, dim=1)
    stored = {"mean": mean.contiguous(), "std": log_std.exp(), "category": rows.categories}
    facts = {"kind": "posteriors", "names": list(shapes.names)}
    save_checkpoint(posteriors_file(args.runs, args.set), stored, facts)


if __name__ == "__main__":
    main()
