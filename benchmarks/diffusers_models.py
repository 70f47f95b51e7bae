"""Models of diffusers' architectures for its loaders to fill, LoRAs for them, and what came of it.

A model has two blocks of each kind, and weights that take no memory.
"""

import copy
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import diffusers
import torch
from diffusers.loaders import lora_pipeline
from torch import Tensor, nn

from wsdemo.lora.bases.tables import Base, all_tables
from wsdemo.lora.modules import LoraModule

CLOSE = 1e-5
ENDINGS = {
    "A B": (".lora_A.weight", ".lora_B.weight"),
    "A B alpha": (".lora_A.weight", ".lora_B.weight"),
    "down up": (".lora_down.weight", ".lora_up.weight"),
    "down up alpha": (".lora_down.weight", ".lora_up.weight"),
    "layers": (".lora.down.weight", ".lora.up.weight"),
    "processors": ("_lora{}.down.weight", "_lora{}.up.weight"),
    "lokr": (".lokr_w1", ".lokr_w2"),
    "lokr alpha": (".lokr_w1", ".lokr_w2"),
}  # fmt: skip
"""Which tensors a module has → how their keys end."""
_DEPTHS = ("num_layers", "num_single_layers", "num_visual_blocks", "num_text_blocks",
           "num_refiner_layers", "n_layers", "n_refiner_layers", "num_mmdit_layers",
           "num_single_dit_layers")  # fmt: skip

BLOCK = re.compile(r"(?<=\.)\d+(?=\.)")
"""The number of a block, or of a part that has parts."""


def weightless(model: nn.Module) -> nn.Module:
    """The same model on the processor, each weight one zero repeated."""
    for module in model.modules():
        for name, own in list(module._parameters.items()):
            if own is not None:
                zero = torch.zeros(1).expand(own.shape)
                module._parameters[name] = nn.Parameter(zero, requires_grad=False)
        for name, own in list(module._buffers.items()):
            if own is not None:
                module._buffers[name] = torch.zeros(1, dtype=own.dtype).expand(own.shape)
    return model


def build(base: Base) -> nn.Module:
    """A model of the base's architecture and width, two blocks deep: each time another one."""
    return copied(built(base.key))


@lru_cache(64)
def built(key: str) -> nn.Module:
    base = all_tables()[key]
    kind = getattr(diffusers, base.source["model"])
    config = dict(base.source["config"])
    known = inspect.signature(kind.__init__).parameters
    for name in _DEPTHS:
        if name in known and isinstance(known[name].default, int):
            config[name] = min(2, config.get(name, known[name].default))
    with torch.device("meta"):
        model = kind(**config)
    return weightless(model)


def copied(module: nn.Module) -> nn.Module:
    """Modules of its own that share the weights, which nobody changes."""
    found = copy.copy(module)
    found._parameters, found._buffers = dict(module._parameters), dict(module._buffers)
    found._modules = {n: None if m is None else copied(m) for n, m in module._modules.items()}
    return found


def loader(
    base: Base, model: nn.Module, encoders: Mapping[str, nn.Module] | None = None
) -> Callable[[dict[str, Tensor]], None]:
    """The pipeline's ``load_lora_weights``; the model's own where its pipeline has none."""
    name = base.source.get("loader")
    if not name:
        return lambda tensors: model.load_lora_adapter(tensors, prefix=base.component)  # type: ignore[operator]
    mixin = getattr(lora_pipeline, name)
    parts = dict.fromkeys(
        ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer_2", "connectors",
         "text_conditioner", "hf_device_map")
    )  # fmt: skip
    own: Any = type("Pipeline", (mixin,), dict(parts))()
    own.components = {base.component: model} | dict(encoders or {})
    for part, module in own.components.items():
        setattr(own, part, module)
    return lambda tensors: own.load_lora_weights(tensors)


