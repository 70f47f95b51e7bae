"""LoRA layers for finetuning a network of ours, and the files that they are written to.

W' = W + (α/r) B A on chosen linear layers, B = 0 at the start (Hu et al., 2021). Files carry
diffusers' names, ``PREFIX.PATH.lora_A.weight`` (r, d_in) and ``.lora_B.weight`` (d_out, r),
with α = r, so that the reader of lora/ and any other tool understands them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.files import write_whole


class LoraLinear(nn.Module):
    """A frozen linear layer with a LoRA of any rank beside it."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.A = nn.Parameter(torch.zeros(1, inner.in_features))
        self.B = nn.Parameter(torch.zeros(inner.out_features, 1))

    def reset(self, rank: int, generator: torch.Generator) -> None:
        """A uniform as in PEFT (Kaiming, a = √5), B zero: the layer is what it was."""
        bound = 1 / math.sqrt(self.inner.in_features)
        A = torch.rand(rank, self.inner.in_features, generator=generator) * 2 - 1
        self.A = nn.Parameter((A * bound).to(self.inner.weight))
        self.B = nn.Parameter(self.inner.weight.new_zeros(self.inner.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + F.linear(F.linear(x, self.A), self.B)


def adapt(network: nn.Module, targets: Sequence[str]) -> dict[str, LoraLinear]:
    """Wraps every linear layer whose last name is in ``targets``, in place; path → layer."""
    network.requires_grad_(False)
    linear = {
        path: module
        for path, module in network.named_modules()
        if path.rsplit(".", 1)[-1] in targets and isinstance(module, nn.Linear)
    }
    layers = {path: LoraLinear(module) for path, module in linear.items()}
    for path, layer in layers.items():
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, layer)
    return layers


def lora_tensors(layers: Mapping[str, LoraLinear], prefix: str) -> dict[str, Tensor]:
    """What a file of these layers holds, fp16."""
    tensors = {}
    for path, layer in layers.items():
        tensors[f"{prefix}.{path}.lora_A.weight"] = layer.A.detach().half().cpu().contiguous()
        tensors[f"{prefix}.{path}.lora_B.weight"] = layer.B.detach().half().cpu().contiguous()
    return tensors


def save_lora(
    path: Path, tensors: Mapping[str, Tensor], rank: int, base: str, labels: Mapping[str, Any]
) -> None:
    """Writes a LoRA with its rank, base model and labels in the metadata, as diffusers does."""
    prefix = next(iter(tensors)).split(".")[0]
    targets = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in tensors})
    config = {"r": rank, "lora_alpha": rank, "target_modules": targets}
    metadata = {
        "format": "pt",
        "lora_adapter_metadata": json.dumps({f"{prefix}.{k}": v for k, v in config.items()}),
        "modelspec.architecture": base,
        "labels": json.dumps(dict(labels)),
    }
    write_whole(path, save(dict(tensors), metadata=metadata))
