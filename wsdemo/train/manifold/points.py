"""Writes what of a trained manifold its models and the app need: its base, and instances on it.

``OUT/SET-base`` is the base (W, b) that instances are read with. The instances ε₀ + P z of the z
that the encoder proposes lie, as fits do (train/population.py), in ``RUNS/SET-fit``, a folder a
split: neighbours and map are made from them.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.fields.base_files import save_base
from wsdemo.train.loop import log
from wsdemo.train.manifold.autoencoder import Autoencoder, Data
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.population import SHARD, fits_folder

ReadSplit = Callable[[str], tuple[Data, Sequence[str]]]
"""Maps a split to its instances, as the encoder reads them, and their names."""


@torch.no_grad()
def write_points(model: Autoencoder, data: Data, names: Sequence[str], folder: Path) -> None:
    """Writes the points (n, D) of named instances in shards, as fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    z = model.coordinates(data, torch.arange(len(names)))
    for first in range(0, len(z), SHARD):
        part = slice(first, first + SHARD)
        save_checkpoint(
            folder / f"shard-{first:06d}.safetensors",
            {"instances": model.manifold.instances(z[part]).half()},
            {"files": list(names[part])},
        )


def write_base_and_points(
    domain: Domain, read: ReadSplit, splits: Iterable[str], args: argparse.Namespace
) -> None:
    """Writes the base of a domain, and the points of its splits."""
    model, meta = load_stage(args.out / f"{domain.name}.safetensors")
    facts = {key: meta[key] for key in ("domain", "size", "toy")}
    base = args.out / f"{domain.base_name}.safetensors"
    save_base(base, model.manifold.base(), {"name": domain.base_name, **facts})
    folder = fits_folder(args.runs, domain.name, model.manifold.layout.config)
    for split in splits:
        data, names = read(split)
        write_points(model, data, names, folder / split)
        log(f"{len(names)} {domain.many} of {split}")
