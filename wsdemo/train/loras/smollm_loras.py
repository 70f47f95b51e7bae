"""Builds the family *SmolLM2*: LoRAs of SmolLM2-135M on subsets of text sources, with labels.

    python -m wsdemo.train.loras.smollm_loras --model SMOLLM2 --texts TEXTS --workers 2

``--model``: a folder of SmolLM2-135M-Instruct in Hugging Face's format or as GGUF (then also
needs the package gguf). ``--texts``: what ``smollm_texts`` writes, one .txt or .jsonl a source, and
``questions/*.jsonl`` of multiple-choice questions (context, question, choices, label). Needs
transformers.

After Paper B's Qwen2-ARC-LoRA. Adapted are q_proj and v_proj of the last LAYERS layers; what
the layers before them compute of every passage is computed once and kept. Probabilities are
over the words that occur in the passages, a fifth of the vocabulary: losses are a little lower
than over all of it. No set of sources and no passage is in two splits, but for the LoRAs that
calibrate: they have sets and passages of validation.
"""

import dataclasses
import json
import math
import random
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.generate.lora_layers import LoraLinear, adapt
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras.making import in_turn, make_missing, write_table
from wsdemo.train.loras.smollm_toy import write_toy_model
from wsdemo.train.workers import run_workers, share_of, worker_options

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
LAYERS = 6
"""Adapted layers, the last ones of 30."""
TARGETS = ("q_proj", "v_proj")
RANK = 8
LENGTH = 48
"""Tokens of a passage."""
POOLS = {"train": (0, 100), "validation": (100, 118), "test": (118, 136), "loss": (136, 140)}
"""Passages of a source by split; on the last ones losses are measured."""
QUESTIONS = 24
COUNTS = {"train": 640, "validation": 90, "calibration": 200, "test": 160}
TOY_COUNTS = {"train": 16, "validation": 10, "calibration": 10, "test": 10}
UNSEEN = {"calibration": "validation"}
"""Splits that share sets and passages with another, which training has not seen."""
SIZES = (8, 16, 32, 64)
BATCH = 4


@dataclass(frozen=True)
class Plan:
    """How one LoRA is made; drawn from its name."""

    name: str
    split: str
    sources: tuple[str, ...]
    size: int
    rank: int
    learning_rate: float
    steps: int


def make_plan(split: str, index: int, sources: list[str]) -> Plan:
    """The recipe of LoRA ``index``: its set of sources belongs to its split alone."""
    name = f"smollm-{split}-{index:04d}"
    rng = random.Random(name)
    pool = UNSEEN.get(split, split)
    while True:
        chosen = tuple(sorted(rng.sample(sources, rng.randint(1, min(8, len(sources))))))
        place = zlib.crc32(",".join(chosen).encode()) % 100
        if pool == ("train" if place < 70 else "validation" if place < 83 else "test"):
            break
    return Plan(name, split, chosen, rng.choice(SIZES), RANK,
                10 ** rng.uniform(-3.3, -2.2), rng.randint(6, 20))  # fmt: skip


