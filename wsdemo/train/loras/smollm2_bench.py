"""SmolLM2 and its texts, and one LoRA of it after another: finetuned, measured, written.

transformers and peft are imported when they are needed, as only this needs them.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import random
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from wsdemo.errors import WsdemoError
from wsdemo.runtime import choose_threads
from wsdemo.train.loras.smollm2_passages import NO_WORD, Passages, read_passages
from wsdemo.train.loras.smollm2_plan import TARGETS, Plan
from wsdemo.train.loras.smollm2_texts import GENERAL

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
        stored = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
        save_file(stored, copy / "model.safetensors", metadata={"format": "pt"})
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
    logits = (states[known] @ head.T).float()
    losses[known] = F.cross_entropy(logits, target[known], reduction="none")
    return losses


@torch.no_grad()
def measure(model: Any, head: Tensor, passages: Passages) -> dict[str, float]:
    """Mean loss of every source's measured passages, of those with words."""
    model.eval()
    losses = {}
    for source in passages.tokens:
        tokens = passages.measured(source)
        total = sum(float(token_losses(model, head, passages, t).sum()) for t in tokens.split(4))
        losses[source] = total / int((passages.targets(tokens) != NO_WORD).sum())
    return losses


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
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=plan.weight_decay)
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
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
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
    """PEFT's two files and the labels; of a LoRA that fell apart the labels.

    Raises:
        WsdemoError: The disk is full, or the folder cannot be written.
    """
    with whole_folder(folder) as place:
        if tensors:
            config.inference_mode, config.base_model_name_or_path = True, BASE
            config.target_modules = sorted(config.target_modules)
            config.save_pretrained(place)
            stored = {k: v.detach().contiguous() for k, v in tensors.items()}
            save_file(stored, place / "adapter_model.safetensors", metadata={"format": "pt"})
        (place / "labels.json").write_text(json.dumps(row, indent=1))


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which is there under its name once all of it is, or not at all.

    Raises:
        WsdemoError: The disk is full, or the folder cannot be written.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise WsdemoError(
            "A LoRA cannot be written", f"{folder.name}: {error.strerror or error}.",
            "Make room, and start the builder again: it goes on where it stopped.",
        ) from error  # fmt: skip


# ---- all that it takes ----------------------------------------------------------------------


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
        measured = measure(model.model, head, passages)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(measured, indent=1))
        temporary.replace(path)
    losses: dict[str, float] = json.loads(path.read_text())
    return losses


class Bench:
    """The base, its texts cut into passages, and its losses; makes one LoRA after another.

    Args:
        model: Folder of SmolLM2.
        texts: Folder of the sources.
        runs: Where what is computed once is kept; default: a folder that goes with the object.
        losses: Of the base; default: measured.
        threads: CPU threads, in a process of Ray's.
        bfloat16: The base in bfloat16, as most people finetune it, and measured so; adapters are
            float32 all the same.
    """

    def __init__(
        self,
        model: Path,
        texts: Path,
        runs: Path | None = None,
        losses: dict[str, float] | None = None,
        threads: int | None = None,
        bfloat16: bool = False,
    ) -> None:
        if runs is None:
            choose_threads(threads)
            self._folder = tempfile.TemporaryDirectory()
            runs = Path(self._folder.name)
        with claim(runs / "locks", "base", wait=True):
            self.model, tokenizer = load_base(model, runs / "smollm2-base")
            path = runs / "smollm2-passages.safetensors"
            self.passages = read_passages(texts, tokenizer, path)
            path = runs / "smollm2-base-losses.json"
            if bfloat16:
                self.model.to(torch.bfloat16)
                path = runs / "smollm2-base-losses-bfloat16.json"
            self.head = self.model.lm_head.weight[self.passages.words].clone()
            self.losses = losses or base_losses(self.model, self.head, self.passages, path)

    def build(self, plan: Plan, folder: Path) -> dict[str, Any]:
        """Makes, measures and writes one LoRA; returns its row of the manifest."""
        return build(self.model, self.head, self.passages, self.losses, plan, folder)

    def make(self, plan: Plan) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The row of a LoRA and its files, by name: what a worker of Ray's gives back."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / plan.name
            row = self.build(plan, folder)
            return row, {path.name: path.read_bytes() for path in folder.iterdir()}
