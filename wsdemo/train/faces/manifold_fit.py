"""Writes the second generation's base, and every face as the point of its manifold:

    python -m wsdemo.train.faces.manifold_fit --data celeba.zip

What that is: train/manifold/points.py.
"""

from collections.abc import Sequence
from pathlib import Path

from wsdemo.domains.faces import FACES_MANIFOLD
from wsdemo.train.faces.data import SPLITS, load_faces, toy_faces
from wsdemo.train.faces.manifold import FaceViews
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.manifold.points import write_base_and_points


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    start(args)

    def read(split: str) -> tuple[FaceViews, Sequence[str]]:
        faces = toy_faces(64) if args.toy else load_faces(args.data, split)
        return FaceViews(faces), faces.files

    write_base_and_points(FACES_MANIFOLD, read, SPLITS, args)


if __name__ == "__main__":
    main()
