"""The tensors of a LoRA's modules, by the keys of a program: what a written file holds.

The scale is in the factors, so α = r wherever a program wants an α.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lora.kept import read_stored
from wsdemo.lora.keys import split_key
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.names import component, is_lost, kohya_name, pipeline_name


@dataclass
class Content:
    """What a file is to hold.

    Attributes:
        tensors: Key → tensor; floating point ones are written in the asked type.
        texts: For its metadata.
        stored: Keys of tensors that are copied as they are.
        names: Module of the LoRA → its full name in the file, before the ending.
        ranks: PEFT's name of a module → its rank, where a configuration goes with the file.
        warnings: What could not be kept.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def factors(module: LoraModule) -> tuple[Tensor, Tensor]:
    """(down, up) of a module; convolutions get their kernel back."""
    down, up = module.V.T.contiguous(), module.U.contiguous()
    if len(module.shape) > 2:
        down = down.reshape(module.rank, *module.shape[1:])
        up = up.reshape(*up.shape, *[1] * (len(module.shape) - 2))
    return down, up


# ---- as the input is -------------------------------------------------------------

_ENDINGS = {
    "kohya": (".lora_down.weight", ".lora_up.weight"),
    "PEFT": (".lora_A.weight", ".lora_B.weight"),
}


def same(lora: Lora) -> Content:
    """In the keys of the input: unchanged modules as they are stored, others as pairs.

    A module that is stored in a smaller form than a pair (LoKr, LoHa) stays as it is. A
    configuration of PEFT is for one method: of its others all modules become pairs, or none.
    """
    content = Content()
    usual = _usual_ending(lora)
    left = []
    stays = _staying(lora)
    for module in lora.modules:
        roles = _roles(module)
        if module.name in stays:
            _copy(content, lora, module)
            if module.is_rewritten:
                left.append(module.name)
            continue
        prefix, ending = _full_name(module, roles, usual)
        content.names[module.name] = prefix
        _put_pair(content, module, roles, prefix, ending, lora)
        content.ranks[module.name] = module.rank
    if "llama.cpp" in lora.family:
        content.warnings.append(
            "llama.cpp reads GGUF alone: export it for PEFT, and convert that with its"
            " convert_lora_to_gguf.py."
        )
    if left:
        content.warnings.append(
            f"{len(left)} modules stay as they are stored, which is smaller than any pair or has"
            f" no other form: {left[0]} …"
        )
    return content


def _roles(module: LoraModule) -> dict[str, str]:
    """Role → key of its tensors."""
    return {p.role: k for k in module.keys if (p := split_key(k))}


def _staying(lora: Lora) -> set[str]:
    """Names of the modules that are copied as they are stored."""
    stored = [m for m in lora.modules if m.keys]
    stays = {m.name for m in stored if not m.is_rewritten or not _is_worth_it(m, _roles(m), lora)}
    is_other = lora.config.get("peft_type", "LORA") != "LORA"
    if is_other and any(m.is_rewritten for m in lora.modules):
        return {m.name for m in stored} if any(m.is_rewritten for m in stored
                                               if m.name in stays) else set()  # fmt: skip
    return stays


def _copy(content: Content, lora: Lora, module: LoraModule) -> None:
    if module.keys[0] in content.tensors:  # an expert of several that are stored together
        return
    tensors = read_stored(lora, module)
    content.tensors |= tensors
    content.stored |= tensors.keys()
    content.names[module.name] = _prefix(module.keys[0], module.name)
    content.ranks[module.name] = module.stored_rank


def _is_worth_it(module: LoraModule, roles: Mapping[str, str], lora: Lora) -> bool:
    """Whether a pair can stand for what is stored, and is no larger."""
    if module.piece != (0, 1) or module.magnitude is not None or module.kind != "additive":
        return False
    if _pair_keys(roles):
        return True
    stored = sum(t.numel() for t in read_stored(lora, module).values())
    return module.U.numel() + module.V.numel() < stored


_PAIRS = (("down", "up"), ("A", "B"), ("embedding_A", "embedding_B"), ("mlx_a", "mlx_b"),
          ("vit_a", "vit_b"), ("own_A", "own_B"))  # fmt: skip


def _pair_keys(roles: Mapping[str, str]) -> tuple[str, str] | None:
    """The roles of a plain pair, if that is all there is."""
    if {"mid", "E", "diag", "magnitude"} & roles.keys() or any("." in r for r in roles):
        return None
    return next(((a, b) for a, b in _PAIRS if a in roles and b in roles), None)


def _usual_ending(lora: Lora) -> tuple[str, str]:
    """What a new pair's keys begin with in this file, and the family of its ending."""
    for module in lora.modules:
        for key in module.keys:
            part = split_key(key)
            if part and part.role in ("A", "B") and part.family == "PEFT":
                return ("base_model.model." if key.startswith("base_model.model.") else "", "PEFT")
    is_peft = not any(m.keys for m in lora.modules) and "PEFT" in lora.family
    return ("base_model.model." if is_peft and "diffusers" not in lora.family else "",
            "PEFT" if is_peft else "kohya")  # fmt: skip


def _prefix(key: str, name: str) -> str:
    """A key up to the end of the module's name."""
    start = key.find(name)
    return key[: start + len(name)] if start >= 0 else name


def _full_name(
    module: LoraModule, roles: Mapping[str, str], usual: tuple[str, str]
) -> tuple[str, str]:
    if module.keys:
        return _prefix(module.keys[0], module.name), usual[1]
    return usual[0] + module.name, usual[1]