def passages(path: Path, tokenizer: Any, count: int) -> Tensor:
    """(count, LENGTH) tokens of a source, in a fixed random order.

    Raises:
        WsdemoError: The source is too short.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        texts = [_row_text(row) for row in rows]
        random.Random(path.name).shuffle(texts)
        text = "\n\n".join(texts)
    words = tokenizer(re.sub(r"[ \t]+", " ", text[:1_500_000])).input_ids
    parts = len(words) // LENGTH
    if parts < count:
        raise WsdemoError(
            "Source too short", f"{path.name} has {parts} passages of {LENGTH} tokens.",
            f"Give sources of at least {count}.",
        )  # fmt: skip
    order = random.Random(path.name).sample(range(parts), count)
    return torch.tensor([words[i * LENGTH : (i + 1) * LENGTH] for i in order])


def _row_text(row: dict[str, Any]) -> str:
    if "choices" in row:
        return f"{row['context']} {row['question']} {row['choices'][row['label']]}"
    return f"{row['question']} {row['answer']}"


def questions(folder: Path, tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(q, 3, T) tokens of question with answer, (q, 3, T) bool of the answer's, (q,) labels."""
    rows = []
    paths = sorted(folder.glob("*.jsonl"))
    for path in paths:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        rows += random.Random(path.name).sample(lines, QUESTIONS // len(paths))
    T = 96
    tokens = torch.zeros(len(rows), 3, T, dtype=torch.long)
    is_answer = torch.zeros(len(rows), 3, T, dtype=torch.bool)
    for i, row in enumerate(rows):
        asked = tokenizer(f"{row['context']} {row['question']}").input_ids[-(T - 16) :]
        for j, choice in enumerate(row["choices"]):
            answer = tokenizer(" " + choice).input_ids[:16]
            tokens[i, j, : len(asked) + len(answer)] = torch.tensor([*asked, *answer])
            is_answer[i, j, len(asked) : len(asked) + len(answer)] = True
    return tokens, is_answer, torch.tensor([row["label"] for row in rows])


def load_model(folder: Path) -> tuple[Any, Any]:
    """SmolLM2 and its tokenizer, float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = sorted(folder.glob("*.gguf"))
    extra = {"gguf_file": files[0].name} if files else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **extra)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **extra)
    return model.eval().requires_grad_(False), tokenizer


@torch.no_grad()
def prefix(model: Any, tokens: Tensor) -> Tensor:
    """(n, T) tokens → (n, T, width) fp16: what the layers before the adapted ones compute."""
    parts = []
    for batch in tokens.split(16):
        h = model.model.embed_tokens(batch)
        places = torch.arange(batch.shape[1])[None]
        turned = model.model.rotary_emb(h, places)
        for layer in model.model.layers[:-LAYERS]:
            h = layer(h, attention_mask=None, position_ids=places, position_embeddings=turned)
        parts.append(h.half())
    return torch.cat(parts)


def prepare(args: Any, path: Path) -> list[str]:
    """Computes and keeps passages, questions and their prefixes; returns the sources' names."""
    files = sorted(p for p in args.texts.iterdir() if p.suffix in (".txt", ".jsonl"))
    sources = [p.stem for p in files]
    if path.exists():
        return sources
    model, tokenizer = load_model(args.model)
    count = POOLS["loss"][1]
    tokens = torch.stack([passages(p, tokenizer, count) for p in files])
    asked, is_answer, labels = questions(args.texts / "questions", tokenizer)
    log(f"{len(sources)} sources; computing {tokens[..., 0].numel() + asked[..., 0].numel()}"
        " prefixes, about eight minutes on a CPU core")  # fmt: skip
    words = torch.cat([tokens.flatten(), asked.flatten()]).unique()
    place = torch.zeros(int(words.max()) + 1, dtype=torch.int32)
    place[words] = torch.arange(len(words), dtype=torch.int32)
    tail = {f"tail.{k}": v for k, v in model.model.layers[-LAYERS:].state_dict().items()}
    cache = save(
        {
            **{k: v.contiguous() for k, v in tail.items()},
            "norm": model.model.norm.weight, "head": model.lm_head.weight[words].contiguous(),
            "tokens": place[tokens], "prefix": prefix(model, tokens.flatten(0, 1)),
            "asked": place[asked], "is_answer": is_answer, "labels": labels,
            "asked_prefix": prefix(model, asked.flatten(0, 1)),
        }
    )  # fmt: skip
    write_whole(path.with_suffix(".json"), model.config.to_json_string())
    write_whole(path, cache)
    return sources


class Tail(nn.Module):
    """The last layers, and the head over the words that occur."""

    def __init__(self, cache: dict[str, Tensor], config_file: Path) -> None:
        super().__init__()
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import (
            LlamaDecoderLayer,
            LlamaRMSNorm,
            LlamaRotaryEmbedding,
        )

        config = LlamaConfig.from_json_file(str(config_file))
        config._attn_implementation = "sdpa"
        self.layers = nn.ModuleList(LlamaDecoderLayer(config, i) for i in range(LAYERS))
        mine = {k.removeprefix("tail."): v for k, v in cache.items() if k.startswith("tail.")}
        self.layers.load_state_dict(mine)
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.norm.weight.data = cache["norm"]
        self.turn = LlamaRotaryEmbedding(config)
        self.head = nn.Linear(config.hidden_size, len(cache["head"]), bias=False)
        self.head.weight.data = cache["head"]
        self.requires_grad_(False)

    def states(
        self, h: Tensor, places: Tensor | None = None, attended: Tensor | None = None
    ) -> Tensor:
        """(n, T, width) prefixes → (n, T, width) what the head reads.

        Args:
            h: Prefixes.
            places: (n, T) where each token stands; default: one behind the other.
            attended: (n, 1, T, T) bool, which tokens each one sees; default: all before it.
        """
        h = h.float()
        if places is None:
            places = torch.arange(h.shape[1])[None]
        turned = self.turn(h, places)
        for layer in self.layers:
            h = layer(h, attention_mask=attended, position_ids=places, position_embeddings=turned)
        return self.norm(h)

    def forward(self, h: Tensor) -> Tensor:
        """(n, T, width) prefixes → (n, T, words) logits."""
        return self.head(self.states(h))


def next_word_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """(n,) mean cross-entropy of the next token."""
    loss = F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:].long(), reduction="none")
    return loss.mean(1)


