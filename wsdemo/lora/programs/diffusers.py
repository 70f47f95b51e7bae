"""diffusers: by what its own loaders were seen to read (``bases/readers.py``)."""

from collections.abc import Sequence
from functools import lru_cache

from wsdemo.lora.bases.readers import Rule, encoder_rules, rules, version
from wsdemo.lora.bases.recognise import encoder_of
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, all_tables, numberless
from wsdemo.lora.keys import split_key
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.programs.view import WRAPPED, Loads, judged, refused, roles

_OWN = ("transformer.", "transformer_2.", "unet.", "prior.")
"""Its own prefixes, whose keys it does not convert."""
_LAX = "FluxLoraLoaderMixin"
"""The loader that takes a file with keys that have no ``lora`` in them."""


_OLD = {"diffusers (layers)": "layers", "diffusers (attention processors)": "processors"}
"""Families of keys of its first generations → their form."""


def form(module: LoraModule) -> str:
    """Which tensors a module has, as the facts name it; empty for those of no known form."""
    module_roles = roles(module)
    alpha = " alpha" if "alpha" in module_roles else ""
    module_roles -= {"alpha", "magnitude"}
    family = part.family if module.keys and (part := split_key(module.keys[0])) else ""
    if family in _OLD:
        return _OLD[family] + alpha
    for pair, name in (({"A", "B"}, "A B"), ({"down", "up"}, "down up")):
        if module_roles == pair:
            return name + alpha
    is_lokr = bool(module_roles) and all(
        role.startswith("lokr_") and role != "lokr_t2" for role in module_roles
    )
    return f"lokr{alpha}" if is_lokr else ""


def in_diffusers(lora: Lora, base: Base | None) -> Loads:
    """What diffusers makes of a file."""
    if base is None:
        return Loads(None, (), None, "the base is not known, so its names are not", version())
    base_rules = rules(base)
    if not base_rules:
        return refused(lora, "it has no loader for this base", version())
    lost: list[LoraModule] = []
    present: set[str] = set()
    for module in lora.modules:
        table, facts = _of_part(module, base, base_rules)
        kinds = set(map(numberless, _pieces(module, table)))
        rule = _rule(module, table, facts)
        if rule is None:
            lost.append(module)
            continue
        if kinds & rule.refused:
            return refused(lora, f"it refuses a file that has {module.name[:80]}", version())
        if kinds & rule.lost:
            lost.append(module)
        if rule.is_whole:
            present |= _pieces(module, base)
    part = _partial(base, present)
    if part:
        return refused(lora, f"it refuses a file without {part}, which has that block", version())
    odd = [
        t.key
        for t in lora.kept
        if t.what != "unread" and not any(x in t.key for x in ("lora", "lokr", "dora_scale"))
    ]
    loader = base.source.get("loader", "")
    if odd and loader and loader != _LAX and spelled(lora.modules[0].name).prefix in _OWN:
        return refused(lora, f"it refuses a file with a key such as {odd[0][:80]}", version())
    return judged(lora, lost, _dropped(lora, odd), lambda m: _strength(lora, m), version())


def _of_part(
    module: LoraModule, base: Base, base_rules: Sequence[Rule]
) -> tuple[Base, Sequence[Rule]]:
    """The table of the part of the pipeline that a module belongs to, and what is read of it."""
    part = spelled(module.name).part
    if part.startswith("model"):
        return base, base_rules
    encoder = encoder_of(base, part)
    if encoder is None:
        return base, ()
    return all_tables()[encoder], encoder_rules(base, 1 + base.encoders.index(encoder))


def _pieces(module: LoraModule, base: Base) -> set[str]:
    """The canonical modules that one of the file stands for."""
    entry = base.find(spelled(module.name).flat)
    return {p.module for p in entry.pieces} if entry else set()


def _rule(module: LoraModule, base: Base, facts: Sequence[Rule]) -> Rule | None:
    name = spelled(module.name)
    entry, tensors = base.find(name.flat), form(module)
    if entry is None:
        return None
    is_wrapped = bool(module.keys) and module.keys[0].startswith(WRAPPED)
    prefix = WRAPPED + name.prefix if is_wrapped else name.prefix
    if not module.keys:
        tensors = "A B"
    for rule in facts:
        if rule.prefix == prefix and rule.naming in entry.namings and tensors in rule.forms:
            return rule
    return None


def _partial(base: Base, present: set[str]) -> str:
    """A module that is missing of a block that is there; empty if none is."""
    blocks = {_block(name) for name in present} - {""}
    return next((n for n in base.shapes if _block(n) in blocks and n not in present), "")


@lru_cache(maxsize=1 << 16)
def _block(name: str) -> str:
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: at + 1]) if at else ""


def _dropped(lora: Lora, odd: Sequence[str]) -> list[str]:
    """Tensors that are left out without the module: DoRA's magnitudes as kohya's programs write
    them, and what has no place."""
    scales = [k for m in lora.modules for k in m.keys if k.endswith((".dora_scale", ".magnitude"))]
    return [*scales, *odd]


def _strength(lora: Lora, module: LoraModule) -> float:
    """adapter_config.json is not read: without α in the file or its texts the scale is 1."""
    module_roles = roles(module)
    is_configured = "A" in module_roles and "alpha" not in module_roles
    if not is_configured or "lora_adapter_metadata" in lora.metadata or module.scale == 0:
        return 1.0
    return 1.0 / module.scale
