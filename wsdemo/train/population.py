"""Fits one adapter to every instance of a collection, in shards that a later call continues.

Shards of weights, fp16, lie in ``RUNS/SET-fit/REPRESENTATION-rRANK/SPLIT/``. mLoRA starts from
the encoder's guess (fields/encoder.py), other representations from the shared start. With
``--workers 2`` the shards are shared out between single-thread processes, which beats one
process of two threads on a busy machine.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint, save_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import load_base
from wsdemo.fields.encoder import AmortisedStart, load_start
from wsdemo.fields.fit import FitConfig, fit_to_end, psnr_from_mse, warm_start
from wsdemo.train.loop import log, recipe_parser
from wsdemo.train.workers import run_workers, share_of, worker_options

SHARD = 250


class Collection(Protocol):
    """What a population is fitted to."""

    @property
    def names(self) -> Sequence[str]:
        """One a instance, in order."""

    def inputs(self, index: Tensor) -> Tensor:
        """What the encoder reads of instances (n,)."""

    def signal(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Points, (P, in_dim) or (n, P, in_dim), and values (n, P, out_dim) of instances (n,)."""


def fit_population(
    adapter: Adapter,
    collection: Collection,
    index: Tensor,
    config: FitConfig,
    seed: int,
    start: AmortisedStart | None,
) -> tuple[Tensor, Tensor]:
    """Fits instances (n,) → (n, D) fp16 weights and (n,) PSNR in dB of that form."""
    points, targets = (t.to(adapter.device) for t in collection.signal(index))
    origin = None if start is None else start(adapter, collection.inputs(index))
    generator = torch.Generator().manual_seed(seed)
    ε = fit_to_end(adapter, points, targets, config, generator, origin).half()
    with torch.no_grad():
        some = slice(0, 8192)  # all of a picture; a fair part of a shape's points
        phi = adapter.features(points[..., some, :])
        shown = adapter.decode(ε.float(), phi).clamp(-1, 1)
    return ε.cpu(), psnr_from_mse((shown - targets[:, some]).square().mean((1, 2))).cpu()


def fits_folder(runs: Path, name: str, config: AdapterConfig) -> Path:
    """Where the fits of a set and representation lie; one folder a split."""
    return runs / f"{name}-fit" / f"{config.representation}-r{config.rank}"


def load_fits(folder: Path) -> tuple[Tensor, list[str]]:
    """All fitted weights of a folder (n, D) fp16, and the names of their instances, in order.

    Raises:
        WsdemoError: There are none.
    """
    weights, names = [], list[str]()
    for path in sorted(folder.glob("shard-*.safetensors")):
        tensors, meta = load_checkpoint(path)
        weights.append(tensors["instances"])
        names += meta["files"]
    if not weights:
        raise WsdemoError("No fits", f"Found none in {folder}.", "Run the recipe that fits first.")
    return torch.cat(weights), names


def base_file(domain: Domain, args: argparse.Namespace) -> Path:
    """The base that a recipe works with: ``--base``, or that of the domain in ``--out``."""
    path: Path = args.base or args.out / f"{domain.base_name}.safetensors"
    return path


def population_parser(
    description: str,
    domain: Domain,
    splits: Sequence[str] = ("train", "validation", "test"),
) -> argparse.ArgumentParser:
    """The options of a recipe that fits a collection."""
    parser = recipe_parser(description, minutes=0)
    parser.add_argument("--representation", default="mlora-asym")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--split", default="train", choices=splits)
    parser.add_argument("--count", type=int, default=None, help="instances to fit; default: all")
    parser.add_argument("--first", type=int, default=0, help="instances to leave out before them")
    assert domain.comparable is not None, "else there is nothing to fit"
    parser.add_argument("--rate", type=float, default=domain.comparable.learning_rate)
    parser.add_argument(
        "--shared-start", action="store_true", help="start mLoRA as the papers do, without encoder"
    )
    parser.add_argument("--base", type=Path, default=None, help="default: OUT/SET-base.safetensors")
    worker_options(parser)
    return parser


def run_population(
    domain: Domain,
    collection: Collection,
    recipe: Sequence[str],
    args: argparse.Namespace,
    device: torch.device,
) -> None:
    """Fits what is not there yet, in this process or in ``--workers`` others.

    Args:
        domain: Whose base; fitted is as ``comparable`` says, unless ``--steps`` and ``--rate``
            say otherwise.
        collection: What to fit.
        recipe: Module and options that a worker is started with.
        args: Of ``population_parser``.
        device: Where to fit.
    """
    name, population = domain.name, domain.comparable
    assert population is not None, "else there is nothing to fit"
    config = AdapterConfig(args.representation, args.rank, 0)
    folder = fits_folder(args.runs, name, config) / args.split
    folder.mkdir(parents=True, exist_ok=True)
    end = min(len(collection.names), args.first + (args.count or len(collection.names)))
    if args.first >= end:
        raise WsdemoError(
            "Nothing to fit",
            f"--first {args.first} leaves none of the {len(collection.names)} instances.",
            "Give a smaller --first.",
        )
    if args.part == "0/1":  # once, not in every worker
        kind = f"{args.representation} rank {args.rank}"
        log(f"fitting {end - args.first} instances of {name}, {kind}")
    if args.workers > 1:
        sys.exit(run_workers(recipe, args.workers))

    base_path = base_file(domain, args)
    base = load_base(base_path)[0].to(device)
    adapter = Adapter(base, config)
    if config.kind == "mlp":
        points, _ = collection.signal(torch.arange(1))
        adapter.start = warm_start(adapter, points.reshape(-1, base.config.in_dim))
    has_encoder = config.kind == "mlora" and not args.shared_start
    encoder = base_path.with_name(f"{name}-encoder.safetensors")
    start = load_start(encoder, device) if has_encoder else None
    steps = args.steps or population.steps
    fitting = dataclasses.replace(population, learning_rate=args.rate, steps=steps)
    for shard in share_of(args.part, range(-(-(end - args.first) // SHARD))):
        first = args.first + shard * SHARD
        index = torch.arange(first, min(first + SHARD, end))
        path = folder / f"shard-{shard:04d}.safetensors"
        names = [collection.names[i] for i in index.tolist()]
        if path.exists():
            kept = load_checkpoint(path)[1]["files"]
            if kept == names:
                continue
            if kept[0] != names[0]:  # written with another --first
                raise WsdemoError(
                    "Fits of other instances are there",
                    f"{path} begins with {kept[0]}; these would begin with {names[0]}.",
                    "Give another --runs folder, or move those away.",
                )
        batch = 25 if device.type == "cpu" else 250
        results = [
            fit_population(adapter, collection, b, fitting, args.seed, start)
            for b in index.split(batch)
        ]
        psnr = torch.cat([p for _, p in results])
        log(f"{args.split} {path.name}: {psnr.mean():.2f} dB, worst {psnr.min():.2f}")
        save_checkpoint(
            path,
            {"instances": torch.cat([ε for ε, _ in results]), "psnr": psnr},
            {"files": names},
        )
