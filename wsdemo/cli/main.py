"""The command line: the app's functions from the shell.

Results as JSON on stdout with ``--json``, progress on stderr. Exit status: 0 done,
2 refused with ``{"error": {"title", "message", "hint"}}``, 1 a bug.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from wsdemo import __version__
from wsdemo.cli.files import MESH, PICTURE, WEIGHTS, existing, folder_for, output
from wsdemo.cli.shell import run_command
from wsdemo.cli.verbs import add_lol_verbs, add_map_verbs
from wsdemo.errors import WsdemoError
from wsdemo.runtime import choose_threads, tune_allocator

Result = dict[str, Any]


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are WsdemoErrors."""

    def error(self, message: str) -> NoReturn:
        raise WsdemoError("Command not understood", message, f"See: {self.prog} --help")


# ---- verbs -------------------------------------------------------------------


def parse_attributes(wishes: Sequence[str]) -> dict[str, bool]:
    """Reads ``Smiling``, ``Male=no`` … as a mapping of attributes.

    Raises:
        WsdemoError: A value is neither yes nor no, or both are asked of one attribute.
    """
    values = {"yes": True, "no": False}
    result: dict[str, bool] = {}
    for wish in wishes:
        name, _, value = wish.partition("=")
        if (value or "yes") not in values:
            raise WsdemoError(
                "Attribute not understood",
                f"Found {wish!r}; expected NAME, NAME=yes or NAME=no.",
                "For example: --attribute Smiling --attribute Eyeglasses=no",
            )
        wished = values[value or "yes"]
        if result.setdefault(name, wished) != wished:
            raise WsdemoError(
                "Contradiction", f"{name} is wanted and unwanted.", "Remove one of the two."
            )
    return result


