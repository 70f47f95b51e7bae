"""Predictors on disk: written by ``lol train``, opened with care, as they come from strangers too.

One safetensors file holds the parameters of all models; its metadata hold the family's modules,
tasks, calibration, training ranks and the envelope outside of which a predictor abstains.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import config_from, load_checkpoint, pack, save_checkpoint, unpack
from wsdemo.errors import WsdemoError, refuse_lack_of_memory
from wsdemo.limits import (
    MAX_ENSEMBLE,
    MAX_MODEL_LAYERS,
    MAX_MODEL_PRODUCTS,
    MAX_MODEL_SIDE,
    MAX_PREDICTOR_BYTES,
)
from wsdemo.lol.data.pairs import Signature
from wsdemo.lol.data.probes import Probes
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.models.networks import build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.predictor.envelope import Envelope
from wsdemo.lol.predictor.predictor import Predictor, TaskModels
from wsdemo.safetensors_header import read_header


def _stored(name: str, value: Tensor, is_rough: bool) -> dict[str, Tensor]:
    """A parameter in half precision; the large matrices of a baseline in a byte an entry."""
    if "scale" in name or "running" in name:  # scales and moments span orders of magnitude
        return {name: value}
    return pack(name, value) if is_rough else {name: value.half()}


def save_predictor(path: Path, predictor: Predictor, extra: Mapping[str, Any]) -> None:
    """Writes a predictor to one file: parameters in half precision, recipe in the metadata."""
    tensors: dict[str, Tensor] = {}
    tasks = []
    for t, models in enumerate(predictor.tasks.values()):
        everyone = [*models.models, *([models.baseline] if models.baseline is not None else [])]
        for i, model in enumerate(everyone):
            for k, v in model.state_dict().items():
                tensors |= _stored(f"{t}.{i}.{k}", v, is_rough=model is models.baseline)
        tensors |= {f"{t}.mean": models.mean, f"{t}.std": models.std}
        tensors[f"{t}.half_width"] = models.half_width
        baseline = models.baseline_config
        tasks.append({
            "task": dataclasses.asdict(models.task),
            "config": dataclasses.asdict(models.config),
            "count": len(models.models),
            "baseline": dataclasses.asdict(baseline) if baseline else None,
            "temperature": models.temperature,
            "shift": models.shift if isinstance(models.shift, float) else models.shift.tolist(),
            "measured": without_nan(models.measured),
            "ranks": list(models.ranks),
        })  # fmt: skip
    envelope = predictor.envelope
    if predictor.probes is not None:  # the probes' matrices are the most of such a file
        for name, value in predictor.probes.tensors().items():
            tensors |= pack(name, value)
    tensors |= {
        "envelope.features": envelope.features.half(),
        "envelope.mean": envelope.mean,
        "envelope.std": envelope.std,
    }
    meta = {
        **extra, "kind": "predictor", "version": 1, "name": predictor.name,
        "title": predictor.title, "base": predictor.base, "lora_kind": predictor.kind,
        "shapes": {k: list(v) for k, v in predictor.signature.shapes.items()},
        "ranks": list(predictor.ranks), "tasks": tasks, "threshold": envelope.threshold,
        "names": list(envelope.names), "card": predictor.card,
        "required": list(predictor.required) if predictor.required is not None else None,
        "probes": list(predictor.probes.names) if predictor.probes is not None else None,
    }  # fmt: skip
    save_checkpoint(path, tensors, meta)


def seen_names(path: Path) -> frozenset[str]:
    """Short names of the LoRAs that a predictor's file says it was made from.

    Those that trained it, and, where its metadata name them, chose its models or calibrated it.
    """
    _, meta = load_checkpoint(path / "predictor.safetensors" if path.is_dir() else path)
    lists = [meta.get(key) for key in ("names", "chosen_by")]
    return frozenset(str(name) for listed in lists if isinstance(listed, list) for name in listed)


def without_nan(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: they become None, inside of it too."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_predictor(path: Path) -> Predictor:
    """Reads what save_predictor wrote; a folder stands for its ``predictor.safetensors``.

    Raises:
        WsdemoError: It is no predictor, it is too large, or it is damaged.
    """
    path = path / "predictor.safetensors" if path.is_dir() else path
    if path.is_file():
        check_predictor_size(path.name, path.stat().st_size)
        read_header(path)
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != "predictor" or meta.get("version") != 1:
        raise WsdemoError(
            "Not a predictor",
            f"{path.name} is of kind {str(meta.get('kind'))[:30]!r}.",
            "Give a file or folder that wsdemo lol train wrote.",
        )
    try:
        return _build(tensors, meta)
    except (
        KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError, OverflowError,
        MemoryError, AssertionError,
    ) as error:  # fmt: skip
        refuse_lack_of_memory(error)
        raise WsdemoError(
            "Predictor damaged",
            f"{path.name} does not hold what its description says ({type(error).__name__}).",
            "Download it again, or train it again.",
        ) from error


def check_predictor_size(name: str, size: int) -> None:
    """Refuses a predictor of too many bytes before it is read, or downloaded.

    Raises:
        WsdemoError: It is beyond MAX_PREDICTOR_BYTES.
    """
    if size > MAX_PREDICTOR_BYTES:
        raise WsdemoError(
            "File too large",
            f"{name[:80]} has {size / 2**20:,.0f} MB; a predictor may have"
            f" {MAX_PREDICTOR_BYTES / 2**20:,.0f} MB.",
            "Train fewer or smaller models: wsdemo lol train --models gl-net --seeds 3.",
        )


def _check_config(config: ModelConfig, outputs: int, modules: int) -> None:
    """Refuses a model that would cost far more than its file holds."""
    sizes = (config.outputs, config.width, config.hidden, config.rank)
    if config.outputs != outputs or not all(1 <= s <= MAX_MODEL_SIDE for s in sizes):
        raise ValueError("sizes")
    if not 1 <= config.layers <= MAX_MODEL_LAYERS or modules * config.width**2 > MAX_MODEL_PRODUCTS:
        raise ValueError("layers or products")


def _check_task(tensors: Mapping[str, Tensor], t: int, entry: Mapping[str, Any]) -> None:
    """Refuses a task whose numbers do not fit its labels, or do not say what they should."""
    labels, measured = entry["task"]["labels"], entry["measured"]
    for name in ("mean", "std", "half_width"):
        if tensors[f"{t}.{name}"].shape != (len(labels),):
            raise ValueError(name)
    by_label = (measured.get(f"{k}_by_label", {}).values() for k in ("auc", "spearman_rho"))
    figures = [*itertools.chain(*by_label), measured.get("spearman_rho")]
    shift = entry.get("shift", 0.0)
    shifts = shift if isinstance(shift, list) else [shift]
    if isinstance(shift, list) and len(shift) != len(labels):
        raise ValueError("shift")
    numbers = [*(v for v in figures if v is not None), entry["temperature"], *shifts]
    if not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels")
    if (
        not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
        or not entry["temperature"] > 0
    ):
        raise ValueError("figures")
    if not 1 <= int(entry["count"]) <= MAX_ENSEMBLE:
        raise ValueError("count")


def _shift(value: float | list[float]) -> float | Tensor:
    """A stored ``TaskModels.shift``: a number for all logits, or one a label of a regression."""
    return torch.tensor(value) if isinstance(value, list) else float(value)


def _probes(
    tensors: Mapping[str, Tensor], names: list[str] | None, signature: Signature
) -> Probes | None:
    if names is None:
        return None
    unpacked = unpack({k: v for k, v in tensors.items() if k.startswith("probes.")})
    groups = []
    for g, ((n, m), modules) in enumerate(signature.groups):
        u, v = unpacked[f"probes.left.{g}"].float(), unpacked[f"probes.right.{g}"].float()
        if u.shape != (len(modules), len(names), n) or v.shape != (len(modules), len(names), m):
            raise ValueError("probes")
        groups.append((u, v))
    return Probes(tuple(str(name) for name in names), tuple(groups))


def _check_texts(config: ModelConfig, outputs: int, probes: Probes | None) -> None:
    """Refuses outputs of texts that the probes do not have."""
    texts = config.texts
    if texts and (probes is None or len(texts) != outputs):
        raise ValueError("texts")
    if probes is not None and not all(0 <= t < len(probes.names) for t in texts):
        raise ValueError("texts")


def _build(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Predictor:
    if not all(bool(v.float().isfinite().all()) for v in tensors.values()):
        raise ValueError("values that are not finite")
    signature = Signature({str(k): (int(n), int(m)) for k, (n, m) in meta["shapes"].items()})
    probes = _probes(tensors, meta.get("probes"), signature)
    tasks = {}
    if not 1 <= len(meta["tasks"]) <= MAX_ENSEMBLE or not len(signature):
        raise ValueError("tasks")
    for t, entry in enumerate(meta["tasks"]):
        _check_task(tensors, t, entry)
        task, config = config_from(Task, entry["task"]), config_from(ModelConfig, entry["config"])
        baseline = config_from(ModelConfig, entry["baseline"]) if entry["baseline"] else None
        configs = [config] * int(entry["count"]) + ([baseline] if baseline else [])
        models = []
        for i, network in enumerate(configs):
            _check_config(network, len(task.labels), len(signature))
            _check_texts(network, len(task.labels), probes)
            with torch.device("meta"):  # nothing is allocated that the file does not hold
                model = build_model(signature, network, probes)
            prefix = f"{t}.{i}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            model.load_state_dict(unpack(state), assign=True)
            models.append(model.eval().requires_grad_(False))
        tasks[task.name] = TaskModels(
            task, config, models[: int(entry["count"])], tensors[f"{t}.mean"].float(),
            tensors[f"{t}.std"].float(), tensors[f"{t}.half_width"].float(),
            float(entry["temperature"]), models[-1] if baseline else None, baseline,
            dict(entry["measured"]), tuple(int(r) for r in entry.get("ranks", ())),
            _shift(entry.get("shift", 0.0)),
        )  # fmt: skip
    envelope = Envelope(
        tensors["envelope.features"].float(), tensors["envelope.mean"].float(),
        tensors["envelope.std"].float(), float(meta["threshold"]), tuple(meta["names"]),
    )  # fmt: skip
    L, M = len(signature), len(meta["names"])
    if envelope.features.shape != (M, 2 * L) or not 0 < envelope.threshold < math.inf:
        raise ValueError("envelope")
    if envelope.mean.shape != (2 * L,) or envelope.std.shape != (2 * L,):
        raise ValueError("envelope")
    required = meta.get("required")
    if required is not None and not set(required) <= set(signature.shapes):
        raise ValueError("required modules")
    return Predictor(
        str(meta["name"]), str(meta["title"]), str(meta["base"]), str(meta["lora_kind"]),
        signature, tuple(int(r) for r in meta["ranks"]), tasks, envelope, str(meta["card"]),
        None if required is None else tuple(required), probes,
    )  # fmt: skip
