"""Trains the weight diffusion model of a set of shapes on the fits of ``shapes_fit``:

    python -m wsdemo.train.shapes.diffusion shapes --minutes 45

How: train/weight_diffusion.py. The condition is the category, one entry each. With so few
shapes the weights are kept to 128 principal directions, and the network reads and writes these
alone (generate/coordinates.py).
"""

import torch
from torch import Tensor

from wsdemo.domains.registry import domain_named
from wsdemo.train.loop import start
from wsdemo.train.shapes.data import RENAMED, SETS
from wsdemo.train.weight_diffusion import diffusion_parser, train_diffusion


def main(arguments: list[str] | None = None) -> None:
    parser = diffusion_parser(str(__doc__), directions=128, width=512)
    parser.set_defaults(coordinates=True, batch=128)
    parser.add_argument("set", choices=sorted(SETS))
    args = parser.parse_args(arguments)
    device = start(args)
    categories = SETS[args.set]
    names = categories if len(categories) > 1 else ()

    def labels(_: str, files: list[str]) -> Tensor:
        classes = [RENAMED.get(f.split("/")[0], f.split("/")[0]) for f in files]
        rows = [[float(name == category) for name in names] for category in classes]
        return torch.tensor(rows).view(len(files), len(names))

    train_diffusion(domain_named(args.set), names, labels, args, device)


if __name__ == "__main__":
    main()