def run_sample(args: argparse.Namespace) -> Result:
    """``sample faces``: draws faces and writes pictures and instances; shapes: cli_shapes."""
    from wsdemo.cli import shapes as cli_shapes
    from wsdemo.domains import pipelines
    from wsdemo.media.images import png_bytes

    if args.what != "faces":
        if args.attribute:
            raise WsdemoError(
                "Attribute not understood", "Shapes have no attributes.", "Use --category."
            )
        return cli_shapes.run_sample(args, folder_for(args.out))
    if args.category is not None:
        raise WsdemoError(
            "Category not understood", "Faces have no categories.", "Use --attribute."
        )
    started = time.monotonic()
    pipelines.check_size(args.size)
    folder = folder_for(args.out)
    instances = None
    wishes = parse_attributes(args.attribute)
    guidance = 1.5 if args.guidance is None else args.guidance
    heat = 1.0 if args.temperature is None else args.temperature
    options = (args.count, args.seed, args.steps, guidance, wishes, heat)
    for moment in pipelines.sample_faces(*options):
        instances = moment.instances
        print(f"\rstep {moment.step}/{moment.steps}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    assert instances is not None
    adapter = pipelines.face_diffusion().adapter
    pictures = pipelines.render_faces(instances, adapter, args.size)
    files, saved = [], []
    for i, (picture, weights) in enumerate(zip(pictures, instances, strict=True)):
        stem = folder / f"faces-seed{args.seed}-{i:03d}"
        files.append(stem.with_suffix(".png"))
        files[-1].write_bytes(png_bytes(picture))
        saved.append(stem.with_suffix(".safetensors"))
        pipelines.face_instance(adapter, weights, {}).save(saved[-1])
    return {
        "seed": args.seed,
        "files": [str(f) for f in files],
        "instances": [str(f) for f in saved],
        "seconds": time.monotonic() - started,
    }


def run_fit(args: argparse.Namespace) -> Result:
    """``fit PICTURE|MESH``: turns a picture, or a mesh (cli_shapes), into weights."""
    from wsdemo.cli import shapes as cli_shapes
    from wsdemo.domains import face_fitting, pipelines
    from wsdemo.media.images import Crop, open_picture, to_square

    if cli_shapes.is_mesh(existing(args.input)):
        return cli_shapes.run_fit(args, output(args.out, WEIGHTS, args.input))
    crop = Crop(args.crop_x, args.crop_y, args.zoom)
    picture, notes = open_picture(args.input)
    out = output(args.out, WEIGHTS, args.input)
    for note in notes:
        print(note, file=sys.stderr)
    image = to_square(picture, crop, pipelines.SIZE)
    options = face_fitting.FitOptions(
        args.representation,
        args.rank,
        args.seed,
        args.seconds,
        args.steps,
        args.target_psnr,
        args.start,
        is_comparable=args.comparable,
    )
    if args.representation.startswith("mlp"):
        print("making the MLP's start, which --seconds does not count", file=sys.stderr)
    last = None
    for last in face_fitting.fit_picture(image, options):
        text = f"\rstep {last.step} {last.psnr:.2f} dB {last.seconds_left:.0f} s left  "
        print(text, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    assert last is not None
    for note in last.notes:
        print(note, file=sys.stderr)
    size = last.instance.save(out)
    return {
        "domain": last.instance.domain,
        "psnr": last.psnr,
        "ssim": last.instance.measured["ssim"],
        "weights": last.instance.adapter.weight_count,
        "bytes": size,
        "seconds": last.seconds,
        "measuring_seconds": last.measuring_seconds,
        "steps": last.step,
        "notes": [*notes, *last.notes],
        "file": str(out),
    }


def run_decode(args: argparse.Namespace) -> Result:
    """``decode INSTANCE``: renders an instance file as a PNG, or as a mesh."""
    from wsdemo.cli import shapes as cli_shapes
    from wsdemo.domains import pipelines
    from wsdemo.media.images import png_bytes

    started = time.monotonic()
    instance = pipelines.open_instance(existing(args.input))
    is_shape = instance.domain == "sdf"
    out = output(args.out, MESH if is_shape else PICTURE, args.input)
    facts = {
        "domain": instance.domain,
        "representation": instance.adapter.config.representation,
        "rank": instance.adapter.config.rank,
        "weights": instance.adapter.weight_count,
        "file": str(out),
    }
    if is_shape:
        mesh = cli_shapes.write_shape(instance, out, args.resolution, args.largest)
        facts |= {"resolution": args.resolution, "mesh": mesh}
        return facts | {"seconds": time.monotonic() - started}
    picture = pipelines.render_faces(instance.weights[None], instance.adapter, args.size)[0]
    out.write_bytes(png_bytes(picture))
    return facts | {"size": args.size, "seconds": time.monotonic() - started}


def run_render(args: argparse.Namespace) -> Result:
    """``render MESH``: a picture of a mesh file."""
    from wsdemo.cli import shapes as cli_shapes

    return cli_shapes.run_render(args, output(args.out, PICTURE, existing(args.input)))


def run_canonical(args: argparse.Namespace) -> Result:
    """``canonical INSTANCE``: writes the same field with canonical factors."""
    from wsdemo.domains import pipelines

    instance = pipelines.open_instance(existing(args.input))
    default = args.input.with_suffix(".canonical.safetensors")
    out = output(args.out, WEIGHTS, args.input, default=default)
    fixed = pipelines.canonical(instance)
    size = fixed.save(out)
    moved = float((fixed.weights - instance.weights).norm())
    return {"file": str(out), "bytes": size, "moved": moved}


def run_doctor(args: argparse.Namespace) -> Result:
    """``doctor``: see cli_doctor."""
    from wsdemo.cli import doctor as cli_doctor

    return cli_doctor.run_doctor(args)


def run_lora(args: argparse.Namespace) -> Result:
    """The verbs of LoRAs: see cli_lora."""
    from wsdemo.cli import lora as cli_lora

    if args.verb == "compare":
        return cli_lora.run_compare(args)
    if args.verb == "merge":
        files = [existing(file) for file, _ in cli_lora.summands(args.inputs)]
        return cli_lora.run_merge(args, output(args.out, WEIGHTS, *files))
    if args.verb == "inspect":
        from wsdemo.cli.lol import lora_file

        args.input = lora_file(str(args.input))
        return cli_lora.run_inspect(args)
    run = cli_lora.run_resize if args.verb == "resize" else cli_lora.run_regauge
    return run(args, output(args.out, WEIGHTS, existing(args.input)))


def run_mcp(args: argparse.Namespace) -> Result:
    """``mcp``: see cli_mcp."""
    from wsdemo.cli import mcp as cli_mcp

    return cli_mcp.run_mcp(args)


def run_convert(args: argparse.Namespace) -> Result:
    """``convert FILE``: a pickled adapter as safetensors."""
    from wsdemo.lora.pickles import convert_pickle

    out = output(args.out, WEIGHTS, existing(args.input))
    count = convert_pickle(args.input, out)
    return {"file": str(out), "tensors": count, "bytes": out.stat().st_size}


# ---- the command -----------------------------------------------------------------


def build_parser() -> Parser:
    """All verbs and their options."""
    parser = Parser(prog="wsdemo", description="Neural-network weights as data.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)

    def mesh_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--resolution", type=int, default=128, help="shapes: cells a side, 32 to 256"
        )
        sub.add_argument(
            "--largest", action="store_true", help="shapes: keep the largest piece only"
        )

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.set_defaults(run=run)
        return sub

    sample = verb("sample", run_sample, "Draw from the weight diffusion model.")
    sample.add_argument("what", choices=["faces", "airplane", "shapes"])
    sample.add_argument("--count", type=int, default=4)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--steps", type=int, default=50, help="denoising steps")
    sample.add_argument(
        "--guidance", type=float, default=None,
        help="1: plain conditioning; default: 1.5 for faces, 2 for shapes",
    )  # fmt: skip
    sample.add_argument(
        "--temperature", type=float, default=None,
        help="below 1: more typical, less various; default: 1 for faces, 0.75 for shapes",
    )  # fmt: skip
    sample.add_argument("--size", type=int, default=64, help="faces: pixels a side")
    sample.add_argument("--category", default=None, help="shapes: chair, car …")
    mesh_options(sample)
    sample.add_argument(
        "--attribute", action="append", default=[], metavar="NAME[=no]", help="repeatable"
    )
    sample.add_argument("--out", type=Path, default=Path("outputs"), help="folder")

    fit = verb("fit", run_fit, "Turn a picture or a mesh into weights.")
    fit.add_argument("input", type=Path, metavar="PICTURE|MESH")
    fit.add_argument("--base", choices=["shapes", "airplane"], default="shapes", help="for a mesh")
    fit.add_argument(
        "--seconds", type=float, default=5.0, help="of fitting; an MLP's start comes on top"
    )
    fit.add_argument(
        "--steps", type=int, default=None, help="instead: so many steps, the same bytes every time"
    )
    fit.add_argument(
        "--comparable",
        action="store_true",
        help="a picture: fit as the training faces were, for map, edit and predict; takes its own"
        " start and 50 steps, whatever --start, --seconds and --target-psnr say",
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
    fit.add_argument("--crop-x", type=float, default=0.5, help="0 left, 1 right")
    fit.add_argument("--crop-y", type=float, default=0.5, help="0 top, 1 bottom")
    fit.add_argument("--zoom", type=float, default=1.0, help="2: a square of half the side")
    fit.add_argument("--out", type=Path, default=None, help="instance file")

    decode = verb("decode", run_decode, "Render an instance file.")
    decode.add_argument("input", type=Path, metavar="INSTANCE")
    decode.add_argument("--size", type=int, default=64, help="pictures: pixels a side")
    mesh_options(decode)
    decode.add_argument("--out", type=Path, default=None, help="PNG, or GLB, OBJ, PLY, STL")

    render = verb("render", run_render, "Draw a picture of a mesh file.")
    render.add_argument("input", type=Path, metavar="MESH")
    render.add_argument("--size", type=int, default=512, help="pixels a side")
    render.add_argument("--azimuth", type=float, default=35.0, help="degrees")
    render.add_argument("--elevation", type=float, default=20.0, help="degrees")
    render.add_argument("--renderer", default="auto", choices=["auto", "egl", "software"])
    render.add_argument("--out", type=Path, default=None, help="PNG file")

    canonical = verb("canonical", run_canonical, "Write an instance with canonical factors.")
    canonical.add_argument("input", type=Path, metavar="INSTANCE")
    canonical.add_argument("--out", type=Path, default=None, help="instance file")

    inspect = verb("inspect", run_lora, "Say what a LoRA file holds, and measure it.")
    inspect.add_argument("input", metavar="FILE_OR_REPO")
    inspect.add_argument("--modules", action="store_true", help="add a row a module")
    compare = verb("compare", run_lora, "Say how alike two LoRAs are.")
    compare.add_argument("first", metavar="FILE_OR_REPO")
    compare.add_argument("second", metavar="FILE_OR_REPO")

    def lora_output(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--style", choices=["kohya", "peft"], default="kohya")
        sub.add_argument("--out", type=Path, required=True, help=".safetensors file")

    resize = verb("resize", run_lora, "Write a LoRA with as few ranks as hold its energy.")
    resize.add_argument("input", type=Path, metavar="FILE")
    resize.add_argument("--energy", type=float, default=0.999, help="share of ‖ΔW‖² to keep")
    merge = verb("merge", run_lora, "Write a weighted sum of LoRAs.")
    merge.add_argument("inputs", nargs="+", metavar="FILE[:WEIGHT]")
    merge.add_argument("--energy", type=float, default=1.0, help="share of ‖ΔW‖² to keep")
    regauge = verb("regauge", run_lora, "Write the same LoRA from other factors.")
    regauge.add_argument("input", type=Path, metavar="FILE")
    regauge.add_argument("--seed", type=int, default=0)
    for sub in (resize, merge, regauge):
        lora_output(sub)
    convert = verb("convert", run_convert, "Turn a pickled adapter into safetensors.")
    convert.add_argument("input", type=Path, metavar="FILE")
    convert.add_argument("--out", type=Path, default=None, help=".safetensors file")

    add_lol_verbs(verb, verbs, Parser, folder_for)
    add_map_verbs(verb, existing)
    verb("mcp", run_mcp, "Serve the LoRA functions as MCP tools on stdin and stdout.")
    verb("doctor", run_doctor, "Say what is installed and whether it works.")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = sys.argv[1:] if arguments is None else arguments

    def command() -> Result:
        tune_allocator()
        choose_threads()
        args = build_parser().parse_args(given)
        result: Result = args.run(args)
        return result

    return run_command(command, "--json" in given)
