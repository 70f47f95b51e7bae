"""Reads any LoRA file: guard, tensors, pairs by name, scale, passport."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import (
    MAX_CONFIG_BYTES,
    MAX_EXPANDED_NUMBERS,
    MAX_LORA_BYTES,
    MAX_MODULE_NUMBERS,
    MAX_RANK,
)
from wsdemo.lora import convert
from wsdemo.lora.base_model import decide_base
from wsdemo.lora.convert import Factors, Unusable
from wsdemo.lora.keys import Part, split_key, what_else, why_ignored
from wsdemo.lora.modules import IgnoredKey, Lora, LoraModule
from wsdemo.lora.scales import Scales
from wsdemo.safetensors_header import Header, read_header

Parts = dict[str, tuple[str, Tensor]]
"""Role → (key, tensor) of one module."""


def _refuse(title: str, message: str, hint: str) -> WsdemoError:
    return WsdemoError(title, message, hint)


def read_lora(
    path: Path,
    config: Mapping[str, Any] | None = None,
    each: Callable[[LoraModule], LoraModule] = lambda module: module,
) -> Lora:
    """Reads a .safetensors file as a LoRA.

    Args:
        path: The file.
        config: PEFT's adapter_config.json; default: the one beside the file, if any.
        each: Takes a module as soon as it is read, and gives what is kept of it.

    Raises:
        WsdemoError: The file is damaged or beyond limits, holds no LoRA (the message says
            what it holds), or values that are not finite.
    """
    size = path.stat().st_size
    if size > MAX_LORA_BYTES:
        raise _refuse(
            "File too large",
            f"It has {size / 2**30:.1f} GB; {MAX_LORA_BYTES / 2**30:.0f} GB are allowed.",
            "Give the adapter alone, without its base model.",
        )
    header = read_header(path)
    _check_texts(header)
    doubts: list[str] = []
    if config is None:
        config, doubts = _config_beside(path)
    groups, ignored = group(header)
    _check_kind(header, groups)
    with _opened(path, header) as read:
        lora = assemble(read, groups, ignored, header, config, each)
    return replace(lora, warnings=(*doubts, *lora.warnings)) if doubts else lora


def _check_texts(header: Header) -> None:
    """JSON can escape half of a character, which no output can show and no file name."""
    try:
        "".join((*header.tensors, *header.metadata, *header.metadata.values())).encode()
    except UnicodeEncodeError as error:
        raise _refuse(
            "Not a readable safetensors file",
            "A name or text in it is no Unicode: it holds half of a surrogate pair.",
            "Save the file again.",
        ) from error


def judge_header(header: Header) -> str:
    """What a header alone says, before a file is downloaded: modules, ranks, base.

    Raises:
        WsdemoError: It holds no LoRA; the message says what it holds.
    """
    _check_texts(header)
    groups, ignored = group(header)
    _check_kind(header, groups)
    groups = {name: roles for name, roles in groups.items() if _form_of(roles)}
    ranks: dict[int, int] = {}
    shapes = {}
    for name, roles in groups.items():
        sides = {role: header.tensors[key][1] for role, (key, _) in roles.items()}
        matrices = [side for role, side in sides.items() if role != "magnitude" and len(side) > 1]
        shapes[name] = tuple(max(side[:2]) for side in matrices)[:2]
        rank = next((sides[role][axis] for role, axis in _RANK_AXES.items()
                     if len(sides.get(role, ())) > axis), 0)  # fmt: skip
        if rank:
            ranks[rank] = ranks.get(rank, 0) + 1
    base = decide_base(header, {}, list(groups), shapes)
    told = ", ".join(f"{r} ({n})" if len(ranks) > 1 else str(r) for r, n in sorted(ranks.items()))
    said = f"{len(groups):,} modules of rank {told or 'unknown'}"
    said += f", for {base.name}" if base.name else ", base model not named"
    return said + (f"; {len(ignored):,} tensors would be ignored." if ignored else ".")


_RANK_AXES = {"down": 0, "A": 0, "embedding_A": 0, "mlx_a": 1, "vit_a": 0, "own_A": 0,
              "hada_w1_b": 0, "lokr_w1_b": 0, "lokr_w2_b": 0}  # fmt: skip
"""Where a tensor's shape has the rank. A LoKr of whole factors and a difference have none."""


