"""The options of the verbs for LoRAs."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsdemo.limits import MAX_SEED

LORA = ".safetensors, or owner/name[@revision][:path] on the Hugging Face Hub"
FILE = ".safetensors"
ENERGY = "share of ‖ΔW‖², 0 to 1, kept"
PROGRAMS = ("comfyui", "diffusers", "kohya", "peft")
DTYPES = ("same", "float32", "float16", "bfloat16")


def add_lora_verbs(verb: Callable[..., argparse.ArgumentParser], run: Any) -> None:
    """Adds inspect, compare, resize, merge, regauge, export and extract."""
    inspect = verb("inspect", run, "Say what a LoRA file holds, and measure it.")
    inspect.add_argument("input", metavar="FILE_OR_REPO", help=LORA)
    inspect.add_argument("--modules", action="store_true", help="add a row a module")
    compare = verb("compare", run, "Say how alike two LoRAs are.")
    compare.add_argument("first", metavar="FILE_OR_REPO", help=LORA)
    compare.add_argument("second", metavar="FILE_OR_REPO", help=LORA)

    resize = verb("resize", run, "Write a LoRA with as few ranks as hold its energy.")
    resize.add_argument("input", type=Path, metavar="FILE", help=FILE)
    resize.add_argument(
        "--energy", type=float, default=None,
        help="share of ‖ΔW‖², 0 to 1, kept; default: 0.999, or all with --rank or --ratio",
    )  # fmt: skip
    resize.add_argument("--rank", type=int, default=None, help="ranks a module, at most, 1 or more")
    resize.add_argument(
        "--ratio", type=float, default=None,
        help="1 or more: keep singular values down to the largest / this (kohya's sv_ratio)",
    )  # fmt: skip
    merge = verb("merge", run, "Write a weighted sum of LoRAs.")
    merge.add_argument("inputs", nargs="+", metavar="FILE[:WEIGHT]", help="weight 1 if not named")
    merge.add_argument("--energy", type=float, default=1.0, help=ENERGY)
    merge.add_argument(
        "--method", choices=["sum", "ties", "dare"], default="sum", help="ties, dare: as PEFT"
    )
    merge.add_argument(
        "--density", type=float, default=0.5, help="ties, dare: share of entries, 0 to 1, kept"
    )
    merge.add_argument(
        "--seed", type=int, default=0, help=f"dare: of what is kept, 0 to {MAX_SEED}"
    )
    regauge = verb("regauge", run, "Write the same LoRA from other factors.")
    regauge.add_argument("input", type=Path, metavar="FILE", help=FILE)
    regauge.add_argument("--seed", type=int, default=0, help=f"of R, 0 to {MAX_SEED}")
    export = verb("export", run, "Write a LoRA as another program reads it, or some of its blocks.")
    export.add_argument("input", type=Path, metavar="FILE", help=FILE)
    for name, text in (("only", "take"), ("without", "leave out")):
        export.add_argument(
            f"--{name}", action="append", default=[], metavar="PATTERN|BLOCKS",
            help=f"{text} modules: a part of a name, a pattern with *, numbers of blocks (8-11)",
        )  # fmt: skip
    extract = verb("extract", run, "Write the difference of two checkpoints as a LoRA.")
    extract.add_argument("tuned", type=Path, metavar="TUNED", help=FILE)
    extract.add_argument("base", type=Path, metavar="BASE", help=FILE)
    extract.add_argument("--rank", type=int, default=32, help="ranks a module, at most, 1 or more")
    extract.add_argument("--energy", type=float, default=1.0, help=ENERGY)
    extract.add_argument("--dtype", choices=DTYPES[1:], default="float16", help="of the factors")
    extract.add_argument("--out", type=Path, required=True, help=".safetensors file")
    for sub in (inspect, compare, resize, regauge, export):
        sub.add_argument(
            "--adapter", metavar="NAME", default="", help="which of several, in a file or a folder"
        )
    for sub in (resize, merge, regauge, export):
        _output(sub)


def _output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--for", dest="program", choices=PROGRAMS, default=None,
        help="the program that is to read it; default: spelled as the input",
    )  # fmt: skip
    sub.add_argument(
        "--style", choices=["same", "kohya", "peft"], default="same",
        help="names by rule, where --for does not know the base",
    )  # fmt: skip
    sub.add_argument("--dtype", choices=DTYPES, default="same", help="of the factors")
    sub.add_argument("--out", type=Path, required=True, help=".safetensors file")
