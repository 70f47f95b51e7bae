"""The verb library: build a table of LoRAs, and ask it."""

import argparse
from typing import Any

from wsdemo.cli.lol import lora_file, report
from wsdemo.errors import check_range
from wsdemo.library.build import build
from wsdemo.library.duplicates import duplicates
from wsdemo.library.query import find, like, positions
from wsdemo.limits import MAX_ROWS, MAX_WORKERS

Result = dict[str, Any]


def run_build(args: argparse.Namespace) -> Result:
    """``library build FOLDER|LIST|hf://owner``: a row a LoRA; what is there already is kept."""
    check_range("workers", args.workers, 1, MAX_WORKERS)
    done = build(args.source, args.out, report, args.workers, args.ray)
    return {
        "read": done.read,
        "failed": done.failed,
        "kept": done.kept,
        "seconds": round(done.seconds, 3),
        "library": str(args.out),
    }


def run_find(args: argparse.Namespace) -> Result:
    """``library find CONDITION``: the LoRAs that satisfy a condition in SQL."""
    check_range("most", args.most, 1, MAX_ROWS)
    rows = find(args.library, args.condition, args.most)
    return {"count": len(rows), "loras": rows}


def run_duplicates(args: argparse.Namespace) -> Result:
    """``library duplicates``: files that hold the same."""
    groups = []
    for group in duplicates(args.library):
        facts: Result = {"kind": group.kind, "files": list(group.files)}
        if group.factors:
            facts["factors"] = list(group.factors)
        groups.append(facts)
    return {"groups": groups}


def run_like(args: argparse.Namespace) -> Result:
    """``library like FILE``: the LoRAs whose updates point most alike."""
    check_range("k", args.k, 1, MAX_ROWS)
    near = like(args.library, lora_file(str(args.input)), args.k)
    return {"neighbours": [{"file": name, "cosine": round(c, 4)} for name, c in near]}


def run_map(args: argparse.Namespace) -> Result:
    """``library map``: places in the plane; updates that point alike lie together."""
    places = positions(args.library)
    return {"points": [{"file": f, "x": round(x, 4), "y": round(y, 4)} for f, x, y in places]}
