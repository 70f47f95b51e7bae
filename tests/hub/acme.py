"""What acme keeps on the loopback Hub, and short ways to ask for it."""

import torch
from safetensors.torch import save

from wsdemo.hub import client as hub
from wsdemo.hub.reference import parse_reference

CONFIG = {"r": 4, "lora_alpha": 8, "base_model_name_or_path": "acme/base", "peft_type": "LORA"}


def adapter(rank=4, width=32, count=3):
    tensors = {}
    for i in range(count):
        name = f"base_model.model.layers.{i}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width)
        tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank)
    return save(tensors)


def resolved(text, token=None):
    """A repository as the Hub describes it to the owner of a token."""
    return hub.resolve(parse_reference(text), token)


def fetched(text, token=None):
    """Where the file that a text means lies after its download."""
    found = resolved(text, token)
    return [place for _, place in hub.download(found, found.chosen, token)][-1]
