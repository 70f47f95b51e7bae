"""Writes what the app needs besides the models: ``python -m wsdemo.train.shapes_release shapes``.

- ``SET-neighbours``: see train/release.py.
- ``SET-examples``: samples that are on screen before the first click, with their pictures.
"""

import numpy as np
import torch

from wsdemo.checkpoints import save_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.media.render import render
from wsdemo.shape_pipelines import TEMPERATURE, decode_shape
from wsdemo.train.common import log, recipe_parser, start
from wsdemo.train.release import load_model, save_neighbours
from wsdemo.train.shapes_data import SETS

EXAMPLE_SEED, EXAMPLES = 2026, 8
PICTURE = 192
"""Pixels a side of an example's picture."""


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=sorted(SETS))
    args = parser.parse_args(arguments)
    start(args)
    model, folder = load_model(args.set, args)
    save_neighbours(args.set, model, folder, args.out)
    names = model.attribute_names
    # One of each category, while there are categories.
    wishes = [{n: n == names[i % len(names)] for n in names} for i in range(EXAMPLES)]
    condition = torch.cat([model.condition(wish, 1) for wish in wishes])
    options = {"steps": 50, "guidance": 2.0, "attributes": condition, "temperature": TEMPERATURE}
    instances = model.draw(EXAMPLES, EXAMPLE_SEED, **options)
    pictures = []
    for i, weights in enumerate(instances):
        try:
            pictures.append(render(decode_shape(weights, model.adapter), PICTURE))
        except WsdemoError as error:
            log(f"example {i}: {error}")
            pictures.append(np.full((PICTURE, PICTURE, 3), 255, dtype=np.uint8))
    save_checkpoint(
        args.out / f"{args.set}-examples.safetensors",
        {
            "instances": instances.half(),
            "pictures": torch.from_numpy(np.stack(pictures)),
        },
        {
            "name": f"{args.set}-examples",
            "kind": "examples",
            "set": args.set,
            "seed": EXAMPLE_SEED,
        },
    )
    log(f"{len(instances)} examples of {args.set}")


if __name__ == "__main__":
    main()
