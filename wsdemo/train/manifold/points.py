"""Writes what of a trained manifold its models and the app need: its base, and instances on it.

``OUT/SET-base`` is the base (W, b) that instances are read with. The instances ε₀ + P z lie, as
fits do (train/population.py), in ``RUNS/SET-fit``, a folder a split: neighbours and map are made
from them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.fields.base_files import save_base
from wsdemo.fields.manifold import Manifold
from wsdemo.train.loop import log
from wsdemo.train.population import SHARD


def write_base(domain: Domain, manifold: Manifold, meta: Mapping[str, Any], out: Path) -> None:
    """Writes the base of a domain."""
    facts = {key: meta[key] for key in ("domain", "size", "toy")}
    path = out / f"{domain.base_name}.safetensors"
    save_base(path, manifold.base(), {"name": domain.base_name, **facts})


@torch.no_grad()
def write_points(manifold: Manifold, z: Tensor, names: Sequence[str], folder: Path) -> None:
    """Writes the points (n, D) of named instances with coordinates (n, K) in shards, as fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(z), SHARD):
        part = slice(first, first + SHARD)
        save_checkpoint(
            folder / f"shard-{first:06d}.safetensors",
            {"instances": manifold.instances(z[part]).half()},
            {"files": list(names[part])},
        )
    log(f"{len(names)} points in {folder}")
