"""What is no LoRA, or one whose update is not in its file: by ``peft_type``, then by its keys."""

import re
from collections.abc import Iterable

_NEEDS_BASE = "whose update depends on the base's weights"
_NEEDS_SEED = "whose random matrices are not in the file"
_PROMPT = "which is no update of weights"

METHODS: tuple[tuple[str, str, str, str], ...] = (
    # peft_type, name, why, how its keys are known
    ("ADAMSS", "AdaMSS", _NEEDS_BASE, r"(^|\.)adamss_"),
    ("ADAPTION_PROMPT", "LLaMA-Adapter", _PROMPT, r"\.adaption_(prompt|gate)"),
    ("BEFT", "BEFT", "which trains biases", r"(^|\.)beft_bias"),
    ("BOFT", "BOFT", "which rotates weights", r"\.boft_[RSs]"),
    ("BONE", "Bone", "whose block repeats over inputs that the file does not count",
     r"(^|\.)bone_block"),
    ("CARTRIDGE", "Cartridge", _PROMPT, r"(^|\.)cartridge_"),
    ("CPT", "CPT", _PROMPT, r"(^|\.)cpt_"),
    ("DEFT", "DEFT", _NEEDS_BASE, r"(^|\.)deft_[PR]"),
    ("DELORA", "DeLoRA", "whose strength is relative to the base's weights", r"(^|\.)delora_"),
    ("FOURIERFT", "FourierFT", "whose frequencies are not in the file", r"fourierft_spectrum"),
    ("FROD", "FRoD", _NEEDS_BASE, r"(^|\.)frod_lambda"),
    ("GLORA", "GLoRA", "whose parts scale the base's weights", r"\.(a1|a2)\.weight$|glora_"),
    ("HRA", "HRA", "which reflects weights", r"\.hra_u(\.|$)"),
    ("IA3", "IA3", "which rescales activations", r"\.ia3_l(\.|$)|\.on_input$"),
    ("LILY", "Lily", "whose factors a router mixes for each input", r"(^|\.)lily_"),
    ("LN_TUNING", "LN tuning", "which trains whole normalisation layers", r"ln_tuning_layers"),
    ("MISS", "MiSS", "whose block repeats over inputs that the file does not count",
     r"(^|\.)miss_block"),
    ("MULTITASK_PROMPT_TUNING", "multitask prompt tuning", _PROMPT, r"prefix_task_(cols|rows)"),
    ("OFT", "OFT", "which rotates weights", r"\.(oft_r|oft_R|oft_blocks|oft_diag|oft_embedding_R)"),
    ("OSF", "OSF", _NEEDS_BASE, r"(^|\.)osf_"),
    ("P_TUNING", "p-tuning", _PROMPT, r"(^|\.)prompt_encoder"),
    ("PEANUT", "PEANuT", "whose update is a network of the base's weights", r"(^|\.)peanut_"),
    ("POLY", "Poly", "whose skills a router mixes", r"(^|\.)poly_(lora|router)"),
    ("PREFIX_TUNING", "prefix tuning", _PROMPT, r"(^|\.)prefix_"),
    ("PROMPT_TUNING", "prompt tuning", _PROMPT, r"(^|\.)prompt_embeddings(\.|$)"),
    ("PSOFT", "PSOFT", _NEEDS_BASE, r"(^|\.)psoft_"),
    ("PVERA", "PVeRA", _NEEDS_SEED, r"pvera_lambda_"),
    ("RANDLORA", "RandLoRA", _NEEDS_SEED, r"(^|\.)randlora_"),
    ("ROAD", "RoAd", "which rotates activations", r"(^|\.)road_(theta|alpha)"),
    ("SHADOW", "Shadow", "which is a network beside the base", r"(^|\.)shadow_"),
    ("SUPERTUNING", "SuperTuning", _NEEDS_BASE, r"(^|\.)supertuning_"),
    ("TINYLORA", "TinyLoRA", _NEEDS_BASE, r"(^|\.)tinylora_"),
    ("TRAINABLE_TOKENS", "trainable-tokens", "which holds new rows of an embedding alone",
     r"(^|\.)trainable_tokens_delta"),
    ("UNILORA", "UniLoRA", "whose projections are not in the file", r"unilora_"),
    ("VBLORA", "VB-LoRA", "whose factors are mixed from a bank of vectors", r"(^|\.)vblora_"),
    ("VERA", "VeRA", _NEEDS_SEED, r"vera_lambda_"),
    ("WAVEFT", "WaveFT", "whose places are not in the file", r"(^|\.)waveft_spectrum"),
    ("XLORA", "X-LoRA", "whose adapters a router mixes for each input", r"internal_xlora_"),
)  # fmt: skip
"""PEFT's methods that are refused, and LyCORIS' of the same names."""

