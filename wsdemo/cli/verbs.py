"""Options of the verbs that read weights: fields (cli/fields.py), maps (cli/maps.py) and learning
on LoRAs (cli/lol.py).

Apart from what they run, so that ``--help`` does not import torch and scikit-learn.
"""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from wsdemo.limits import (
    MAX_DIFFUSION_STEPS,
    MAX_ENSEMBLE,
    MAX_FIT_SECONDS,
    MAX_FIT_STEPS,
    MAX_GUIDANCE,
    MAX_IMPORTED_FILES,
    MAX_MLP_WIDTH,
    MAX_SEED,
    MAX_TEMPERATURE,
)

Result = dict[str, Any]
SEED = f"0 to {MAX_SEED}"
INSTANCE = "file that fit or sample wrote"
MEANINGS = {
    "guidance": "how much is made of what is wished; 1: plain conditioning",
    "temperature": "below 1: more typical, less various",
}
Checks = Callable[[argparse.Namespace], None]


def later(module: str, name: str, check: Checks | None = None) -> Callable[..., Result]:
    """A function of another module, imported when it is called, after checking the paths."""

    def call(args: argparse.Namespace) -> Result:
        if check is not None:
            check(args)
        result: Result = getattr(import_module(f"wsdemo.cli.{module}"), name)(args)
        return result

    return call


