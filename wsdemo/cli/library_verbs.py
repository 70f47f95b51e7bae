"""Options of the verb library (cli/library.py), apart so that ``--help`` does not import torch."""

import argparse
from pathlib import Path
from typing import Any

from wsdemo.cli.verbs import later
from wsdemo.limits import MAX_ROWS, MAX_WORKERS


def add_library_verb(verbs: Any, make_parser: Any) -> str:
    """Adds library build, find, duplicates, like, map; returns what library does."""
    about = "Read thousands of LoRAs into a table, and search it."
    library = verbs.add_parser("library", help=about, description=about)
    inner = library.add_subparsers(dest="library_verb", required=True, parser_class=make_parser)

    def sub(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(name, help=text, description=text)
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.set_defaults(run=later("library", f"run_{name}"))
        return parser

    made = sub("build", "Read all LoRAs of a folder, a list or the Hub that are new or changed.")
    made.add_argument(
        "source", metavar="FOLDER_OR_LIST_OR_HF",
        help="a folder, a file of paths, hf://owner, hf://owner/name, hf://collections/owner/slug",
    )  # fmt: skip
    made.add_argument("--out", type=Path, required=True, help="folder of the library")
    made.add_argument("--workers", type=int, default=1, help=f"processes, 1 to {MAX_WORKERS}")
    made.add_argument(
        "--ray", default="", metavar="ADDRESS", help="read on a Ray cluster; local: here"
    )
    find = sub("find", "Show the LoRAs that satisfy a condition in SQL.")
    find.add_argument("condition", help="such as: base = 'SDXL' and rank > 64")
    find.add_argument("--most", type=int, default=1000, help=f"rows at the most, 1 to {MAX_ROWS:,}")
    near = sub("like", "Show the LoRAs whose updates point most like one's.")
    near.add_argument("input", metavar="FILE_OR_REPO", help="a LoRA")
    near.add_argument("-k", type=int, default=10, help=f"how many, 1 to {MAX_ROWS:,}")
    for parser in (find, near):
        parser.add_argument("--library", type=Path, default=Path("lib"), help="its folder")
    for parser in (sub("duplicates", "Show which files hold the same."),
                   sub("map", "Place the LoRAs in the plane.")):  # fmt: skip
        parser.add_argument("library", type=Path, nargs="?", default=Path("lib"), help="its folder")
    return about
