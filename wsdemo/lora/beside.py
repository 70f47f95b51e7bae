"""What stands beside the updates in a file: heads, biases, norms, embeddings, marks; and why."""

import re

from wsdemo.lora.refused import OTHERS, method_of

_KINDS: tuple[tuple[str, str, str], ...] = (
    # pattern, what, why it is no part of an update
    (r"trainable_tokens_(delta|original)", "tokens",
     "new rows of an embedding (trainable_token_indices)"),
    (r"(modules_to_save|original_module)\.", "head",
     "a module that was trained whole (modules_to_save)"),
    (r"\.(lora_[ABab]|lora_embedding_[AB]|lora_up|lora_down)(\..+)?\.bias$", "bias",
     "a bias of the adapter"),
    (r"\.diff_b$", "bias", "the difference of a bias"),
    (r"(^|[._])modulation\.diff$|\.diff_m$", "difference", "the whole difference of a modulation"),
    (r"\.(diff|set_weight|reshape_weight)$", "difference",
     "a whole difference, kept as it is"),
    (r"(^|\.)w_norm$|\.b_norm$|norm\w*\.(weight|bias)$|(^|\.)ln_\w+\.(weight|bias)$", "norm",
     "a normalisation layer, trained whole"),
    (r"(^|\.)(classifier|score|lm_head|pooler|classification_head|v_head|summary)\.", "head",
     "a head that was trained whole (modules_to_save), no low-rank update"),
    (r"^<.+>$|emb_params|token_embedding|embed_tokens|tok_embeddings|word_embeddings|\.wte\.|"
     r"^(bundle_emb\.|clip_[lg]$)|string_to_param", "embedding",
     "a text embedding beside the adapter"),
    (r"(^|\.)(lora_te|text_encoder).*position", "embedding", "a position embedding"),
    (r"\.(scale_weight|weight_scale|weight_scale_inv)$", "other", "a quantisation scale"),
    (r"(^|\.)(initial_norm|scaled_fp8|scale_input|input_scale|comfy_quant)$", "mark",
     "a mark of its trainer or quantisation, without effect on the weights"),
    (r"ranknum", "mark", "AdaLoRA's count of kept ranks"),
    (r"lora_monteclora_sampler", "mark", "MonteCLoRA's sampler, of the training alone"),
    (r"(^|\.)(lora_controlnet|iteration|global_step|step|epoch|rank|network_dim|network_alpha)$",
     "mark", "a note of its trainer"),
    (r"(^|\.)(image_proj|proj_out|perceiver_resampler|ip_adapter)\b.*", "head",
     "a whole weight of the adapter's own network"),
    (r"\.base_layer\.(weight|bias)$", "other", "a weight of the base itself"),
    (r"\.bias$", "bias", "a bias, trained whole"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), what, why) for pattern, what, why in _KINDS]
_OTHERS = [(re.compile(pattern), what) for pattern, what in OTHERS]


def beside(key: str) -> tuple[str, str]:
    """What a tensor is that is no part of an update, and the reason in a sentence."""
    for pattern, what, why in _COMPILED:
        if pattern.search(key):
            return what, why
    if method := method_of(key):
        return "unread", method
    for pattern, what in _OTHERS:
        if pattern.search(key):
            return "head", f"a whole weight, as in {what}"
    if key.endswith(".weight"):
        return "head", "a whole weight, as trained (modules_to_save) or of the base"
    return "other", "not a key of any adapter format known here"
