"""Trains the weight diffusion model of the faces on the fits of ``faces_fit``:

    python -m wsdemo.train.faces.diffusion --data celeba.zip

How: train/weight_diffusion.py. The network reads and writes the first 64 principal coordinates,
in which most of a face lies; the prior draws the other 448. Fits of the mirrored faces
(``faces_fit --split train-mirrored``) are learnt from as well if they are there: without them the
loss on validation faces rises after six minutes on one CPU core. ``--no-coordinates`` trains the
papers' transformer over rank-one pairs instead.
"""

from pathlib import Path

from torch import Tensor

from wsdemo.domains.faces import FACES, LABELS
from wsdemo.train.faces.data import attributes_of, load_faces, toy_faces, wished
from wsdemo.train.loop import start
from wsdemo.train.weight_diffusion import diffusion_parser, train_diffusion


def main(arguments: list[str] | None = None) -> None:
    parser = diffusion_parser(str(__doc__), directions=512, width=384)
    parser.set_defaults(coordinates=True, summary=64, batch=256, minutes=12)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    device = start(args)
    names = [*wished(toy_faces(1))] if args.toy else [*LABELS]

    def labels(split: str, files: list[str]) -> Tensor:
        faces = (toy_faces(64) if args.toy else load_faces(args.data, split)).pick(files)
        return attributes_of(faces, names)

    train_diffusion(FACES, names, labels, args, device)


if __name__ == "__main__":
    main()
