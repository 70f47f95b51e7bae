"""What every set needs beside its models: neighbours for the memorisation check."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.fields.base_files import load_base
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion, prior_hash
from wsdemo.train.loop import log
from wsdemo.train.population import fits_folder, load_fits
from wsdemo.train.weight_diffusion import STORED_COORDINATES


def load_model(domain: Domain, args: argparse.Namespace) -> tuple[WeightDiffusion, Path]:
    """The trained diffusion model of a domain, and the folder of its population."""
    name = domain.name
    base, _ = load_base(args.out / f"{domain.base_name}.safetensors")
    model, _ = load_diffusion(args.out / f"{name}-diffusion.safetensors", base)
    return model, fits_folder(args.runs, name, model.adapter.config)


def save_neighbours(domain: Domain, model: WeightDiffusion, folder: Path, out: Path) -> Tensor:
    """Writes ``NAME-neighbours`` and returns the training weights (n, D) fp16.

    It holds the principal coordinates of every training instance, then of its mirror image if
    that was trained on, and how far instances that no model has seen (validation, and test if
    fitted) lie from the nearest of them.
    """
    name = domain.name
    train, names = load_fits(folder / "train")
    learnt = train
    if (folder / "train-mirrored").exists():
        mirrored, files = load_fits(folder / "train-mirrored")
        learnt, names = torch.cat([train, mirrored]), names + [f"{f}, mirrored" for f in files]
    unseen_splits = [folder / s for s in ("validation", "test") if (folder / s).exists()]
    held_out = torch.cat([load_fits(path)[0] for path in unseen_splits])
    count = min(STORED_COORDINATES, model.prior.basis.shape[1])
    spread = model.prior.variances[:count].sqrt()
    parts = [model.prior.coordinates(x.float(), count).half() for x in learnt.split(1000)]
    stored = torch.cat(parts)
    unseen = model.prior.coordinates(held_out.float(), count)
    distances = torch.cdist(unseen * spread, stored.float() * spread).min(1).values
    log(f"unseen instances lie {distances.median():.1f} from the nearest training one (median)")
    save_checkpoint(
        out / f"{name}-neighbours.safetensors",
        {"coordinates": stored, "held_out_distances": distances},
        {
            "name": f"{name}-neighbours",
            "kind": "neighbours",
            "split": "train",
            "names": names,
            "prior": prior_hash(model.prior),
        },
    )
    return train
