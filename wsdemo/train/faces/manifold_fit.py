"""Writes the second generation's base, and every face as the point of its manifold.

    python -m wsdemo.train.faces.manifold_fit --data celeba.zip

``OUT/faces-manifold-base`` is the base (W, b) that instances are read with. The instances ε₀ + P z
of the z that the encoder proposes lie, as fits do (train/population.py), in
``RUNS/faces-manifold-fit``, a folder a split: neighbours and map are made from them.
"""

from pathlib import Path

import torch

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.faces import FACES_MANIFOLD
from wsdemo.fields.base_files import save_base
from wsdemo.train.faces.data import SPLITS, load_faces, toy_faces
from wsdemo.train.faces.manifold import FaceViews
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.manifold.autoencoder import Autoencoder
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.population import SHARD, fits_folder


@torch.no_grad()
def write_points(model: Autoencoder, views: FaceViews, files: list[str], folder: Path) -> None:
    """Writes the points (n, D) of faces in shards, as fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    z = model.coordinates(views, torch.arange(len(files)))
    for first in range(0, len(z), SHARD):
        part = slice(first, first + SHARD)
        save_checkpoint(
            folder / f"shard-{first:06d}.safetensors",
            {"instances": model.manifold.instances(z[part]).half()},
            {"files": files[part]},
        )


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    start(args)
    domain = FACES_MANIFOLD
    model, meta = load_stage(args.out / f"{domain.name}.safetensors")
    facts = {key: meta[key] for key in ("domain", "size", "toy")}
    base = args.out / f"{domain.base_name}.safetensors"
    save_base(base, model.manifold.base(), {"name": domain.base_name, **facts})
    folder = fits_folder(args.runs, domain.name, model.manifold.layout.config)
    for split in SPLITS:
        faces = toy_faces(64) if args.toy else load_faces(args.data, split)
        write_points(model, FaceViews(faces), list(faces.files), folder / split)
        log(f"{len(faces)} faces of {split}")


if __name__ == "__main__":
    main()
