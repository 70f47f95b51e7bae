"""Options of the verbs that read weights: fields (cli/fields.py), maps (cli/maps.py) and learning
on LoRAs (cli/lol.py).

Apart from what they run, so that ``--help`` does not import torch and scikit-learn.
"""

import argparse
from collections.abc import Callable, Sequence
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
        result: Result = getattr(import_module(f"wsdemo.cli.{module}"), name)(args)
        return result

    return call


def add_field_verbs(verb: Any, given: Sequence[str]) -> None:
    """Adds sample, fit, decode, render and canonical."""

    def add(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verb(name, later("fields", f"run_{name}"), text)
        if name in given:
            add_domain_options(parser, name)
        return parser

    sample = add("sample", "Draw from the weight diffusion model.")
    sample.add_argument("--count", type=int, default=4)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--steps", type=int, default=50, help="denoising steps")
    sample.add_argument("--out", type=Path, default=Path("outputs"), help="folder")

    fit = add("fit", "Turn a picture or a mesh into weights.")
    fit.add_argument("input", type=Path, metavar="PICTURE|MESH")
    fit.add_argument(
        "--seconds", type=float, default=5.0, help="of fitting; an MLP's start comes on top"
    )
    fit.add_argument(
        "--comparable",
        action="store_true",
        help="fit as the training instances were, for map, edit and predict; takes its own"
        " start and steps, whatever --start, --seconds and --target-psnr say",
    )
    fit.add_argument(
        "--start",
        choices=["spread", "carried"],
        default="spread",
        help="of mLoRA, a picture; carried: sharper, but not for map, edit and predict",
    )
    fit.add_argument("--target-psnr", type=float, default=float("inf"), help="dB")
    fit.add_argument("--representation", default="mlora-asym")
    fit.add_argument("--rank", type=int, default=8, help="for an MLP: hidden width; up to 128")
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--out", type=Path, default=None, help="instance file")

    decode = add("decode", "Render an instance file.")
    decode.add_argument("input", type=Path, metavar="INSTANCE")
    decode.add_argument("--out", type=Path, default=None, help="PNG, or GLB, OBJ, PLY, STL")

    render = add("render", "Draw a picture of a mesh file.")
    render.add_argument("input", type=Path, metavar="MESH")
    render.add_argument("--out", type=Path, default=None, help="PNG file")

    canonical = add("canonical", "Write an instance with canonical factors.")
    canonical.add_argument("input", type=Path, metavar="INSTANCE")
    canonical.add_argument("--out", type=Path, default=None, help="instance file")


def add_domain_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds what the domains themselves bring to a verb."""
    from wsdemo.domains.registry import DOMAINS, mapped_names

    domains = list(DOMAINS.values())
    groups = {
        "sample": [(d, d.detail) for d in domains],
        "fit": [(d, d.framing) for d in domains],
        "decode": [(d, d.detail) for d in domains],
        "render": [(d, d.render_options) for d in domains],
    }.get(name, [])
    if name == "sample":
        parser.add_argument("what", choices=list(DOMAINS))
        for option, key in (("guidance", "guidance"), ("temperature", "temperature")):
            usual = ", ".join(f"{getattr(d, key):g} for {d.name}" for d in domains)
            parser.add_argument(f"--{option}", type=float, default=None, help=f"default: {usual}")
        add_label_options(parser, domains)
    if name == "fit":
        parser.add_argument("--base", choices=list(DOMAINS), default=None, help="default: by file")
    if name == "clusters":
        parser.add_argument("what", choices=mapped_names())
    owners: dict[str, tuple[Any, list[str]]] = {}
    for domain, options in groups:
        for option in options:
            owners.setdefault(option.flag_name, (option, []))[1].append(domain.name)
    for flag, (option, names) in owners.items():
        known: dict[str, Any] = {"dest": option.name, "default": None}
        known["help"] = f"{', '.join(names)}: {option.help}"
        if isinstance(option.default, bool):
            parser.add_argument(flag, action="store_const", const=True, **known)
        else:
            choices = option.choices if isinstance(option.first, str) else None
            parser.add_argument(flag, type=type(option.first), choices=choices, **known)


def add_label_options(parser: argparse.ArgumentParser, domains: Sequence[Any]) -> None:
    """Adds --attribute, --category, and what else instances are told apart by."""
    for labels in {d.labels.one: d.labels for d in domains}.values():
        names = ", ".join(d.name for d in domains if d.labels.one == labels.one)
        if labels.are_exclusive:
            parser.add_argument(f"--{labels.one}", default=None, help=f"{names}: one of them")
        else:
            parser.add_argument(
                f"--{labels.one}", action="append", default=[], metavar="NAME[=no]",
                help=f"{names}; repeatable",
            )  # fmt: skip


def add_map_verbs(verb: Any, existing: Any, given: Sequence[str]) -> None:
    """Adds clusters, neighbours, walk and edit."""

    def reads(args: argparse.Namespace) -> None:
        existing(args.input)

    def reads_two(args: argparse.Namespace) -> None:
        existing(args.first), existing(args.second)

    clusters = verb("clusters", later("maps", "run_clusters"),
                    "Measure clusters of weights on held-out instances.")  # fmt: skip
    if "clusters" in given:
        add_domain_options(clusters, "clusters")
    clusters.add_argument("--representation", default="mlora-asym")
    clusters.add_argument(
        "--attribute", default=None, help="where instances have attributes; default: the usual one"
    )

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