def _put_pair(
    content: Content,
    module: LoraModule,
    roles: Mapping[str, str],
    prefix: str,
    ending: str,
    lora: Lora,
) -> None:
    down, up = factors(module)
    pair = _pair_keys(roles)
    if pair and pair[0] == "mlx_a":
        scale = _mlx_scale(lora)
        content.tensors[roles["mlx_a"]] = module.V.contiguous()
        content.tensors[roles["mlx_b"]] = (module.U.T / scale).contiguous()
        return
    if pair and pair[0] == "embedding_A":
        content.tensors[roles["embedding_A"]] = module.U.T.contiguous()
        content.tensors[roles["embedding_B"]] = module.V.contiguous()
        return
    if pair:
        content.tensors[roles[pair[0]]], content.tensors[roles[pair[1]]] = down, up
    else:
        a, b = _ENDINGS[ending]
        content.tensors[prefix + a], content.tensors[prefix + b] = down, up
    if "alpha" in roles or ending == "kohya":
        content.tensors[roles.get("alpha", f"{prefix}.alpha")] = torch.tensor(float(module.rank))


def _mlx_scale(lora: Lora) -> float:
    parameters = lora.config.get("lora_parameters", {})
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    return float(scale) if isinstance(scale, int | float) and scale else 1.0


# ---- by rules of names alone ------------------------------------------------------


def kohya(lora: Lora) -> Content:
    """Kohya's names with one α for all, and no texts.

    Diffusers loses the α of a module that differs from the others'.
    """
    alpha = usual_rank([m.rank for m in lora.modules])
    has_two = any(m.name.startswith("text_encoder_2.") for m in lora.modules)
    content = Content()
    for module in lora.modules:
        _refuse_embedding(module)
        name = kohya_name(module.name, lora.family, has_two)
        put_kohya(content, module, name, alpha)
    if len(content.tensors) < 3 * len(lora.modules):
        raise WsdemoError(
            "Not for kohya",
            "Two modules differ in dots and underscores only.",
            "Write it for PEFT.",
        )
    return content


def _refuse_embedding(module: LoraModule) -> None:
    if module.is_embedding:
        raise WsdemoError(
            "Not for kohya",
            f"{module.name[:80]!r} is an embedding, which kohya's programs do not adapt.",
            "Write it for PEFT.",
        )


def put_kohya(content: Content, module: LoraModule, name: str, alpha: int) -> None:
    """One module in kohya's keys, with an α that all share."""
    down, up = factors(module)
    content.tensors[f"{name}.lora_down.weight"] = down
    content.tensors[f"{name}.lora_up.weight"] = up * (module.rank / alpha)
    content.tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    content.names[module.name] = name


def peft(lora: Lora) -> Content:
    """PEFT's names, and for parts of a pipeline the texts that diffusers reads."""
    content = Content()
    parts: dict[str, dict[str, int]] = {}
    for module in lora.modules:
        if is_lost(module.name):
            raise WsdemoError(
                "Not for PEFT",
                f"{module.name[:80]!r} matches no module of a model: kohya's flattened names have"
                " lost their dots, and others are mere numbers.",
                "Write it for kohya.",
            )
        name = pipeline_name(module.name, lora.family)
        part = component(name, lora.family)
        full = name if part else f"base_model.model.{name}"
        put_peft(content, module, full)
        if part and part != "diffusion_model":  # whose modules diffusers renames
            parts.setdefault(part, {})[name.split(".", 1)[1]] = module.rank
        elif not part:
            content.ranks[name] = module.rank
    content.texts |= pipeline_texts(parts)
    return content


def put_peft(content: Content, module: LoraModule, name: str) -> None:
    """One module in PEFT's keys."""
    content.names[module.name] = name
    if module.is_embedding:
        content.tensors[f"{name}.lora_embedding_A"] = module.U.T.contiguous()
        content.tensors[f"{name}.lora_embedding_B"] = module.V.contiguous()
        return
    down, up = factors(module)
    content.tensors[f"{name}.lora_A.weight"], content.tensors[f"{name}.lora_B.weight"] = down, up


def pipeline_texts(parts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """What diffusers reads of ranks and α: part of the pipeline → module → rank."""
    texts = {f"{p}.{k}": v for p, ranks in parts.items() for k, v in patterns(ranks).items()}
    return {"lora_adapter_metadata": json.dumps(texts)} if texts else {}


def usual_rank(ranks: Sequence[int]) -> int:
    """The most frequent rank, the smallest of several."""
    ordered = sorted(ranks)
    return max(sorted(set(ordered)), key=ordered.count)


def patterns(ranks: Mapping[str, int]) -> dict[str, Any]:
    """A configuration of PEFT for modules of these ranks, α = r.

    Targets are whole names: by its end alone a name means further modules, some of which PEFT
    refuses, since they hold others. Keys of patterns are regular expressions that PEFT matches as
    ``(.*\\.)?(KEY)$``: with ^ before them they mean one module alone.
    """
    usual = usual_rank(list(ranks.values()))
    unusual = {f"^{name.replace('.', chr(92) + '.')}": r for name, r in ranks.items() if r != usual}
    return {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": unusual,
        "alpha_pattern": dict(unusual),
        "target_modules": sorted(ranks),
    }


STYLES: dict[str, Callable[[Lora], Content]] = {"same": same, "kohya": kohya, "peft": peft}
"""Ways to write a LoRA whose base need not be known."""
