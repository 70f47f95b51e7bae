"""The command line: the app's functions from the shell.

Results as JSON on stdout with ``--json``, progress on stderr. How it ends: cli/shell.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsdemo import __version__
from wsdemo.cli.app import add_app_verb
from wsdemo.cli.files import WEIGHTS, existing, folder_for, lora_input, output
from wsdemo.cli.library_verbs import add_library_verb
from wsdemo.cli.lora_verbs import add_lora_verbs
from wsdemo.cli.parser import Parser, by_subject
from wsdemo.cli.shell import run_command
from wsdemo.cli.space import add_space_verb
from wsdemo.cli.verbs import add_field_verbs, add_lol_verbs, add_map_verbs
from wsdemo.hub.checkpoints import use_named_repository
from wsdemo.runtime import choose_threads, tune_allocator

Result = dict[str, Any]


# ---- verbs -------------------------------------------------------------------


def run_doctor(args: argparse.Namespace) -> Result:
    """``doctor``: what works on this machine; the work is ``doctor.run_doctor``'s."""
    from wsdemo.cli import doctor as cli_doctor

    return cli_doctor.run_doctor(args)


def run_lora(args: argparse.Namespace) -> Result:
    """The verbs of LoRAs: see cli_lora."""
    from wsdemo.cli import lora as cli_lora

    if args.verb == "compare":
        return cli_lora.run_compare(args)
    if args.verb == "merge":
        files = [lora_input(file)[0] for file, _ in cli_lora.summands(args.inputs)]
        return cli_lora.run_merge(args, output(args.out, WEIGHTS, *files))
    if args.verb == "inspect":
        from wsdemo.cli.lol import lora_file

        args.input = lora_file(str(args.input))
        return cli_lora.run_inspect(args)
    if args.verb == "extract":
        files = [existing(args.tuned), existing(args.base)]
        return cli_lora.run_extract(args, output(args.out, WEIGHTS, *files))
    runs = {
        "resize": cli_lora.run_resize,
        "regauge": cli_lora.run_regauge,
        "export": cli_lora.run_export,
    }
    args.input, args.adapter = lora_input(args.input, args.adapter)
    return runs[args.verb](args, output(args.out, WEIGHTS, args.input))


def run_mcp(args: argparse.Namespace) -> Result:
    """``mcp``: serves tools to language models; the work is ``mcp.run_mcp``'s."""
    from wsdemo.cli import mcp as cli_mcp

    return cli_mcp.run_mcp(args)


def run_convert(args: argparse.Namespace) -> Result:
    """``convert FILE``: an adapter of another container (pickle, .npz, GGUF) as safetensors."""
    from wsdemo.lora.conversion import convert

    out = output(args.out, WEIGHTS, lora_input(args.input)[0])
    count = convert(args.input, out)
    return {"file": str(out), "tensors": count, "bytes": out.stat().st_size}


# ---- the command -----------------------------------------------------------------


def build_parser(arguments: Sequence[str]) -> Parser:
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

    add_field_verbs(verb, arguments)

    add_lora_verbs(verb, run_lora)
    convert = verb("convert", run_convert, "Turn a pickled adapter into safetensors.")
    convert.add_argument("input", type=Path, metavar="FILE", help=".pt, .pth, .bin or .ckpt")
    convert.add_argument(
        "--out", type=Path, default=None, help=".safetensors file; default: beside the input"
    )

    texts["lol"] = add_lol_verbs(verb, verbs, Parser, folder_for)
    texts["library"] = add_library_verb(verbs, Parser)
    add_map_verbs(verb, existing, arguments)
    add_app_verb(verb)
    add_space_verb(verb)
    verb("mcp", run_mcp, "Serve the LoRA functions as MCP tools on stdin and stdout.")
    verb("doctor", run_doctor, "Say what is installed and whether it works.")
    parser.usage = "wsdemo [-h] [--version] VERB ..."
    parser.epilog = by_subject(texts)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments

    def command() -> Result:
        tune_allocator()
        choose_threads()
        args = build_parser(words).parse_args(words)
        use_named_repository()
        result: Result = args.run(args)
        return result

    return run_command(command, "--json" in words)
