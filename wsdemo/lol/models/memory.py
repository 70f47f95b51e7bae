"""Which models can be trained in the memory that there is."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from wsdemo.lol.data.pairs import Signature
from wsdemo.lol.models.networks import build_model
from wsdemo.lol.models.parts import ModelConfig

TRAINED, KEPT = 16, 4
"""Bytes a parameter: float32 weight, gradient and AdamW's two moments; and of a copy that is kept,
one for every model of an ensemble."""
EVALUATED = 64
"""LoRAs that are evaluated at a time."""
GL_COPIES, OTHER_COPIES = 2, 3
"""Of a batch at once: GL-net scales it for both heads; others scale, flatten and join it."""
ASSUMED = 4 * 2**30
"""Bytes, where the system does not say how much memory it has."""


def parameter_count(signature: Signature, config: ModelConfig) -> int:
    """Of a model, without building it."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(signature, config).parameters())


def training_bytes(signature: Signature, config: ModelConfig, seeds: int) -> int:
    """About what training an ensemble takes, beyond the LoRAs themselves."""
    sides = signature.shapes.values()
    if config.model == "mlp-dense":
        inputs = sum(n * m for n, m in sides)
    else:
        inputs = sum(n + m for n, m in sides) * config.rank
    copies = GL_COPIES if config.model.startswith("gl-net") else OTHER_COPIES
    parameters = parameter_count(signature, config)
    return parameters * (TRAINED + KEPT * seeds) + copies * EVALUATED * inputs * 4


def available_bytes() -> int:
    """Memory that may still be taken: of the system, or of the container where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):  # not Linux: half of all
        if not hasattr(os, "sysconf"):
            return ASSUMED
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{k}").read_text().strip() for k in ("max", "current"))
        return free if most == "max" else min(free, int(most) - int(used))
    except (OSError, ValueError):
        return free


def affordable(
    signature: Signature, configs: Sequence[ModelConfig], seeds: int
) -> tuple[list[str], list[str]]:
    """The models that fit into memory, and a reason for every other one."""
    free = available_bytes()
    fit, skipped = [], []
    for config in configs:
        need = training_bytes(signature, config, seeds)
        if need <= free:
            fit.append(config.model)
            continue
        skipped.append(
            f"Skipped {config.model}: its training would take about {need / 2**30:.1f} GiB;"
            f" {max(0, free) / 2**30:.1f} GiB are available"
        )
    return fit, skipped
