"""PEFT and what reads its adapters: by adapter_config.json, which comes first."""

import re

from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, flattened, numberless
from wsdemo.lora.modules import KeptTensor, Lora, LoraModule
from wsdemo.lora.programs.view import Loads, is_wrapped, judged, refused, roles
from wsdemo.lora.settings import Settings

VERSION = "0.21.2"
_ROLES = {
    "LORA": ({"A", "B"}, {"embedding_A", "embedding_B"}),
    "ADALORA": ({"A", "B", "E"},),
    "LOHA": ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},),
    "LOKR": ({"lokr_w1", "lokr_w2"}, {"lokr_w1_a", "lokr_w2"}, {"lokr_w1", "lokr_w2_a"},
             {"lokr_w1_a", "lokr_w2_a"}),
    "HIRA": ({"hira_A", "hira_B"}, {"hira_embedding_A", "hira_embedding_B"}),
    "GRALORA": ({"gralora_A", "gralora_B"},),
    "C3A": ({"c3a_kernel"},),
    "SHIRA": ({"shira_weight"},),
    "MISS": ({"miss_block"},),
}  # fmt: skip
"""peft_type → the tensors that a module has there, one of these sets."""
NO_CONFIG = "it needs adapter_config.json beside the file"
FOREIGN = "its keys are not PEFT's, and there is no adapter_config.json"


def has_config(lora: Lora) -> bool:
    """Whether there is a configuration that says how strong the update is."""
    return "lora_alpha" in lora.config or "alpha" in lora.config or "peft_type" in lora.config


def _unconfigured(lora: Lora, version: str) -> Loads:
    """What becomes of a file without configuration: its own may lie elsewhere, or it has none."""
    known = [needed for kinds in _ROLES.values() for needed in kinds]
    is_peft = all(
        is_wrapped(m) and any(needed <= roles(m) for needed in known) for m in lora.modules
    )
    return refused(lora, NO_CONFIG if is_peft else FOREIGN, version)


def in_peft(lora: Lora) -> Loads:
    """What ``PeftModel.from_pretrained`` makes of a file with the configuration beside it."""
    if not has_config(lora):
        return _unconfigured(lora, VERSION)
    settings = Settings(lora.config, lora.metadata)
    kind = settings.peft_type or "LORA"
    if kind not in _ROLES:
        return refused(lora, f"peft_type is {kind[:40]!r}", VERSION)
    read = [_reads(m, kind, settings) for m in lora.modules]
    lost = [m for m, is_read in zip(lora.modules, read, strict=True) if not is_read]
    for wrong, is_read in zip(lora.modules, read, strict=True):
        if is_read and kind == "LORA" and _misfits(wrong, settings):
            return refused(
                lora,
                f"its configuration says rank {settings.rank(wrong.name):g} of"
                f" {wrong.name[:80]}, the file {wrong.stored_rank}",
                VERSION,
            )
    also = [t.key for t in lora.kept if not _keeps(t, settings)]
    also += [
        k for m in lora.modules if m.magnitude is not None for k in m.keys
        if "magnitude" in k or "dora" in k
    ] if not settings.config.get("use_dora") else []  # fmt: skip
    return judged(lora, lost, also, lambda m: 1.0, VERSION)


def _reads(module: LoraModule, kind: str, settings: Settings) -> bool:
    if not module.keys:
        return True
    module_roles = roles(module)
    is_known = any(needed <= module_roles for needed in _ROLES[kind])
    return is_known and is_wrapped(module) and targeted(module.name, settings)


def targeted(name: str, settings: Settings) -> bool:
    """Whether ``target_modules`` means a module, by PEFT's rule; so it does if nothing is said."""
    targets = settings.config.get("target_modules")
    if settings.parameter(name):
        return True
    plain = name.replace(".base_layer", "")
    if isinstance(targets, str):
        if targets == "all-linear":
            return True
        try:
            return re.fullmatch(targets, plain) is not None if len(targets) < 300 else True
        except re.error:
            return False
    if not isinstance(targets, list) or not targets:
        return True
    return any(plain == t or plain.endswith(f".{t}") for t in targets if isinstance(t, str))


def _misfits(module: LoraModule, settings: Settings) -> bool:
    """Whether the configuration says another rank than the file has, so that PEFT refuses it."""
    if module.piece != (0, 1) or not roles(module) & {"A", "embedding_A"}:
        return False
    rank = settings.rank(module.name)
    return rank > 0 and int(rank) != module.stored_rank and not settings.enabled


def _keeps(tensor: KeptTensor, settings: Settings) -> bool:
    """Whether a tensor beside the updates has a place.

    Whole weights have: PEFT puts them into the model, whether they are configured or not.
    """
    if tensor.what == "bias" and ".lora_" in tensor.key:
        return bool(settings.config.get("lora_bias"))
    if tensor.what == "tokens":
        return bool(settings.config.get("trainable_token_indices"))
    return tensor.what in ("mark", "head", "norm", "embedding", "bias")


# ---- programs that read PEFT's adapters ----------------------------------------------


def in_vllm(lora: Lora) -> Loads:
    """vLLM: plain pairs with a configuration."""
    version = "PEFT adapters, as its documentation has them"
    if not has_config(lora):
        return _unconfigured(lora, version)
    lost = [m for m in lora.modules if not _is_plain(m)]
    return judged(lora, lost, (), lambda m: 1.0, version)


def _is_plain(module: LoraModule) -> bool:
    is_pair = not module.keys or {"A", "B"} <= roles(module)
    return is_pair and is_wrapped(module) and module.magnitude is None


def in_llama_cpp(lora: Lora, base: Base) -> Loads:
    """llama.cpp: its own GGUF; PEFT's adapters through its converter, which stops at other keys."""
    version = "gguf 0.19.0, convert_lora_to_gguf.py"
    is_gguf = "llama.cpp" in lora.family
    if not is_gguf and not has_config(lora):
        return _unconfigured(lora, version)
    known = {
        numberless(flattened(p.module))
        for pieces in base.namings.get("gguf", {}).values()
        for p in pieces
    }
    lost = []
    for module in lora.modules:
        entry = base.find(spelled(module.name).flat)
        has_name = entry is not None and (
            "gguf" in entry.namings
            if is_gguf
            else numberless(flattened(entry.pieces[0].module)) in known
        )
        if not has_name or not (is_gguf or _is_plain(module)):
            lost.append(module)
    odd = [t.key for t in lora.kept if t.what != "mark"]
    if not is_gguf and (odd or (lost and len(lost) < len(lora.modules))):
        key = odd[0] if odd else lost[0].name
        return refused(lora, f"its converter stops at {key[:80]}", version)
    return judged(lora, lost, odd, lambda m: 1.0, version)