def _config_beside(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The adapter_config.json beside a file, and what is wrong with it."""
    beside = path.with_name("adapter_config.json")
    if not beside.is_file():
        return {}, []
    doubt = ["The adapter_config.json beside the file is damaged, and was not used."]
    if beside.stat().st_size > MAX_CONFIG_BYTES:
        return {}, doubt
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}, doubt
    return (found, []) if isinstance(found, dict) else ({}, doubt)


def group(header: Header) -> tuple[dict[str, dict[str, tuple[str, Part]]], list[IgnoredKey]]:
    """Sorts keys into modules: module → role → (key, part); and the keys that fit nowhere."""
    groups: dict[str, dict[str, tuple[str, Part]]] = {}
    ignored = []
    for key in sorted(header.tensors):
        part = split_key(key)
        if part is None:
            ignored.append(IgnoredKey(key, why_ignored(key)))
        elif part.role in groups.setdefault(part.module, {}):
            other = groups[part.module][part.role][0]
            ignored.append(IgnoredKey(key, f"a second {part.role} of the same module, as {other}"))
        else:
            groups[part.module][part.role] = (key, part)
    return groups, ignored


FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


@dataclass(frozen=True)
class _Form:
    """One way to read a module: the roles that it needs (else one of the others), and may have."""

    needs: frozenset[str]
    may: frozenset[str]
    factors: Callable[[dict[str, Tensor]], Factors]

    def fits(self, roles: Collection[str]) -> bool:
        """Whether a module with these roles can be read so."""
        return self.needs.issubset(roles) if self.needs else not self.may.isdisjoint(roles)

    def reads(self, role: str) -> bool:
        """Whether the tensor of this role is then read."""
        return role in self.needs or role in self.may or role in ("alpha", "magnitude")


def _form(factors: Callable[[dict[str, Tensor]], Factors], needs: str = "", may: str = "") -> _Form:
    return _Form(frozenset(needs.split()), frozenset(may.split()), factors)


_FORMS = (
    _form(convert.loha, may="hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 hada_t2"),
    _form(convert.lokr, may="lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2"),
    _form(lambda p: convert.pair(p["down"], p["up"], p.get("mid")), "down up", "mid"),
    _form(lambda p: convert.adalora(p["A"], p["B"], p["E"]), "A B E", "ranknum"),
    _form(lambda p: convert.pair(p["A"], p["B"]), "A B"),
    _form(lambda p: convert.embedding(p["embedding_A"], p["embedding_B"]),
          "embedding_A embedding_B"),
    _form(lambda p: convert.mlx(p["mlx_a"], p["mlx_b"]), "mlx_a mlx_b"),
    _form(lambda p: convert.pair(p["vit_a"], p["vit_b"]), "vit_a vit_b"),
    _form(lambda p: convert.pair(p["own_A"], p["own_B"]), "own_A own_B"),
    _form(lambda p: convert.difference(p["diff"]), "diff"),
)  # fmt: skip
"""In order: a module that allows several is read by the first; its other tensors are ignored."""


def _form_of(roles: Collection[str]) -> _Form | None:
    return next((form for form in _FORMS if form.fits(roles)), None)


def _check_kind(header: Header, groups: Mapping[str, Mapping[str, Any]]) -> None:
    if any(_form_of(roles) for roles in groups.values()):
        return
    keys = list(header.tensors)
    what = what_else(keys)
    raise _refuse(
        "No LoRA",
        f"The file holds {what} ({len(keys):,} tensors, such as {keys[0][:60]!r})."
        if keys
        else "The file holds no tensors.",
        "Give a LoRA, LoCon, LoHa, LoKr or DoRA as .safetensors.",
    )


_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64,
    "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@contextmanager
def _opened(path: Path, header: Header) -> Iterator[Callable[[str], Tensor]]:
    """A function that reads one tensor, float32; the file is never in memory as a whole."""
    with path.open("rb", buffering=0) as file:

        def read(key: str) -> Tensor:
            (dtype, shape), (start, stop) = header.tensors[key], header.places[key]
            content = bytearray(stop - start)
            file.seek(start)
            if file.readinto(content) != len(content):
                raise _refuse(
                    "Not a readable safetensors file",
                    f"Tensor {key[:80]!r} cannot be read.",
                    "Download it again.",
                )
            return torch.frombuffer(content, dtype=_TYPES[dtype]).reshape(shape).float()

        yield read


_SECOND = "a second update of its module, beside the one that is read"


def assemble(
    read: Callable[[str], Tensor],
    groups: Mapping[str, Mapping[str, tuple[str, Part]]],
    ignored: list[IgnoredKey],
    header: Header,
    config: Mapping[str, Any],
    each: Callable[[LoraModule], LoraModule],
) -> Lora:
    """Turns grouped tensors into modules, one after the other, and writes the passport."""
    scales = Scales(config, header.metadata)
    kind = "multiplicative" if _multiplies(config, header.metadata) else "additive"
    modules, warnings, families, alphas = [], [], set[str](), set[float]()
    ignored, used, expanded, second, left_out = list(ignored), 0, 0, list[str](), 0
    for name in sorted(groups):
        roles = groups[name]
        form = _form_of(roles)
        if form is None:
            lone = ", ".join(sorted(set(roles)))
            ignored += [
                IgnoredKey(key, f"its module has only {lone}: no pair") for key, _ in roles.values()
            ]
            left_out += not {"alpha", "magnitude"}.issuperset(roles)
            continue
        others = [key for role, (key, _) in roles.items() if not form.reads(role)]
        if others:
            second.append(name)
            ignored += [IgnoredKey(key, _SECOND) for key in others]
            roles = {role: place for role, place in roles.items() if form.reads(role)}
        try:
            tensors = [header.tensors[key] for key, _ in roles.values()]
            # 64-bit numbers count twice, as the file's pages stay in memory beside the copy.
            stored = sum(math.prod(shape) * (1 + (dtype == "F64")) for dtype, shape in tensors)
            if stored > MAX_MODULE_NUMBERS:
                raise Unusable(f"{stored:,} numbers, of {MAX_MODULE_NUMBERS:,} allowed")
            parts = {role: read(key) for role, (key, _) in roles.items()}
            _check_parts(parts, {role: header.tensors[key][0] for role, (key, _) in roles.items()})
            factors = form.factors(parts)
            rank = factors.U.shape[1] if "diff" in parts else factors.stored_rank
            if rank > MAX_RANK:
                raise Unusable(f"rank {rank}, of {MAX_RANK} allowed")
            numbers = factors.U.numel() + factors.V.numel()
            if numbers > MAX_MODULE_NUMBERS // 2:
                raise Unusable(f"its factors have {numbers:,} numbers")
            expanded += max(0, numbers - stored)
            if expanded > MAX_EXPANDED_NUMBERS:
                raise Unusable("the factors of this file expand to more than 2 GB")
        except (Unusable, RuntimeError, IndexError) as error:
            # torch's own complaints are about shapes that no family has
            problem = str(error) if isinstance(error, Unusable) else "its shapes do not fit"
            ignored += [IgnoredKey(key, problem) for key, _ in roles.values()]
            warnings.append(f"{name}: {problem}; left out.")
            left_out += 1
            continue
        scale = scales.of(name, parts, factors)
        U, V = factors.U.contiguous(), factors.V.contiguous()
        if scale != 1:
            U = U * scale
        magnitude = parts.get("magnitude")
        # The norm of what is multiplied has to be finite too, so that it can be measured.
        is_finite = magnitude is None or math.isfinite(_norm(magnitude))
        if not (_fits_float32(U) and _fits_float32(V)):
            is_finite &= math.isfinite(_norm(U) * _norm(V))
        if not is_finite:
            raise _refuse(
                "Values that are not finite",
                f"Module {name[:80]!r} holds NaN or infinite values, or an α that is.",
                "The training diverged; use an earlier checkpoint.",
            )
        if "alpha" in parts and parts["alpha"].numel() == 1:
            alphas.add(float(parts["alpha"]))
        families |= {part.family for _, part in roles.values() if part.family}
        used += len(roles)
        module = LoraModule(
            name,
            U,
            V,
            scale,
            factors.stored_rank,
            factors.shape,
            kind=kind,
            note=factors.note,
            kept=factors.kept,
            is_certain=scales.is_certain and magnitude is None and not others,
            magnitude=None if magnitude is None else magnitude.flatten(),
            is_embedding=factors.is_embedding,
        )
        modules.append(each(module))
    if second:
        warnings.append(
            f"{len(second)} modules hold a second update that was left out: {second[0]} …"
        )
    if not modules:
        raise _refuse(
            "No LoRA",
            f"None of its {len(groups):,} modules is usable: {ignored[0].why[:120]}.",
            "Save the adapter again from its trainer.",
        )
    warnings = [*scales.warnings(modules), *_cuts(modules), *warnings]
    if any(m.magnitude is not None for m in modules):
        warnings.append(
            "DoRA: the update depends on the base's own weights; U and V hold the direction "
            "before the magnitude is applied."
        )
    family = _family(families, header, bool(config))
    return Lora(
        family,
        tuple(modules),
        decide_base(header, config, [m.name for m in modules], {m.name: m.shape for m in modules}),
        tuple(sorted(alphas)),
        _count(dtype for dtype, _ in header.tensors.values()),
        used,
        tuple(ignored),
        tuple(warnings),
        dict(header.metadata),
        dict(config),
        left_out,
    )


def _cuts(modules: Sequence[LoraModule]) -> list[str]:
    """What was lost where a product of factors or a full difference has too many columns."""
    cut = [m for m in modules if m.is_cut]
    if not cut:
        return []
    columns = sorted({m.rank for m in cut})
    to = f"{columns[0]} to {columns[-1]}" if len(columns) > 1 else f"{columns[0]}"
    least = min(cut, key=lambda m: m.kept)
    return [
        f"{len(cut)} of {len(modules)} modules are cut to {to} columns; the least, {least.name},"
        f" keeps {least.kept:.1%} of its energy. Norms are those of the whole update."
    ]


def _fits_float32(X: Tensor) -> bool:
    """Whether ‖X‖² is finite in float32: a quick look that spares almost every file _norm."""
    flat = X.reshape(-1)
    return math.isfinite(torch.dot(flat, flat))


def _norm(X: Tensor) -> float:
    return float(torch.linalg.vector_norm(X, dtype=torch.float64))


def _check_parts(parts: Mapping[str, Tensor], dtypes: Mapping[str, str]) -> None:
    """Raises Unusable for tensors that no family has."""
    for role, tensor in parts.items():
        if role in ("alpha", "ranknum") and tensor.numel() != 1:
            raise Unusable(f"its {role} has {tensor.numel()} numbers, not one")
        if role != "alpha" and dtypes[role] not in FLOATS:
            raise Unusable(f"its {role} is {dtypes[role]}, not floating point")
        if tensor.dim() > 5:
            raise Unusable(f"its {role} has {tensor.dim()} dimensions")


def _multiplies(config: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    """Whether W' = W ⊙ (U Vᵀ): a PEFT fork's ``use_mlora``, or an mLoRA instance of wsdemo."""
    own = metadata.get("wsdemo", "")
    return bool(config.get("use_mlora")) or '"representation": "mlora' in own


def _count(values: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _family(families: set[str], header: Header, has_config: bool) -> str:
    """A name for the format from the families of its keys."""
    keys = list(header.tensors)
    if families == {"PEFT"}:
        if any(k.startswith("diffusion_model.") for k in keys):
            return "ComfyUI / ai-toolkit"
        if any(k.startswith(("unet.", "transformer.", "text_encoder.")) for k in keys):
            return "diffusers (PEFT layers)"
    if families == {"kohya"} and any(k.startswith("lora_transformer_") for k in keys):
        return "ComfyUI / musubi"
    if not families:
        return "unknown"
    order = sorted(families, key=lambda f: (f in ("PEFT", "kohya"), f))
    return " + ".join(order)