def answer_scores(tail: Tail, h: Tensor, tokens: Tensor, is_answer: Tensor) -> Tensor:
    """(c,) mean log probability of the tokens of a question's answers.

    The question is computed once: its answers stand behind it in one row and do not see each other.

    Args:
        tail: The last layers.
        h: (c, T, width) prefixes of the question with an answer each, padded behind it.
        tokens: (c, T).
        is_answer: (c, T) which tokens are the answer's.
    """
    start = int(is_answer[0].int().argmax())
    spans = [(0, 0, start)]  # answer, begin, end; the question itself stands before the first
    spans += [(j, start, start + int(n)) for j, n in enumerate(is_answer.sum(1))]
    row = torch.cat([h[j, begin:end] for j, begin, end in spans])
    places = torch.cat([torch.arange(begin, end) for _, begin, end in spans])
    owner = torch.cat([torch.full((end - begin,), k) for k, (_, begin, end) in enumerate(spans)])
    seen = ((owner == 0) | (owner == owner[:, None])).tril()
    states = tail.states(row[None], places[None], seen[None, None])[0]
    scores = []
    for k, (j, begin, end) in enumerate(spans[1:], start=1):
        places_of = (owner == k).nonzero().squeeze(1)
        says = torch.cat([torch.tensor([start - 1]), places_of[:-1]])
        logits = tail.head(states[says]).log_softmax(-1)
        scores.append(logits.gather(-1, tokens[j, begin:end, None].long()).mean())
    return torch.stack(scores)


@torch.no_grad()
def measure(tail: Tail, cache: dict[str, Tensor], sources: list[str]) -> dict[str, float]:
    """Loss on every source's held-out passages, and accuracy on the questions."""
    low, high = POOLS["loss"]
    n = len(sources)
    h = cache["prefix"].view(n, -1, LENGTH, cache["prefix"].shape[-1])[:, low:high]
    tokens = cache["tokens"][:, low:high]
    measured = {}
    for i, name in enumerate(sources):
        measured[f"loss {name}"] = round(float(next_word_loss(tail(h[i]), tokens[i]).mean()), 5)
    h = cache["asked_prefix"].view(*cache["asked"].shape, -1)
    asked = zip(h, cache["asked"], cache["is_answer"], strict=True)
    best = torch.stack([answer_scores(tail, *question) for question in asked]).argmax(1)
    measured["loss"] = round(sum(measured[f"loss {s}"] for s in sources) / n, 5)
    measured["accuracy"] = round(float((best == cache["labels"]).float().mean()), 5)
    return measured


