"""The spellings of LoRA keys: which module a tensor belongs to, and what part of it.

Every family writes its tensors as MODULE + ending. Most endings are whole parts between dots and
are looked up; the rules below them are tried in order, and the first that matches names module,
part, family and adapter. Pairing is by these names, never by order.
"""

import re
from functools import lru_cache
from typing import NamedTuple


class Part(NamedTuple):
    """A tensor's place: the module that it adapts and its role there.

    ``adapter`` is PEFT's name of the adapter where the key has it, else empty.
    """

    module: str
    role: str
    family: str
    adapter: str = ""


_ENDINGS: dict[str, tuple[str, str]] = {
    ".lora_down.weight": ("down", "kohya"),
    ".lora_up.weight": ("up", "kohya"),
    ".lora_mid.weight": ("mid", "kohya"),
    ".lora_A.weight": ("A", "PEFT"),
    ".lora_B.weight": ("B", "PEFT"),
    ".lora_a.weight": ("A", "torchtune"),
    ".lora_b.weight": ("B", "torchtune"),
    ".alpha": ("alpha", ""),
    ".scale": ("scale", ""),
    ".lora_A": ("A", "loralib"),
    ".lora_B": ("B", "loralib"),
    ".weight.lora_a": ("A", "llama.cpp"),
    ".weight.lora_b": ("B", "llama.cpp"),
    ".lora_a": ("mlx_a", "MLX"),
    ".lora_b": ("mlx_b", "MLX"),
    ".lora_E": ("E", "AdaLoRA"),
    ".ranknum": ("ranknum", "AdaLoRA"),
    ".lora_diag": ("diag", "KaSA"),
    ".dora_scale": ("magnitude", "DoRA"),
    ".magnitude": ("magnitude", "DoRA"),  # ai-toolkit, torchtune
    ".m": ("magnitude", "DoRA"),  # MLX
    ".diff": ("diff", "full difference"),
    ".lora_magnitude_vector": ("magnitude", "DoRA"),
    ".lora_magnitude_vector.weight": ("magnitude", "DoRA"),
    ".lora_embedding_A": ("embedding_A", "PEFT"),
    ".lora_embedding_B": ("embedding_B", "PEFT"),
    ".hira_A": ("hira_A", "HiRA"),
    ".hira_B": ("hira_B", "HiRA"),
    ".hira_embedding_A": ("hira_embedding_A", "HiRA"),
    ".hira_embedding_B": ("hira_embedding_B", "HiRA"),
    ".gralora_A": ("gralora_A", "GraLoRA"),
    ".gralora_B": ("gralora_B", "GraLoRA"),
    ".c3a_kernel": ("c3a_kernel", "C3A"),
    ".shira_weight": ("shira_weight", "SHiRA"),
    ".shira_indices": ("shira_indices", "SHiRA"),
    ".miss_block": ("miss_block", "MiSS"),
    ".bone_block": ("miss_block", "Bone"),
} | {
    f".hada_{part}": (f"hada_{part}", "LyCORIS LoHa")
    for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
} | {
    f".lokr_{part}": (f"lokr_{part}", "LyCORIS LoKr")
    for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
}  # fmt: skip
"""Endings of one or two parts → role, family."""

