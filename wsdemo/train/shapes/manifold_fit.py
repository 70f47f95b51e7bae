"""Writes the second generation's base, and every shape as the point of its manifold:

    python -m wsdemo.train.shapes.manifold_fit shapes --data MESHES

What that is: train/manifold/points.py. Stretched copies and test shapes are among them.
"""

from collections.abc import Sequence
from pathlib import Path

from wsdemo.domains.registry import domain_named
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.manifold.points import write_base_and_points
from wsdemo.train.shapes.data import SETS, load_shapes, toy_shapes
from wsdemo.train.shapes.manifold import ShapeViews

SPLITS = ("train", "validation", "test")


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, help="folder of meshes")
    args = parser.parse_args(arguments)
    start(args)
    cache = args.runs / "shapes-samples"

    def read(split: str) -> tuple[ShapeViews, Sequence[str]]:
        if args.toy:
            shapes = toy_shapes(32)
        else:
            shapes = load_shapes(args.data, args.set, split, cache, copies=False)
        return ShapeViews(shapes), shapes.names

    write_base_and_points(domain_named(f"{args.set}-manifold"), read, SPLITS, args)


if __name__ == "__main__":
    main()
