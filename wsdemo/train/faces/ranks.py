"""Fits faces in every representation and rank that the predictors of face fields learn from:

    python -m wsdemo.train.faces.ranks --data celeba.zip

LoRA, mLoRA and mLoRA-Asym at ranks 1 to 16: at each rank 1,000 training and 100 validation faces
of its own, and the same 200 test faces. mLoRA-Asym at rank 8 is left to ``faces_fit``, which fits
all faces for the diffusion model. About 70 minutes on one CPU core; a later call continues.
"""

import itertools
from pathlib import Path

from wsdemo.train.faces import fit as faces_fit
from wsdemo.train.loop import recipe_parser

REPRESENTATIONS = ("lora", "mlora", "mlora-asym")
RANKS = (1, 2, 4, 8, 16)
COUNTS = {"train": 1000, "validation": 100, "test": 200}
TOY_COUNTS = {"train": 8, "validation": 4, "test": 4}
ELSEWHERE = ("mlora-asym", 8)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--base", type=Path, default=None, help="default: OUT/faces-base")
    args = parser.parse_args(arguments)
    common = [f"--runs={args.runs}", f"--out={args.out}", *(["--toy"] if args.toy else [])]
    for name in ("data", "device", "threads", "steps", "base"):
        if value := getattr(args, name):
            common.append(f"--{name}={value}")
    for representation, (place, rank) in itertools.product(REPRESENTATIONS, enumerate(RANKS)):
        if (representation, rank) == ELSEWHERE:
            continue
        for split, count in (TOY_COUNTS if args.toy else COUNTS).items():
            first = 0 if split == "test" else place * count
            faces_fit.main(
                [*common, f"--representation={representation}", f"--rank={rank}",
                 f"--split={split}", f"--first={first}", f"--count={count}"]
            )  # fmt: skip


if __name__ == "__main__":
    main()
