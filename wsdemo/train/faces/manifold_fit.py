"""Writes the second generation's base, and every face as the point of its manifold:

    python -m wsdemo.train.faces.manifold_fit --data celeba.zip

What that is: train/manifold/points.py; coordinates are what the encoder proposes.
"""

from pathlib import Path

import torch

from wsdemo.domains.faces import FACES_MANIFOLD
from wsdemo.train.faces.data import SPLITS, load_faces, toy_faces
from wsdemo.train.faces.manifold import FaceViews
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.manifold.points import write_base, write_points
from wsdemo.train.population import fits_folder


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    start(args)
    model, meta = load_stage(args.out / f"{FACES_MANIFOLD.name}.safetensors")
    write_base(FACES_MANIFOLD, model.manifold, meta, args.out)
    folder = fits_folder(args.runs, FACES_MANIFOLD.name, model.manifold.layout.config)
    for split in SPLITS:
        faces = toy_faces(64) if args.toy else load_faces(args.data, split)
        z = model.coordinates(FaceViews(faces), torch.arange(len(faces)))
        write_points(model.manifold, z, faces.files, folder / split)


if __name__ == "__main__":
    main()