REPEATED = frozenset(["MISS", "BONE"])
"""Methods that are read where the base's table says how many inputs a layer has."""
READ_TYPES = REPEATED | {"LORA", "ADALORA", "LOHA", "LOKR", "HIRA", "GRALORA", "C3A", "SHIRA"}
"""PEFT's methods that are read."""

OTHERS: tuple[tuple[str, str], ...] = (
    (r"^(input|output|block\d+\.\d+)\.weight$", "a wsdemo instance that is an MLP of its own"),
    (r"\.lora_(down|up)$", "a Nunchaku (SVDQuant) LoRA, packed for its kernels: give the original"),
    (r"\.(q_layer|p_layer|lambda_layer)(\.weight)?$",
     "a T-LoRA adapter, whose start, which is taken away again, is not in the file"),
    (r"\.svd_(down|up)$|\.(proj_down|proj_up|smooth_factor)(_orig)?$",
     "a Nunchaku (SVDQuant) model, packed for its kernels"),
    (r"^(emb_params|string_to_param|clip_l|clip_g|<.+>)$", "a text embedding (textual inversion)"),
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.",
     "a full Stable Diffusion checkpoint"),
    (r"(^|\.)(transformer|model)\.(h|layers)\.\d+\..*\.weight$", "a full language model"),
    (r"(^|\.)h\.\d+\.(attn\.c_attn|ln_1|mlp\.c_fc)\.weight$", "a full language model (GPT-2)"),
    (r"(^|\.)block\.\d+\.layer\.\d+\.(SelfAttention|EncDecAttention|DenseReluDense|layer_norm)\.",
     "a full language model (T5)"),
    (r"(^|\.)(encoder|transformer)\.layer\.\d+\.(attention|intermediate|output)\..*\.weight$",
     "a full language model (BERT)"),
    (r"^(encoder|decoder)\.(down_blocks|up_blocks|mid_block|down|up|mid)\..*\.weight$|"
     r"^(post_)?quant_conv\.weight$", "a full autoencoder (VAE)"),
    (r"(^|\.)layer[1-4]\.\d+\.(conv\d|bn\d)\.weight$", "a full image classifier (ResNet)"),
    (r"(^|\.)(down_blocks|up_blocks|mid_block|transformer_blocks|double_blocks)\..*\.weight$",
     "a full diffusion network"),
)  # fmt: skip
"""What else there is without a LoRA, by its keys: (pattern, what it is)."""

_KEYS = [(re.compile(pattern), name, why) for _, name, why, pattern in METHODS]
_OTHERS = [(re.compile(pattern), what) for pattern, what in OTHERS]


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOX" or name.startswith(("LL", "LN", "HR", "FR", "RN")) else "a"


def refused_type(peft_type: str) -> str:
    """What an adapter of this ``peft_type`` is; empty if it is read, or not known."""
    for method, name, why, _ in METHODS:
        if method == peft_type:
            return f"{_article(name)} {name} adapter (peft_type {method}), {why}"
    return ""


def what_else(keys: Iterable[str], peft_type: str = "") -> str:
    """What a file without any LoRA holds: by the configuration's peft_type, then by its keys."""
    by_type = refused_type(peft_type)
    if by_type:
        return by_type
    keys = list(keys)
    for pattern, name, why in _KEYS:
        if any(map(pattern.search, keys)):
            return f"{_article(name)} {name} adapter, {why}"
    if peft_type and peft_type not in READ_TYPES:
        return f"an adapter of peft_type {peft_type}, which is not known here"
    for other, what in _OTHERS:
        if any(map(other.search, keys)):
            return what
    return "no adapter that this app knows"


def method_of(key: str) -> str:
    """The method that a key belongs to, if it is a refused one; else empty."""
    for pattern, name, why in _KEYS:
        if pattern.search(key):
            return f"part of {_article(name)} {name} adapter, {why}"
    return ""
