"""Options of the verbs that read weights: maps (cli/maps.py) and learning on LoRAs (cli/lol.py).

Apart from what they run, so that ``--help`` does not import torch and scikit-learn.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Checks = Callable[[argparse.Namespace], None]


def later(module: str, name: str, check: Checks | None = None) -> Callable[..., Result]:
    """A function of another module, imported when it is called, after checking the paths."""

    def call(args: argparse.Namespace) -> Result:
        if check is not None:
            check(args)
        found: Result = getattr(import_module(f"wsdemo.cli.{module}"), name)(args)
        return found

    return call


def add_map_verbs(verb: Any, existing: Any) -> None:
    """Adds clusters, neighbours, walk and edit."""

    def reads(args: argparse.Namespace) -> None:
        existing(args.input)

    def reads_two(args: argparse.Namespace) -> None:
        existing(args.first), existing(args.second)

    clusters = verb("clusters", later("maps", "run_clusters"),
                    "Measure clusters of weights on held-out instances.")  # fmt: skip
    clusters.add_argument("what", choices=("faces", "shapes"))
    clusters.add_argument("--representation", default="mlora-asym")
    clusters.add_argument("--attribute", default=None, help="faces: default Male")

    near = verb("neighbours", later("maps", "run_neighbours", reads),
                "Find the fitted instances with the nearest weights.")  # fmt: skip
    near.add_argument("input", type=Path, metavar="INSTANCE")
    near.add_argument("--count", type=int, default=8)

    walk = verb("walk", later("maps", "run_walk", reads_two),
                "Decode the straight line between two instances.")  # fmt: skip
    walk.add_argument("first", type=Path)
    walk.add_argument("second", type=Path)
    walk.add_argument("--steps", type=int, default=9)
    walk.add_argument("--out", type=Path, default=Path("outputs/walk"), help="folder")

    edit = verb("edit", later("maps", "run_edit", reads),
                "Move a fitted face along an attribute's direction.")  # fmt: skip
    edit.add_argument("input", type=Path, metavar="INSTANCE")
    edit.add_argument("--attribute", required=True)
    edit.add_argument("--strength", type=float, default=1.0)
    edit.add_argument("--plain", action="store_true", help="difference of means, not debiased")
    edit.add_argument("--out", type=Path, required=True, help="instance file")


def add_lol_verbs(verb: Any, verbs: Any, make_parser: Any, make_folder: Any) -> None:
    """Adds predict, and lol train, evaluate, list, examples."""

    def own(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--predictor",
            action="append",
            default=[],
            metavar="PATH_OR_REPO",
            help="of your own; repeatable",
        )

    def writes(args: argparse.Namespace) -> None:
        make_folder(args.out)

    predict = verb("predict", later("lol", "run_predict"),
                   "Predict a LoRA's labels from its weights.")  # fmt: skip
    predict.add_argument("input", metavar="FILE_OR_REPO")
    own(predict)
    lol = verbs.add_parser("lol", help="Train and judge predictors of LoRAs.")
    inner = lol.add_subparsers(dest="lol_verb", required=True, parser_class=make_parser)

    def sub(name: str, text: str, check: Checks | None = None) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(name, help=text, description=text)
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.set_defaults(run=later("lol", f"run_{name}", check))
        return parser

    train = sub("train", "Train a predictor on a folder of LoRAs.", writes)
    evaluate = sub("evaluate", "Measure a predictor on labelled LoRAs.")
    for parser in (train, evaluate):
        parser.add_argument("--loras", type=Path, required=True, help="folder of .safetensors")
        parser.add_argument("--labels", type=Path, required=True, help="CSV with a column 'file'")
    train.add_argument("--out", type=Path, required=True, help="folder of the predictor")
    train.add_argument("--name", default=None, help="default: the folder's")
    train.add_argument("--seeds", type=int, default=3, help="models of the ensemble")
    train.add_argument("--models", nargs="+", default=None, help="default: all")
    evaluate.add_argument("--predictor", required=True, metavar="PATH_OR_REPO")
    own(sub("list", "List the predictors that are there."))
    examples = sub("examples", "Write the shipped test LoRAs and their labels.", writes)
    examples.add_argument("--out", type=Path, required=True, help="folder")
