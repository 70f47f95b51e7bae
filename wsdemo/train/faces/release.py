"""Writes what the app needs besides the models: ``python -m wsdemo.train.faces.release``.

- ``faces-neighbours``: see train/release.py.
- ``faces-weights``: the fitted weights of the first training faces, whole, with their
  CelebA attributes.
- ``faces-examples``: samples that are on screen before the first click.
"""

from pathlib import Path

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.faces import FACES
from wsdemo.train.faces.data import load_faces, toy_faces
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.population import load_fits
from wsdemo.train.release import load_model, save_neighbours

WHOLE = 150
"""Faces whose weights ship whole: 3.4 MB in fp16."""
EXAMPLE_SEED, EXAMPLES = 2026, 8


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    start(args)
    model, folder = load_model(FACES, args)
    train = save_neighbours(FACES, model, folder, args.out)
    _, files = load_fits(folder / "train")
    faces = (toy_faces(64) if args.toy else load_faces(args.data, "train")).pick(files)
    save_checkpoint(
        args.out / "faces-weights.safetensors",
        {"instances": train[:WHOLE], "attributes": faces.attributes[:WHOLE]},
        {
            "name": "faces-weights",
            "kind": "weights",
            "files": files[:WHOLE],
            "attributes": list(faces.attribute_names),
            "adapter": vars(model.adapter.config),
        },
    )
    save_checkpoint(
        args.out / "faces-examples.safetensors",
        {"instances": model.draw(EXAMPLES, EXAMPLE_SEED, steps=50).half()},
        {"name": "faces-examples", "kind": "examples", "seed": EXAMPLE_SEED},
    )


if __name__ == "__main__":
    main()
