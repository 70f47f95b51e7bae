"""The spellings of LoRA keys: which module a tensor belongs to, and what part of it.

Every family writes its tensors as MODULE + suffix. The rules below are tried in order; the
first that matches names module, part and family. Pairing is by these names, never by order.
"""

import re
from typing import NamedTuple


class Part(NamedTuple):
    """A tensor's place: the module that it adapts and its role there."""

    module: str
    role: str
    family: str


_RULES: tuple[tuple[str, str, str, str], ...] = (
    # pattern, module and role with the numbers of its groups, family
    (r"^(.*)\.processor\.(\w+?)_lora(\d*)\.(down|up)\.weight$", "{0}.{1}{2}", "{3}",
     "diffusers (attention processors)"),
    (r"^(.*)\.lora(?:_linear_layer)?\.(down|up)\.weight$", "{0}", "{1}", "diffusers (layers)"),
    (r"^(.*)\.lora_(down|up|mid)\.weight$", "{0}", "{1}", "kohya"),
    (r"^(.*)\.lora_embedding_([AB])(?:\.\w+)?$", "{0}", "embedding_{1}", "PEFT"),
    (r"^(.*)\.lora_([AB])(?:\.\w+)?\.weight$", "{0}", "{1}", "PEFT"),
    (r"^(.*)\.lora_E(?:\.\w+)?$", "{0}", "E", "AdaLoRA"),
    (r"^(.*)\.ranknum(?:\.\w+)?$", "{0}", "ranknum", "AdaLoRA"),
    (r"^(.*)\.lora_magnitude_vector(?:\.\w+)*$", "{0}", "magnitude", "DoRA"),
    (r"^(.*)\.(?:dora_scale|m)$", "{0}", "magnitude", "DoRA"),  # m: MLX
    (r"^(.*)\.lora_([AB])$", "{0}", "{1}", "loralib"),
    (r"^(.*)\.lora_([ab])$", "{0}", "mlx_{1}", "MLX"),
    (r"^(.*)\.hada_(w1_a|w1_b|w2_a|w2_b|t1|t2)$", "{0}", "hada_{1}", "LyCORIS LoHa"),
    (r"^(.*)\.lokr_(w1|w1_a|w1_b|w2|w2_a|w2_b|t2)$", "{0}", "lokr_{1}", "LyCORIS LoKr"),
    (r"^(.*)\.diff$", "{0}", "diff", "full difference"),
    (r"^(.*)\.alpha$", "{0}", "alpha", ""),
    (r"^(.*):(\d+):(up|down)$", "{0}:{1}", "{2}", "cloneofsimo"),
    (r"^w_([ab])_(\d+)$", "layer{1}", "vit_{0}", "LoRA-ViT / SAM"),
    (r"^(input|output|block\d+\.\d+)\.([AB])$", "{0}", "own_{1}", "wsdemo instance"),
)  # fmt: skip
RULES = tuple((re.compile(p), m, r, f) for p, m, r, f in _RULES)

_PREFIX = "base_model.model."

REFUSED: tuple[tuple[str, str], ...] = (
    (r"^(input|output|block\d+\.\d+)\.weight$", "a wsdemo instance that is an MLP of its own"),
    (r"\.ia3_l(\.|$)", "an IA3 adapter, which rescales activations"),
    (r"vera_lambda_", "a VeRA adapter, whose random matrices are not in the file"),
    (r"\.(oft_r|oft_R|oft_blocks|oft_diag)", "an OFT adapter, which rotates weights"),
    (r"unilora_", "a UniLoRA adapter, whose projections are not in the file"),
    (r"\.boft_[RSs]", "a BOFT adapter, which rotates weights"),
    (r"\.(a1|a2)\.weight$|glora_", "a GLoRA adapter"),
    (r"\.hra_u(\.|$)", "an HRA adapter, which reflects weights"),
    (r"fourierft_spectrum", "a FourierFT adapter, whose frequencies are not in the file"),
    (r"(^|\.)prompt_embeddings$|prompt_encoder", "prompt-tuning embeddings"),
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
"""What is no LoRA, by its keys: (pattern, what it is)."""

IGNORED: tuple[tuple[str, str], ...] = (
    (r"(^|\.)(classifier|score|lm_head|pooler|classification_head)\.",
     "a head that was trained whole (modules_to_save), no low-rank update"),
    (r"(modules_to_save|original_module)\.", "a module that was trained whole (modules_to_save)"),
    (r"\.(lora_[AB])(\.\w+)?\.bias$", "a bias of the adapter"),
    (r"\.diff_b$", "the difference of a bias"),
    (r"(^|\.)w_norm$|\.b_norm$|norm\d*\.(weight|bias)$", "a normalisation layer, trained whole"),
    (r"\.bias$", "a bias, trained whole"),
    (r"^<.+>$|emb_params|token_embedding|embed_tokens", "a text embedding beside the adapter"),
    (r"(^|\.)(lora_te|text_encoder).*position", "a position embedding"),
    (r"\.(initial_norm|scale_weight|scaled_fp8)$", "a quantisation scale"),
    (r"ranknum", "AdaLoRA's count of kept ranks"),
)  # fmt: skip
"""Why a tensor beside the update is left out: (pattern, reason)."""


def split_key(key: str) -> Part | None:
    """The place of a tensor, None if its key is no adapter's."""
    for pattern, module, role, family in RULES:
        found = pattern.match(key)
        if found:
            texts = found.groups()
            return Part(bare_name(module.format(*texts)), role.format(*texts), family)
    return None


def bare_name(name: str) -> str:
    """A module's name without PEFT's wrappers, which some files carry twice."""
    while name.startswith(_PREFIX):
        name = name[len(_PREFIX) :]
    return name


def what_else(keys: list[str]) -> str:
    """What a file without any LoRA holds, judged by its keys."""
    for pattern, what in REFUSED:
        if any(re.search(pattern, key) for key in keys):
            return what
    return "no adapter that this app knows"


def why_ignored(key: str) -> str:
    """The reason why a tensor is no part of the update."""
    for pattern, why in (*REFUSED, *IGNORED):
        if re.search(pattern, key):
            return why
    return "not a key of any adapter format known here"
