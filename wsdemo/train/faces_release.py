"""Writes what the app needs besides the models: ``python -m wsdemo.train.faces_release``.

- ``faces-neighbours``: principal coordinates of every training face's weights, and how
  far unseen real faces are from their nearest training face (memorisation check).
- ``faces-weights``: the fitted weights of the first training faces, whole, with their
  CelebA attributes.
- ``faces-examples``: samples that are on screen before the first click.
"""

from pathlib import Path

import torch

from wsdemo.checkpoints import load_base, save_checkpoint
from wsdemo.generate.diffusion import load_diffusion
from wsdemo.train.common import log, recipe_parser, start
from wsdemo.train.faces_data import load_faces, toy_faces
from wsdemo.train.population import fits_folder, load_fits
from wsdemo.train.weight_diffusion import STORED_COORDINATES

WHOLE = 400
"""Faces whose weights ship whole: 9 MB in fp16."""
EXAMPLE_SEED, EXAMPLES = 2026, 8


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    start(args)
    base, _ = load_base(args.out / "faces-base.safetensors")
    model, _ = load_diffusion(args.out / "faces-diffusion.safetensors", base)
    config = model.adapter.config
    folder = fits_folder(args.runs, "faces", config)
    train, files = load_fits(folder / "train")
    held_out, _ = load_fits(folder / "validation")

    count = min(STORED_COORDINATES, model.prior.basis.shape[1])
    spread = model.prior.variances[:count].sqrt()
    stored = model.prior.coordinates(train.float(), count).half()
    unseen = model.prior.coordinates(held_out.float(), count)
    distances = torch.cdist(unseen * spread, stored.float() * spread).min(1).values
    log(f"unseen faces lie {distances.median():.1f} from the nearest training face (median)")
    save_checkpoint(
        args.out / "faces-neighbours.safetensors",
        {"coordinates": stored, "held_out_distances": distances},
        {"name": "faces-neighbours", "kind": "neighbours", "split": "train"},
    )
    faces = (toy_faces(64) if args.toy else load_faces(args.data, "train")).pick(files)
    save_checkpoint(
        args.out / "faces-weights.safetensors",
        {"instances": train[:WHOLE], "attributes": faces.attributes[:WHOLE]},
        {
            "name": "faces-weights",
            "kind": "weights",
            "files": files[:WHOLE],
            "attributes": list(faces.attribute_names),
            "adapter": vars(config),
        },
    )
    save_checkpoint(
        args.out / "faces-examples.safetensors",
        {"instances": model.draw(EXAMPLES, EXAMPLE_SEED, steps=50).half()},
        {"name": "faces-examples", "kind": "examples", "seed": EXAMPLE_SEED},
    )


if __name__ == "__main__":
    main()