_RULES: tuple[tuple[str, str, str, str], ...] = (
    # pattern, module and role with the numbers of its groups, family; (?P<name>…) is the adapter
    (r"^(.*):(\d+):(up|down)$", "{0}:{1}", "{2}", "cloneofsimo"),
    (r"^(.*)\.processor\.(\w+?)_lora(\d*)\.(down|up)\.weight$", "{0}.{1}{2}", "{3}",
     "diffusers (attention processors)"),
    (r"^(.*\.\w+?|\d+\.\w+?)_lora\.(down|up)\.weight$", "{0}", "{1}", "IP-Adapter-FaceID"),
    (r"^(.*)\.lora(?:_linear_layer)?\.(down|up)\.weight$", "{0}", "{1}", "diffusers (layers)"),
    (r"^(.*)_lora_(down|up|mid)\.weight$", "{0}", "{1}", "kohya"),
    (r"^(.*)\.lora_(down|up)\.(\d{1,3})\.weight$", "{0}", "{1}.{2}", "kohya"),
    (r"^(.*)\.(?:lora_|lora\.)?(down|up|mid|A|B|a|b)(?:\.weight)?\.(?:scale_weight|weight_scale|"
     r"weight_scale_inv)$", "{0}", "scale of {1}", ""),
    (r"^(.*)\.lora_(down|up|mid|A|B)(?:\.weight)?[._]scale$", "{0}", "scale of {1}", ""),
    (r"^(.*)\.(hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.weight)?[._](?:scale_weight|"
     r"weight_scale|weight_scale_inv|scale)$", "{0}", "scale of {1}", ""),
    (r"^(.*?)(?:\.weight)?::lora::0$", "{0}", "up", "layerdiffuse"),
    (r"^(.*?)(?:\.weight)?::lora::1$", "{0}", "down", "layerdiffuse"),
    (r"^(.*)\.lora_([AB])\.(?P<name>.+)\.weight$", "{0}", "{1}", "PEFT"),
    (r"^(.*)\.lora_embedding_([AB])\.(?P<name>.+)$", "{0}", "embedding_{1}", "PEFT"),
    (r"^(.*)\.lora_([AB])\.(?!bias$|.*\.bias$)(?P<name>.+)$", "{0}", "{1}", "PEFT"),
    (r"^(.*)\.lora_E\.(?P<name>.+)$", "{0}", "E", "AdaLoRA"),
    (r"^(.*)\.ranknum\.(?P<name>.+)$", "{0}", "ranknum", "AdaLoRA"),
    (r"^(.*)\.lora_diag\.(?P<name>.+)$", "{0}", "diag", "KaSA"),
    (r"^(.*)\.lora_magnitude_vector\.(?P<name>.+?)(?:\.weight)?$", "{0}", "magnitude", "DoRA"),
    (r"^(.*)\.(hada_w[12]_[ab]|hada_t[12])\.(?P<name>.+)$", "{0}", "{1}", "LyCORIS LoHa"),
    (r"^(.*)\.(lokr_w[12](?:_[ab])?|lokr_t2)\.(?P<name>.+)$", "{0}", "{1}", "LyCORIS LoKr"),
    (r"^(.*)\.(gralora_[AB]_general)(?:\.(?P<name>.+))?\.weight$", "{0}", "{1}", "GraLoRA"),
    (r"^(.*)\.(gralora_[AB])\.(?P<name>.+)$", "{0}", "{1}", "GraLoRA"),
    (r"^(.*)\.(hira_(?:embedding_)?[AB])\.(?P<name>.+)$", "{0}", "{1}", "HiRA"),
    (r"^(.*)\.(c3a_kernel)\.(?P<name>.+)$", "{0}", "{1}", "C3A"),
    (r"^(.*)\.(shira_weight|shira_indices)\.(?P<name>.+)$", "{0}", "{1}", "SHiRA"),
    (r"^(.*)\.miss_block\.(?P<name>.+)$", "{0}", "miss_block", "MiSS"),
    (r"^(.*)\.bone_block\.(?P<name>.+)$", "{0}", "miss_block", "Bone"),
    (r"^w_([ab])_(\d+)$", "layer{1}", "vit_{0}", "LoRA-ViT / SAM"),
    (r"^(input|output|block\d+\.\d+)\.([AB])$", "{0}", "own_{1}", "wsdemo instance"),
    (r"^(.*)\.A$", "{0}", "mlx_a", "mlx-vlm"),
    (r"^(.*)\.B$", "{0}", "mlx_b", "mlx-vlm"),
    (r"^(.*)\.(down|up)$", "{0}", "{1}", "Control-LoRA"),
)  # fmt: skip
RULES = tuple((re.compile(p), m, r, f) for p, m, r, f in _RULES)

_PREFIX = "base_model.model."


@lru_cache(100_000)  # asked again of each key, by what says where a file loads
def split_key(key: str) -> Part | None:
    """The place of a tensor, None if its key is no adapter's."""
    last = key.rfind(".")
    before = key.rfind(".", 0, last) if last > 0 else -1
    for cut in (before, last):
        if cut > 0 and key[cut:] in _ENDINGS:
            return Part(bare_name(key[:cut]), *_ENDINGS[key[cut:]])
    for pattern, module, role, family in RULES:
        match = pattern.match(key)
        if match:
            texts = match.groups()
            name = match.groupdict().get("name") or ""
            return Part(bare_name(module.format(*texts)), role.format(*texts), family, name)
    return None


def bare_name(name: str) -> str:
    """A module's name without PEFT's wrappers, which some files carry twice."""
    while name.startswith(_PREFIX):
        name = name[len(_PREFIX) :]
    return name
