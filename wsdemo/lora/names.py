"""One module, several spellings: diffusers' dots, kohya's underscores, ComfyUI's prefix."""

import re
from collections.abc import Iterable, Sequence

from wsdemo.lora.bases.canonical import by_table, common_base
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.modules import Lora, LoraModule

COMPONENTS = {
    "unet": "lora_unet", "diffusion_model": "lora_unet", "transformer": "lora_transformer",
    "text_encoder": "lora_te1", "text_encoder_2": "lora_te2", "text_encoder_3": "lora_te3",
}  # fmt: skip
"""Parts of a pipeline, as diffusers and ComfyUI begin a module's name → as kohya does."""
_UNET = re.compile(r"(down_blocks|up_blocks|mid_block)\.")


def component(name: str, family: str) -> str:
    """The part of a pipeline that a name with dots begins with; empty if none.

    GPT-2 and its like are a ``transformer.`` of their own, in PEFT's and loralib's files.
    """
    first, dot, _ = name.partition(".")
    if first == "transformer" and not any(f in family for f in ("diffusers", "kohya", "LyCORIS")):
        return ""
    return first if dot and first in COMPONENTS else ""


def is_lost(name: str) -> bool:
    """Whether the model's own name cannot be known: kohya's without dots, or a number."""
    return re.match(r"lora_(unet|te\d?|transformer|prior)_|.*:\d+$|layer\d+$", name) is not None


def pipeline_name(name: str, family: str) -> str:
    """As diffusers writes it today: its first generation left out ``unet.`` and the ``.0`` of
    output layers."""
    if family.startswith("diffusers") and _UNET.match(name):
        name = f"unet.{name}"
    return f"{name}.0" if name.startswith("unet.") and name.endswith(".to_out") else name


def kohya_name(name: str, family: str, has_two_encoders: bool = False) -> str:
    """The name as kohya's programs write it; as it is if it begins with no part of a pipeline."""
    if _UNET.match(name):
        name = f"unet.{name}"
    part = component(name, family)
    if not part:
        return name
    prefix = COMPONENTS[part]
    if part == "text_encoder" and not has_two_encoders:
        prefix = "lora_te"
    return f"{prefix}_{pipeline_name(name, 'diffusers').split('.', 1)[1].replace('.', '_')}"


def canonical_name(name: str) -> str:
    """The same text for every spelling of a name that differs in prefix and dots alone."""
    return spelled(name).key


def canonical_names(names: Iterable[str]) -> list[str]:
    """The canonical names; where several have one, told apart by their order."""
    unique: dict[str, None] = {}
    for name in map(canonical_name, names):
        while name in unique:
            name += "+"
        unique[name] = None
    return list(unique)


def by_canonical_name(lora: Lora) -> dict[str, LoraModule]:
    """The modules by their canonical names; where several have one, told apart by their order."""
    return dict(zip(canonical_names(m.name for m in lora.modules), lora.modules, strict=True))


def aligned(loras: Sequence[Lora]) -> list[dict[str, LoraModule]]:
    """The modules of several LoRAs, by names that are equal where the module is.

    Where they are not named alike but for prefix and dots, the table of a base that all may be
    for translates their names, and splits what one of them fuses.
    """
    plain = [by_canonical_name(lora) for lora in loras]
    fewest = min(plain, key=len)
    if all(fewest.keys() <= modules.keys() for modules in plain):
        return plain
    base = common_base(loras)
    return plain if base is None else [by_table(lora, base) for lora in loras]
