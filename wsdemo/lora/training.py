"""What a file's own texts say of its training: words that call it, pictures, settings."""

import json
from collections.abc import Mapping
from typing import Any

MAX_TAGS = 20
"""Most frequent tags that are listed."""
MAX_TEXT = 200
_PHRASES = ("modelspec.trigger_phrase", "trigger_phrase", "trigger_word", "trigger_words",
            "activation_text", "instance_prompt", "ss_instance_prompt")  # fmt: skip
_NUMBERS = {
    "ss_steps": "steps", "ss_epoch": "epochs", "ss_num_train_images": "images",
    "ss_learning_rate": "learning_rate", "ss_unet_lr": "unet_learning_rate",
    "ss_text_encoder_lr": "text_encoder_learning_rate", "ss_resolution": "resolution",
    "ss_clip_skip": "clip_skip", "ss_optimizer": "optimizer", "ss_lr_scheduler": "scheduler",
    "ss_seed": "seed", "ss_network_module": "network", "ss_mixed_precision": "precision",
    "ss_noise_offset": "noise_offset", "ss_min_snr_gamma": "min_snr_gamma",
}  # fmt: skip
"""Kohya's fields → what they are."""


def training(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a header says of a training.

    Returns:
        ``trigger_phrases``: as the author or trainer names them. ``tags``: [tag, how many captions
        have it], the most frequent first; those that nearly all have are likely triggers.
        ``folders``: [concept, pictures, repeats] of kohya's dataset. ``settings``: name → text,
        such as ``steps`` or ``learning_rate``.
    """
    phrases = [metadata[k] for k in _PHRASES if metadata.get(k, "").strip()]
    info = _mapping(metadata.get("training_info"))
    config = _mapping(metadata.get("config"))
    phrases += [
        str(texts[k])
        for texts in (info, config, _mapping(metadata.get("ss_training_comment")))
        for k in ("trigger_word", "instance_prompt", "trigger")
        if isinstance(texts.get(k), str) and texts[k].strip()
    ]
    settings = {name: metadata[key][:MAX_TEXT] for key, name in _NUMBERS.items()
                if metadata.get(key, "None") not in ("", "None")}  # fmt: skip
    for key, name in (("step", "steps"), ("epoch", "epochs")):
        if isinstance(info.get(key), int | float):
            settings.setdefault(name, str(info[key]))
    return {
        "trigger_phrases": list(dict.fromkeys(p.strip()[:MAX_TEXT] for p in phrases)),
        "tags": _tags(metadata.get("ss_tag_frequency")),
        "folders": _folders(metadata),
        "settings": settings,
    }


def _mapping(text: str | None) -> dict[str, Any]:
    try:
        mapping = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return mapping if isinstance(mapping, dict) else {}


def _tags(text: str | None) -> list[list[Any]]:
    """Tags of all folders together: kohya's {folder: {tag: count}}."""
    counts: dict[str, int] = {}
    for tags in _mapping(text).values():
        if not isinstance(tags, dict):
            continue
        for tag, count in tags.items():
            if isinstance(count, int) and tag.strip():
                name = tag.strip()[:MAX_TEXT]
                counts[name] = counts.get(name, 0) + count
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [list(item) for item in ordered[:MAX_TAGS]]


def _folders(metadata: Mapping[str, str]) -> list[list[Any]]:
    """Kohya names a folder REPEATS_CONCEPT."""
    folders = []
    for name, folder in _mapping(metadata.get("ss_dataset_dirs")).items():
        repeats, bar, concept = name.partition("_")
        if not isinstance(folder, dict):
            continue
        is_named = bool(bar) and repeats.isdigit()
        folders.append([
            (concept if is_named else name)[:MAX_TEXT],
            folder.get("img_count"),
            folder.get("n_repeats", int(repeats) if is_named and len(repeats) < 9 else None),
        ])  # fmt: skip
    return folders[:MAX_TAGS]