def add_field_verbs(verb: Any, arguments: Sequence[str]) -> None:
    """Adds sample, fit, decode, render and canonical."""

    def add(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verb(name, later("fields", f"run_{name}"), text)
        if name in arguments:
            add_domain_options(parser, name)
        return parser

    sample = add("sample", "Draw from the weight diffusion model.")
    sample.add_argument("--seed", type=int, default=0, help=SEED)
    sample.add_argument(
        "--steps", type=int, default=50, help=f"of denoising, 1 to {MAX_DIFFUSION_STEPS}"
    )
    sample.add_argument("--out", type=Path, default=Path("outputs"), help="folder")

    fit = add("fit", "Turn a picture or a mesh into weights.")
    fit.add_argument("input", type=Path, metavar="ORIGINAL", help="by the ending of its name")
    fit.add_argument(
        "--out", type=Path, default=None,
        help="instance file, .safetensors; default: beside the original",
    )  # fmt: skip

    decode = add("decode", "Render an instance file.")
    decode.add_argument("input", type=Path, metavar="INSTANCE", help=INSTANCE)
    decode.add_argument(
        "--out", type=Path, default=None,
        help="PNG, or GLB, OBJ, PLY, STL; default: beside the instance",
    )  # fmt: skip

    render = add("render", "Draw a picture of a mesh file.")
    render.add_argument("input", type=Path, metavar="MESH", help="by the ending of its name")
    render.add_argument("--out", type=Path, default=None, help="PNG file; default: beside the mesh")

    canonical = add("canonical", "Write an instance with canonical factors.")
    canonical.add_argument("input", type=Path, metavar="INSTANCE", help=INSTANCE)
    canonical.add_argument(
        "--out", type=Path, default=None,
        help="instance file, .safetensors; default: NAME.canonical.safetensors",
    )  # fmt: skip


def add_fit_options(parser: argparse.ArgumentParser, domains: Sequence[Any]) -> None:
    """Adds what all domains understand of a fit; without a value, FitOptions has the default."""
    from wsdemo.domains.domain import FitOptions
    from wsdemo.fields.adapters import REPRESENTATIONS

    usual = FitOptions()
    for domain in {d.kind: d for d in domains}.values():
        parser.epilog = (parser.epilog or "") + (
            f"{domain.original.capitalize()}: {', '.join(domain.reads)}.\n"
        )
    known: dict[str, Any] = {"default": None}
    parser.add_argument(
        "--base", choices=[d.name for d in domains], **known,
        help="which of several read such a file; default: the first",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, **known,
        help=f"of the whole fit, 0.1 to {MAX_FIT_SECONDS:g}; an MLP's start and measuring come on"
        f" top; default: {usual.seconds:g}",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, **known,
        help=f"to make instead, 1 to {MAX_FIT_STEPS}: the same bytes every time",
    )  # fmt: skip
    parser.add_argument(
        "--comparable", action="store_true",
        help="fit as the training instances were, for map, edit and predict: with their start and"
        " steps, and so without --start, --seconds, --steps and --target-psnr",
    )  # fmt: skip
    parser.add_argument(
        "--start", choices=["spread", "carried"], **known,
        help="of mLoRA; carried, of a picture: sharper, but not for map, edit and predict; default:"
        f" {usual.start}",
    )  # fmt: skip
    parser.add_argument(
        "--target-psnr", type=float, **known, help="dB, 0 or more, at which it ends; default: none"
    )
    parser.add_argument(
        "--representation", choices=REPRESENTATIONS, **known,
        help=f"default: {usual.representation}",
    )  # fmt: skip
    parser.add_argument(
        "--rank", type=int, **known,
        help=f"1 to the base's width; of an MLP the hidden width, 1 to {MAX_MLP_WIDTH}; default:"
        f" {usual.rank}",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, **known, help=f"{SEED}; default: {usual.seed}")


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
        parser.add_argument("what", choices=list(DOMAINS), help="what is drawn")
        most = ", ".join(f"{d.most} {d.name}" for d in domains)
        parser.add_argument("--count", type=int, default=4, help=f"1 to {most}")
        for wish, highest in (("guidance", MAX_GUIDANCE), ("temperature", MAX_TEMPERATURE)):
            usual = ", ".join(f"{getattr(d, wish):g} for {d.name}" for d in domains)
            parser.add_argument(
                f"--{wish}", type=float, default=None,
                help=f"{MEANINGS[wish]}, 0 to {highest:g}; default: {usual}",
            )  # fmt: skip
        add_label_options(parser, domains)
    if name == "fit":
        add_fit_options(parser, domains)
    if name == "clusters":
        parser.add_argument("what", choices=mapped_names(), help="whose map")
    owners: dict[str, tuple[Any, list[str]]] = {}
    for domain, options in groups:
        for each in options:
            owners.setdefault(each.flag_name, (each, []))[1].append(domain.name)
    for flag, (option, names) in owners.items():
        known: dict[str, Any] = {"dest": option.name, "default": None}
        bounds = f", {option.bounds[0]:g} to {option.bounds[1]:g}" if option.bounds else ""
        usual = "" if option.default in (None, False) else f"; default: {option.default}"
        known["help"] = f"{', '.join(names)}: {option.help}{bounds}{usual}"
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


def add_map_verbs(verb: Any, existing: Any, arguments: Sequence[str]) -> None:
    """Adds clusters, neighbours, walk and edit."""

    def reads(args: argparse.Namespace) -> None:
        existing(args.input)

    def reads_two(args: argparse.Namespace) -> None:
        existing(args.first), existing(args.second)

    clusters = verb("clusters", later("maps", "run_clusters"),
                    "Measure clusters of weights on held-out instances.")  # fmt: skip
    if "clusters" in arguments:
        add_domain_options(clusters, "clusters")
    clusters.add_argument(
        "--representation", default="mlora-asym", help="whose weights, of those on the map"
    )
    clusters.add_argument(
        "--attribute", default=None, help="where instances have attributes; default: the usual one"
    )

    near = verb("neighbours", later("maps", "run_neighbours", reads),
                "Find the fitted instances with the nearest weights.")  # fmt: skip
    near.add_argument("input", type=Path, metavar="INSTANCE", help=INSTANCE)
    near.add_argument("--count", type=int, default=8, help="1 to the number of points")

    walk = verb("walk", later("maps", "run_walk", reads_two),
                "Decode the straight line between two instances.")  # fmt: skip
    walk.add_argument("first", type=Path, help=INSTANCE)
    walk.add_argument("second", type=Path, help="another of the same kind")
    walk.add_argument("--steps", type=int, default=9, help="2 to 65, both ends among them")
    walk.add_argument("--out", type=Path, default=Path("outputs/walk"), help="folder")

    edit = verb("edit", later("maps", "run_edit", reads),
                "Move a fitted face along an attribute's direction.")  # fmt: skip
    edit.add_argument("input", type=Path, metavar="INSTANCE", help=INSTANCE)
    edit.add_argument("--attribute", required=True, help="of the map's, such as Smiling")
    edit.add_argument(
        "--strength", type=float, default=1.0, help="-5 to 5; 1: the mean difference between both"
    )
    edit.add_argument("--plain", action="store_true", help="difference of means, not debiased")
    edit.add_argument("--out", type=Path, required=True, help="instance file")


def add_lol_verbs(verb: Any, verbs: Any, make_parser: Any, folder_for: Any) -> str:
    """Adds predict, and lol train, evaluate, list, examples; returns what lol does."""

    def predictor_option(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--predictor",
            action="append",
            default=[],
            metavar="PATH_OR_REPO",
            help="of your own; repeatable",
        )

    def writes(args: argparse.Namespace) -> None:
        folder_for(args.out)

    predict = verb("predict", later("lol", "run_predict"),
                   "Predict a LoRA's labels from its weights.")  # fmt: skip
    predict.add_argument("input", metavar="FILE_OR_REPO", help=".safetensors, or owner/name")
    predictor_option(predict)
    about = "Train and judge predictors of LoRAs."
    lol = verbs.add_parser("lol", help=about, description=about)
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
    train.add_argument(
        "--seeds", type=int, default=3, help=f"models of the ensemble, 1 to {MAX_ENSEMBLE}"
    )
    train.add_argument("--models", nargs="+", default=None, help="default: all")
    evaluate.add_argument(
        "--predictor", required=True, metavar="PATH_OR_REPO", help="what lol train wrote"
    )
    predictor_option(sub("list", "List the predictors that are there."))
    taken = sub("import", "Write a public collection as a folder with labels.csv.", writes)
    taken.add_argument(
        "source", metavar="SOURCE",
        help="owner/name, datasets/owner/name[:subset], owner, collections/owner/slug, or a folder",
    )  # fmt: skip
    taken.add_argument("--out", type=Path, required=True, help="folder; what is there is kept")
    taken.add_argument("--base", default="", help="of several base models, the one to take")
    taken.add_argument(
        "--most", type=int, default=None,
        help=f"LoRAs at the most, 1 to {MAX_IMPORTED_FILES:,}; default: all",
    )  # fmt: skip
    taken.add_argument(
        "--allow-missing", action="store_true", help="do without files that cannot be fetched"
    )
    examples = sub("examples", "Write the shipped test LoRAs and their labels.", writes)
    examples.add_argument("--out", type=Path, required=True, help="folder")
    return about
