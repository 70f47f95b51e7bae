"""A LoRA from two checkpoints: the leading singular values of their difference, weight by weight.

One weight at a time is read from both files, so that two files of many gigabytes take little
memory: two copies of the largest weight, and the factors so far.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.lora.bases.recognise import recognise
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base
from wsdemo.lora.containers.container import Container
from wsdemo.lora.containers.finding import opened_alone
from wsdemo.lora.decomposition import decompose
from wsdemo.lora.styles import patterns
from wsdemo.lora.writing import DTYPES

MAX_NUMBERS = 2**27
"""Of one weight: 512 MB in float32. Larger ones, embeddings, are left out and said."""
_FLOATS = {"F64", "F32", "F16", "BF16"}
_PIPELINE = "model.diffusion_model."


def extract(
    tuned: Path, base: Path, out: Path, rank: int = 32, energy: float = 1.0, dtype: str = "float16"
) -> dict[str, Any]:
    """Writes the LoRA that leads from one checkpoint to the other.

    Args:
        tuned: The finetuned checkpoint, .safetensors.
        base: The one that it came from.
        out: The .safetensors file; a language model's adapter_config.json goes beside it.
        rank: Ranks of a weight, at most.
        energy: Share of ‖ΔW‖² that is enough, in (0, 1].
        dtype: One of DTYPES.

    Returns:
        ``modules``, ``energy`` kept over all of them, ``unchanged`` weights, ``left_out`` keys with
        the reason, ``base`` as it is recognised.

    Raises:
        WsdemoError: A file is damaged, they share no weight, none differs, or a value is out of
            range.
    """
    if rank < 1:
        raise WsdemoError("Value out of range", f"rank is {rank}.", "Choose 1 or more.")
    if not 0 < energy <= 1:
        raise WsdemoError("Value out of range", f"energy is {energy:g}.", "Choose 0 to 1.")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    vectors: dict[str, Tensor] = {}
    left: dict[str, str] = {}
    unchanged, kept, whole = 0, 0.0, 0.0
    with opened_alone(tuned) as new, opened_alone(base) as old:
        shared = _shared(new, old, left)
        for key in shared:
            difference = _difference(new, old, key)
            if difference is None:
                unchanged += 1
            elif not bool(difference.isfinite().all()):
                raise WsdemoError(
                    "Values that are not finite",
                    f"{key[:80]!r} differs by NaN or infinite values.",
                    "Use an earlier checkpoint.",
                )
            elif difference.dim() < 2:
                vectors[key] = difference
            else:
                square = float(difference.double().square().sum())
                U, V, share = decompose(difference.flatten(1), energy, rank)
                down = V.T.reshape(U.shape[1], *difference.shape[1:])
                up = U.reshape(*U.shape, *[1] * (difference.dim() - 2))
                pairs[key.removesuffix(".weight")] = (
                    down.to(DTYPES[dtype]), up.to(DTYPES[dtype])
                )  # fmt: skip
                kept, whole = kept + square * share, whole + square
    if not pairs:
        raise WsdemoError(
            "Nothing to extract",
            f"None of the {len(shared):,} weights that both have differs.",
            "Give the finetuned checkpoint first, and then its base.",
        )
    shapes = {n: (len(up), *down.shape[1:]) for n, (down, up) in pairs.items()}
    recognised = recognise(list(shapes), shapes)
    table = recognised.bases[0] if recognised.bases else None
    is_language = table is None or not table.component
    count = _write(out, pairs, vectors, left, table if not is_language else None, dtype)
    return {
        "modules": len(pairs),
        "energy": kept / whole if whole > 0 else 1.0,
        "rank": rank,
        "unchanged": unchanged,
        "base": recognised.name or "unclear",
        "tensors": count,
        "bytes": out.stat().st_size,
        "left_out": [{"key": k, "why": why} for k, why in list(left.items())[:50]],
        "warnings": [f"{len(left)} tensors are left out: {next(iter(left))} …"] if left else [],
    }


def _shared(new: Container, old: Container, left: dict[str, str]) -> list[str]:
    """Keys of weights that both have in one shape, in order; the others with the reason."""
    shared = []
    before = old.header.tensors
    for key, (dtype, shape) in sorted(new.header.tensors.items()):
        if key not in before:
            left[key] = "only the finetuned file has it"
        elif before[key][1] != shape:
            left[key] = f"its shapes differ: {list(shape)} and {list(before[key][1])}"
        elif dtype not in _FLOATS or before[key][0] not in _FLOATS:
            left[key] = "no floating-point weight"
        elif torch.Size(shape).numel() > MAX_NUMBERS:
            left[key] = f"more than {MAX_NUMBERS:,} numbers"
        else:
            shared.append(key)
    if not shared:
        raise WsdemoError(
            "Nothing to extract",
            "The two files share no weight of one name and shape.",
            "Give two checkpoints of one model, in one format.",
        )
    return shared


def _difference(new: Container, old: Container, key: str) -> Tensor | None:
    """Tuned minus base in float32; None if they are equal."""
    first, second = new.raw([key])[0], old.raw([key])[0]
    if first.dtype == second.dtype and torch.equal(first, second):
        return None
    difference = first.float().sub_(second.float())
    return difference if bool(difference.any()) else None


def _write(
    out: Path,
    pairs: dict[str, tuple[Tensor, Tensor]],
    vectors: dict[str, Tensor],
    left: dict[str, str],
    table: Base | None,
    dtype: str,
) -> int:
    """A pipeline's part with ComfyUI's or diffusers' names; any other model as PEFT's adapter."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in pairs.items():
        full = _full(name, table)
        tensors[f"{full}.lora_A.weight"] = down.contiguous()
        tensors[f"{full}.lora_B.weight"] = up.contiguous()
    for key, vector in vectors.items():
        if table is None:
            left[key] = "a vector, for which PEFT's format has no difference"
            continue
        name, _, kind = key.rpartition(".")
        tensors[_full(name, table) + (".diff_b" if kind == "bias" else ".diff")] = vector.to(
            DTYPES[dtype]
        )
    write_whole(out, save(tensors, {"wsdemo": "extracted", "format": "pt"}))
    if table is None:
        ranks = {name: len(down) for name, (down, _) in pairs.items()}
        config = {"peft_type": "LORA", "base_model_name_or_path": None, "bias": "none"}
        beside = out.with_name("adapter_config.json")
        write_whole(beside, json.dumps(config | patterns(ranks), indent=1) + "\n")
    return len(tensors)


def _full(name: str, table: Base | None) -> str:
    """A weight's name as it is written."""
    if table is None:
        return f"base_model.model.{name}"
    if name.startswith(_PIPELINE):
        return name.removeprefix("model.")
    parsed = spelled(name)
    entry = table.find(parsed.flat)
    if parsed.prefix or entry is None:
        return name
    is_canonical = "canonical" in entry.namings
    return f"{table.component}.{name}" if is_canonical else f"diffusion_model.{name}"
