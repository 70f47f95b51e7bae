"""Fits one adapter to every face: ``python -m wsdemo.train.faces.fit --data celeba.zip``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from wsdemo.domains.faces import FACES
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.base_files import load_base
from wsdemo.fields.signal import image_to_signal
from wsdemo.train.faces.data import SPLITS, Faces, load_faces, to_signal, toy_faces
from wsdemo.train.loop import start
from wsdemo.train.population import base_file, population_parser, run_population


class FaceCollection:
    """Faces as signals over one pixel grid."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces

    @property
    def names(self) -> Sequence[str]:
        return self.faces.files

    def inputs(self, index: Tensor) -> Tensor:
        """(n, 3, size, size) in [-1, 1]."""
        return image_to_signal(self.faces.images[index])

    def signal(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """(P, 2) pixel centres and (n, P, 3) colours."""
        images = self.faces.images[index]
        return pixel_grid(*images.shape[-2:]), to_signal(images)


def main(arguments: list[str] | None = None) -> None:
    parser = population_parser(str(__doc__), FACES, tuple(SPLITS))
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    device = start(args)
    size = load_base(base_file(FACES, args))[1]["size"]
    faces = toy_faces(64, size) if args.toy else load_faces(args.data, args.split, size)
    given = sys.argv[1:] if arguments is None else arguments
    recipe = ["wsdemo.train.faces.fit", *given]
    run_population(FACES, FaceCollection(faces), recipe, args, device)


if __name__ == "__main__":
    main()
