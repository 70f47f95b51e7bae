"""The command line: the app's functions from the shell.

Results as JSON on stdout with ``--json``, progress on stderr. Exit status: 0 done,
2 refused with ``{"error": {"title", "message", "hint"}}``, 1 a bug.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from wsdemo import __version__
from wsdemo.cli.files import WEIGHTS, existing, make_folder, output, unwritable
from wsdemo.cli.verbs import add_field_verbs, add_lol_verbs, add_map_verbs
from wsdemo.errors import WsdemoError
from wsdemo.runtime import tune_allocator

Result = dict[str, Any]


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are WsdemoErrors."""

    def error(self, message: str) -> NoReturn:
        raise WsdemoError("Command not understood", message, f"See: {self.prog} --help")


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


def build_parser(given: Sequence[str]) -> Parser:
    """All verbs and their options.

    Args:
        given: The arguments: what depends on the domains is only added to the verbs among them,
            as it takes a second to load those.
    """
    parser = Parser(prog="wsdemo", description="Neural-network weights as data.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.set_defaults(run=run)
        return sub

    add_field_verbs(verb, given)

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

    add_lol_verbs(verb, verbs, Parser, make_folder)
    add_map_verbs(verb, existing, given)
    verb("mcp", run_mcp, "Serve the LoRA functions as MCP tools on stdin and stdout.")
    verb("doctor", run_doctor, "Say what is installed and whether it works.")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    try:
        tune_allocator()
        args = build_parser(given).parse_args(given)
        result: Result = args.run(args)
    except (WsdemoError, OSError) as caught:
        error = caught if isinstance(caught, WsdemoError) else unwritable(caught)
        if as_json:
            print(json.dumps({"error": error.as_dict()}))
        else:
            print(f"{error.title}: {error.message}\n{error.hint}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")
    return 0 if result.get("ok", True) else 2
