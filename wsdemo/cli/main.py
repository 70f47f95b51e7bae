"""The command line: the app's functions from the shell.

Results as JSON on stdout with ``--json``, progress on stderr. How it ends: cli/shell.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsdemo import __version__
from wsdemo.cli.files import WEIGHTS, existing, folder_for, lora_input, output
from wsdemo.cli.parser import Parser, by_subject
from wsdemo.cli.shell import run_command
from wsdemo.cli.verbs import add_field_verbs, add_lol_verbs, add_map_verbs
from wsdemo.limits import MAX_SEED
from wsdemo.runtime import choose_threads, tune_allocator

Result = dict[str, Any]
LORA = ".safetensors, or owner/name[@revision][:path] on the Hugging Face Hub"


# ---- verbs -------------------------------------------------------------------


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
        files = [lora_input(file) for file, _ in cli_lora.summands(args.inputs)]
        return cli_lora.run_merge(args, output(args.out, WEIGHTS, *files))
    if args.verb == "inspect":
        from wsdemo.cli.lol import lora_file

        args.input = lora_file(str(args.input))
        return cli_lora.run_inspect(args)
    run = cli_lora.run_resize if args.verb == "resize" else cli_lora.run_regauge
    args.input = lora_input(args.input)
    return run(args, output(args.out, WEIGHTS, args.input))


def run_mcp(args: argparse.Namespace) -> Result:
    """``mcp``: see cli_mcp."""
    from wsdemo.cli import mcp as cli_mcp

    return cli_mcp.run_mcp(args)


def run_convert(args: argparse.Namespace) -> Result:
    """``convert FILE``: an adapter of another container (pickle, .npz, GGUF) as safetensors."""
    from wsdemo.lora.conversion import convert

    out = output(args.out, WEIGHTS, lora_input(args.input))
    count = convert(args.input, out)
    return {"file": str(out), "tensors": count, "bytes": out.stat().st_size}


# ---- the command -----------------------------------------------------------------


def build_parser(given: Sequence[str]) -> Parser:
    """All verbs and their options.

    Args:
        given: The arguments: what depends on the domains is only added to the verbs among them,
            as it takes a second to load those.
    """
    parser = Parser(prog="wsdemo", description="Neural-network weights as data.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(
        dest="verb", required=True, parser_class=Parser, metavar="VERB", help=argparse.SUPPRESS
    )
    texts: dict[str, str] = {}

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        texts[name] = text
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.set_defaults(run=run)
        return sub

    add_field_verbs(verb, given)

    inspect = verb("inspect", run_lora, "Say what a LoRA file holds, and measure it.")
    inspect.add_argument("input", metavar="FILE_OR_REPO", help=LORA)
    inspect.add_argument("--modules", action="store_true", help="add a row a module")
    compare = verb("compare", run_lora, "Say how alike two LoRAs are.")
    compare.add_argument("first", metavar="FILE_OR_REPO", help=LORA)
    compare.add_argument("second", metavar="FILE_OR_REPO", help="the same")

    def lora_output(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--style", choices=["kohya", "peft"], default="kohya", help="whose names to write"
        )
        sub.add_argument("--out", type=Path, required=True, help=".safetensors file")

    resize = verb("resize", run_lora, "Write a LoRA with as few ranks as hold its energy.")
    resize.add_argument("input", type=Path, metavar="FILE", help=".safetensors")
    resize.add_argument("--energy", type=float, default=0.999, help="share of ‖ΔW‖², 0 to 1, kept")
    merge = verb("merge", run_lora, "Write a weighted sum of LoRAs.")
    merge.add_argument(
        "inputs", nargs="+", metavar="FILE[:WEIGHT]", help=".safetensors; weight 1 if not named"
    )
    merge.add_argument("--energy", type=float, default=1.0, help="share of ‖ΔW‖², 0 to 1, kept")
    regauge = verb("regauge", run_lora, "Write the same LoRA from other factors.")
    regauge.add_argument("input", type=Path, metavar="FILE", help=".safetensors")
    regauge.add_argument("--seed", type=int, default=0, help=f"of R, 0 to {MAX_SEED}")
    for sub in (resize, merge, regauge):
        lora_output(sub)
    convert = verb("convert", run_convert, "Turn a pickled adapter into safetensors.")
    convert.add_argument("input", type=Path, metavar="FILE", help=".pt, .pth, .bin or .ckpt")
    convert.add_argument(
        "--out", type=Path, default=None, help=".safetensors file; default: beside the input"
    )

    texts["lol"] = add_lol_verbs(verb, verbs, Parser, folder_for)
    add_map_verbs(verb, existing, given)
    verb("mcp", run_mcp, "Serve the LoRA functions as MCP tools on stdin and stdout.")
    verb("doctor", run_doctor, "Say what is installed and whether it works.")
    parser.usage = "wsdemo [-h] [--version] VERB ..."
    parser.epilog = by_subject(texts)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = sys.argv[1:] if arguments is None else arguments

    def command() -> Result:
        tune_allocator()
        choose_threads()
        args = build_parser(given).parse_args(given)
        result: Result = args.run(args)
        return result

    return run_command(command, "--json" in given)
