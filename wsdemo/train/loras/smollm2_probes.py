"""Measures the probes of SmolLM2: rank-one gradients of its loss on every source but the unseen.

    python -m wsdemo.train.loras.smollm2_probes --model SMOLLM2 --texts TEXTS --runs RUNS

Writes RUNS/smollm2-probes.safetensors (lol/data/probes.py says what they are for). Passages are
those that training LoRAs may learn from; what losses are measured on is not among them. A source
takes about 25 processor seconds. ``--model`` and ``--texts`` are those of ``smollm2_loras``.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.lol.data.probes import save_probes
from wsdemo.lora.names import canonical_names
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras.smollm2_bench import load_base, token_losses
from wsdemo.train.loras.smollm2_passages import NO_WORD, Passages, read_passages
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES
from wsdemo.train.loras.smollm2_toy import write_toy_model

PROBES = "smollm2-probes.safetensors"
PASSAGES = 32
"""Of each source."""
BATCH = 4
OVERSAMPLED, PASSES = 5, 3
"""Of the randomised SVD of a gradient."""


def linear_layers(model: Any) -> dict[str, torch.nn.Linear]:
    """Every linear layer but the head, by canonical name."""
    layers = {n: m for n, m in model.model.named_modules() if isinstance(m, torch.nn.Linear)}
    names = canonical_names([f"base_model.model.model.{name}" for name in layers])
    return dict(zip(names, layers.values(), strict=True))


def leading(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """u (n,), with σ, and v (m,) of a gradient's best approximation of rank one."""
    U, s, V = torch.svd_lowrank(gradient, q=1 + OVERSAMPLED, niter=PASSES)
    return U[:, 0] * s[0], V[:, 0]


def gradient_factors(
    model: Any, head: Tensor, passages: Passages, source: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Canonical name → u, v of the gradient of a source's mean loss a token."""
    layers = linear_layers(model)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
        layer.weight.grad = None
    # The general text is in no LoRA; the few passages of it are those that losses are measured on.
    pool = passages.pool(source, "train") if source != GENERAL else None
    tokens = passages.tokens[source] if pool is None else passages.tokens[source][pool]
    count = 0
    for part in tokens[:PASSAGES].long().split(BATCH):
        token_losses(model.model, head, passages, part).sum().backward()
        count += int((passages.targets(part) != NO_WORD).sum())
    factors = {}
    for name, layer in layers.items():
        assert layer.weight.grad is not None
        factors[name] = leading(layer.weight.grad / count)
        layer.weight.grad = None
    return factors


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=20)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--texts", type=Path, required=True, help="folder of sources")
    args = parser.parse_args(arguments)
    start(args)
    torch.manual_seed(args.seed)
    if args.toy:
        args.model = write_toy_model(args.runs / "smollm2-toy")
    model, tokenizer = load_base(args.model, args.runs / "smollm2-base")
    passages = read_passages(args.texts, tokenizer, args.runs / "smollm2-passages.safetensors")
    head = model.lm_head.weight[passages.words].detach().clone()
    names = [*SOURCES, GENERAL]
    factors = []
    for name in names:
        factors.append(gradient_factors(model, head, passages, name))
        log(f"probes of {name}")
    modules = {
        k: (torch.stack([f[k][0] for f in factors]), torch.stack([f[k][1] for f in factors]))
        for k in factors[0]
    }
    save_probes(args.runs / PROBES, names, modules)


if __name__ == "__main__":
    main()