def finetune(
    tail: Tail, layers: dict[str, LoraLinear], plan: Plan, cache: dict[str, Tensor],
    sources: list[str],
) -> int:  # fmt: skip
    """Trains the layers on a plan's passages; returns how many there were."""
    rng = random.Random(plan.name + "/passages")
    low, high = POOLS[UNSEEN.get(plan.split, plan.split)]
    each = max(1, plan.size // len(plan.sources))
    rows = [
        sources.index(s) * cache["tokens"].shape[1] + i
        for s in plan.sources
        for i in rng.sample(range(low, high), min(each, high - low))
    ]
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    for layer in layers.values():
        layer.reset(plan.rank, generator)
    parameters = [p for layer in layers.values() for p in (layer.A, layer.B)]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=0.0)
    tokens = cache["tokens"].flatten(0, 1)
    for _ in range(plan.steps):
        batch = torch.tensor(rng.choices(rows, k=BATCH))
        loss = next_word_loss(tail(cache["prefix"][batch]), tokens[batch]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return len(rows)


def save_adapter(folder: Path, layers: dict[str, LoraLinear], plan: Plan, first: int) -> None:
    """PEFT's layout: adapter_model.safetensors beside adapter_config.json."""
    tensors = {}
    for path, layer in layers.items():
        index, rest = path.removeprefix("layers.").split(".", 1)
        name = f"base_model.model.model.layers.{first + int(index)}.{rest}"
        tensors[f"{name}.lora_A.weight"] = layer.A.detach().half().contiguous()
        tensors[f"{name}.lora_B.weight"] = layer.B.detach().half().contiguous()
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": BASE,
        "r": plan.rank, "lora_alpha": plan.rank, "target_modules": list(TARGETS),
    }  # fmt: skip
    write_whole(folder / "adapter_config.json", json.dumps(config, indent=1))
    write_whole(folder / "adapter_model.safetensors", save(tensors, metadata={"format": "pt"}))


def write_manifest(folder: Path) -> None:
    """manifest.csv of every LoRA that is there."""
    rows = [json.loads(p.read_text()) for p in sorted(folder.glob("*/*/labels.json"))]
    write_table(folder / "manifest.csv", rows)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=math.inf)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--texts", type=Path, help="folder of sources")
    worker_options(parser)
    args = parser.parse_args(arguments)
    start(args)
    counts = TOY_COUNTS if args.toy else COUNTS
    if args.toy:
        args.model = write_toy_model(args.runs / "smollm-toy")
    folder, cache_file = args.runs / "smollm-loras", args.runs / "smollm-cache.safetensors"
    sources = prepare(args, cache_file)
    if args.workers > 1:
        given = sys.argv[1:] if arguments is None else arguments
        failed = run_workers(["wsdemo.train.loras.smollm_loras", *given], args.workers)
        write_manifest(folder)
        sys.exit(failed)
    cache = load_file(cache_file)
    tail = Tail(cache, cache_file.with_suffix(".json"))
    first = json.loads(cache_file.with_suffix(".json").read_text())["num_hidden_layers"] - LAYERS
    layers = adapt(tail, TARGETS)
    plans = in_turn(
        [make_plan(split, i, sources) for i in range(count)] for split, count in counts.items()
    )
    work = [(folder / p.split / p.name / "labels.json", p) for p in share_of(args.part, plans)]
    log(f"{len(work)} LoRAs, about 8 s each on a CPU core")

    def make(path: Path, plan: Plan) -> str:
        size = finetune(tail, layers, plan, cache, sources)
        save_adapter(path.parent, layers, plan, first)
        has = {f"has {s}": int(s in plan.sources) for s in sources}
        recipe = {k: v for k, v in dataclasses.asdict(plan).items() if k != "sources"}
        row = {"file": f"{plan.split}/{plan.name}/adapter_model.safetensors", **recipe, **has,
               "data_set_size": size, **measure(tail, cache, sources)}  # fmt: skip
        write_whole(path, json.dumps(row))
        return f"{plan.name}: loss {row['loss']}, accuracy {row['accuracy']}"

    make_missing(work, make, args.minutes, every=10)
    write_manifest(folder)


if __name__ == "__main__":
    main()
