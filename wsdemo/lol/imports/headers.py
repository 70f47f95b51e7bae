"""A folder of LoRAs whose own headers say how they were trained: kohya, ai-toolkit, modelspec."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.hub.repository import CONFIG
from wsdemo.lol.imports.entry import Entry, Listing, Say
from wsdemo.lora.training import training
from wsdemo.safetensors_header import read_header

NUMBERS = ("steps", "epochs", "images", "learning_rate", "unet_learning_rate",
           "text_encoder_learning_rate")  # fmt: skip
"""Settings that become columns, where they are numbers."""
WORDS = ("optimizer", "scheduler")
"""The same of settings in words."""
BASES = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name", "base_model")
"""Where trainers name the base, the surest first."""
_STEP = re.compile(r"[-_](step|epoch)?[-_]?\d{2,}$")
"""What trainers put behind a run's name for each of its snapshots."""
READ = 200
"""Files between two lines of progress."""


def list_folder(folder: Path, say: Say) -> Listing:
    """The LoRAs of a folder, by their headers alone; none of their weights is read.

    Snapshots of one run are a group. Files without any such text are left out, and counted.

    Raises:
        WsdemoError: No file says anything.
    """
    entries, silent, broken = [], [], []
    paths = sorted(p for p in folder.rglob("*.safetensors") if p.is_file())
    licences: Counter[str] = Counter()
    for number, path in enumerate(paths, 1):
        name = path.relative_to(folder).as_posix()
        try:
            metadata = read_header(path).metadata
        except (WsdemoError, OSError):
            broken.append(name)
            continue
        labels = labels_of(metadata)
        if labels:
            entries.append(Entry(name, labels, "", run_of(metadata, path), base_of(path, metadata),
                                 path))  # fmt: skip
            licences[metadata.get("modelspec.license", "")[:200] or "none stated"] += 1
        else:
            silent.append(name)
        if number % READ == 0:
            say(f"{number:,} of {len(paths):,} headers read")
    notes = []
    if silent:
        notes.append(f"{len(silent)} files say nothing of their training, such as {silent[0][:80]}")
    if broken:
        notes.append(f"{len(broken)} files are no safetensors, such as {broken[0][:80]}")
    if not entries:
        raise WsdemoError(
            "No labels in the headers",
            f"Of {len(paths)} files in {folder.name} none says steps, rate or pictures"
            f" ({'; '.join(notes) or 'there is no .safetensors file'}).",
            "Give files as kohya or ai-toolkit write them, or a labels.csv of your own to lol"
            " train.",
        )
    return Listing(entries, dict(licences), notes, "a folder of files with their trainers' texts")


def labels_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Column → text: steps, rates, pictures; what is no number there is left out."""
    settings: Mapping[str, Any] = training(metadata)["settings"]
    config = _nested(metadata, "config", "train") or _nested(metadata, "training_config", "train")
    texts = {**_of_toolkit(config), **settings}
    labels = {}
    for name in NUMBERS:
        try:
            labels[name] = repr(float(str(texts[name])))
        except (KeyError, ValueError):
            continue
    for name in WORDS:
        if text := str(texts.get(name, "")).strip():
            labels[name] = text.split("(")[0].rpartition(".")[2][:60]
    return labels if set(labels) - set(WORDS) else {}


def _nested(metadata: Mapping[str, str], key: str, part: str) -> Mapping[str, Any]:
    try:
        settings = json.loads(metadata.get(key) or "{}")
    except (ValueError, RecursionError):
        return {}
    inner = settings.get(part) if isinstance(settings, dict) else None
    return inner if isinstance(inner, dict) else {}


def _of_toolkit(config: Mapping[str, Any]) -> dict[str, Any]:
    """ai-toolkit's own names → ours."""
    names = {"steps": "steps", "lr": "learning_rate", "optimizer": "optimizer",
             "lr_scheduler": "scheduler"}  # fmt: skip
    settings = {ours: config.get(theirs) for theirs, ours in names.items()}
    return {name: value for name, value in settings.items() if value is not None}


def run_of(metadata: Mapping[str, str], path: Path) -> str:
    """The training run that a file is a snapshot of."""
    for key in ("ss_session_id", "ss_output_name", "name"):
        if text := metadata.get(key, "").strip():
            return text[:120]
    return _STEP.sub("", path.stem)[:120]


def base_of(path: Path, metadata: Mapping[str, str]) -> str:
    """The base model that a header or the configuration beside it names; empty if none does."""
    beside = path.with_name(CONFIG)
    if beside.is_file():
        try:
            config = json.loads(beside.read_text(encoding="utf-8"))
            name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
        except (OSError, ValueError, RecursionError):
            name = None
        if isinstance(name, str) and name:
            return name[:200]
    return next((metadata[key][:200] for key in BASES if metadata.get(key, "").strip()), "")