def drawn(
    names: Iterable[str], shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, LoraModule]:
    """A LoRA of rank 2 on modules of these names."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in names:
        shape = shapes[name]
        U = torch.randn(shape[0], 2, generator=generator)
        V = torch.randn(math.prod(shape[1:]), 2, generator=generator)
        found[name] = LoraModule(name, U, V, 1.0, 2, shape, is_rewritten=True)
    return found


def one_a_kind(base: Base, model: nn.Module, seed: int = 0) -> dict[str, LoraModule]:
    """A LoRA on the first module of each kind that the model has, by canonical names."""
    there = dict(model.named_modules())
    names: dict[str, str] = {}
    for name in base.shapes:
        if name in there:
            names.setdefault(BLOCK.sub("#", name), name)
    return drawn(names.values(), base.shapes, seed)


def tensors_of(modules: Mapping[str, LoraModule], form: str) -> dict[str, Tensor]:
    """Spelled name → module, as tensors in one form; with α it is half the rank."""
    found = {}
    for name, module in modules.items():
        down, up = _keys(name, form)
        if form.startswith("lokr"):
            found[down], found[up] = kronecker(module)
        else:
            sides = module.shape[2:]
            found[down] = module.V.T.reshape(module.rank, *module.shape[1:]).clone()
            found[up] = module.U.reshape(len(module.U), module.rank, *[1] * len(sides)).clone()
        if form.endswith("alpha"):
            found[up] *= 1 if form.startswith("lokr") else 2
            found[f"{name}.alpha"] = torch.tensor(module.rank / 2)
    return found


def _keys(name: str, form: str) -> tuple[str, str]:
    """The keys of a module's two tensors; of an attention's processor: x.processor.to_q_lora…"""
    down, up = ENDINGS[form]
    if form == "processors":
        parent, _, last = name.removesuffix(".0").rpartition(".")
        number = last[-1] if last[-1].isdigit() else ""
        stem = f"{parent}.processor.{last.removesuffix(number)}"
        return stem + down.format(number), stem + up.format(number)
    return name + down, name + up


def kronecker(module: LoraModule) -> tuple[Tensor, Tensor]:
    """w1 (k, k), w2 (n/k, m/k, kernel) with k = 16 where that divides: of a module's own numbers.

    The smaller the larger factor, the sooner it is decomposed.
    """
    k = math.gcd(16, *module.shape[:2])
    n, m = module.shape[0] // k, module.shape[1] // k
    w2 = (module.U[:n] @ module.V[:m].T).reshape(n, m, *[1] * len(module.shape[2:]))
    return module.U[:k] @ module.V[:k].T, w2


def applied(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """What the library applies: module → U (n, r) and V (m, r); of LoKr its two factors."""
    found = {}
    for name, module in model.named_modules():
        scaling = getattr(module, "scaling", {})
        for adapter, scale in scaling.items() if isinstance(scaling, dict) else ():
            if adapter in getattr(module, "lora_A", {}):
                A, B = module.lora_A[adapter].weight, module.lora_B[adapter].weight
                if A.is_meta or B.is_meta:  # made for it, and never filled
                    continue
                found[name] = (scale * B.detach().flatten(1), A.detach().flatten(1).T)
            elif adapter in getattr(module, "lokr_w1", {}):
                w1, w2 = module.lokr_w1[adapter], module.lokr_w2[adapter]
                if w1.is_meta or w2.is_meta:
                    continue
                found[name] = (scale * w1.detach(), w2.detach())
    return found


def apart(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """‖U Vᵀ − X Yᵀ‖ / ‖U Vᵀ‖, by the small products alone."""
    (U, V), (X, Y) = ([t.double() for t in pair] for pair in (first, second))
    if len(U) != len(X) or len(V) != len(Y):
        return math.inf

    def square(P: Tensor, Q: Tensor) -> Tensor:
        return (P.T @ P * (Q.T @ Q)).sum()

    both = square(torch.cat([U, -X], 1), torch.cat([V, Y], 1)).clamp(min=0)
    return float((both / square(U, V)).sqrt())
