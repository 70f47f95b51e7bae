"""Writes what the app needs besides the models:

    python -m wsdemo.train.faces.release --data celeba.zip
    python -m wsdemo.train.faces.release faces-manifold

- ``SET-neighbours``: see train/release.py.
- ``faces-weights``: the fitted weights of the first training faces, whole, with their
  CelebA attributes.
- ``SET-examples``: samples that are on screen before the first click.
"""

from argparse import Namespace
from pathlib import Path

from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.faces import FACES, FACES_MANIFOLD
from wsdemo.domains.registry import domain_named
from wsdemo.generate.diffusion import WeightDiffusion
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
    names = [FACES.name, FACES_MANIFOLD.name]
    parser.add_argument("set", nargs="?", default=FACES.name, choices=names)
    args = parser.parse_args(arguments)
    start(args)
    domain = domain_named(args.set)
    model, folder = load_model(domain, args)
    train = save_neighbours(domain, model, folder, args.out)
    if domain is FACES:
        save_weights(train, folder, model, args)
    heat = domain.temperature
    drawn = model.draw(EXAMPLES, EXAMPLE_SEED, steps=50, temperature=heat)
    save_checkpoint(
        args.out / f"{domain.name}-examples.safetensors",
        {"instances": drawn.half()},
        {"name": f"{domain.name}-examples", "kind": "examples", "seed": EXAMPLE_SEED},
    )


def save_weights(train: Tensor, folder: Path, model: WeightDiffusion, args: Namespace) -> None:
    """Writes ``faces-weights``, of the training faces (n, D) of a population."""
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


if __name__ == "__main__":
    main()
