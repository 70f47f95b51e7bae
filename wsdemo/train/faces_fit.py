"""Fits one adapter to every face: ``python -m wsdemo.train.faces_fit --data celeba.zip``.

Writes shards of weights, fp16, to ``runs/faces-fit/NAME/SPLIT/``; a second call continues.
mLoRA starts from the encoder's guess (fields/encoder.py), other representations from the
shared start. With ``--workers 2`` the shards are shared out between single-thread processes,
which beats one process of two threads on a busy machine.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import load_base, load_checkpoint, save_checkpoint
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.encoder import AmortisedStart, load_start
from wsdemo.fields.fit import FitConfig, fit_to_end, psnr_from_mse, warm_start
from wsdemo.train.common import log, recipe_parser, start
from wsdemo.train.faces_data import Faces, load_faces, to_signal, toy_faces

POPULATION = FitConfig(steps=50, points=512, learning_rate=0.02, pull=1.0)
"""How the instances of the shipped diffusion model were fitted."""
SHARD = 250


def fit_faces(
    adapter: Adapter, images: Tensor, config: FitConfig, seed: int, start: AmortisedStart | None
) -> tuple[Tensor, Tensor]:
    """Fits (n, 3, H, W) uint8 faces → (n, D) weights and (n,) PSNR in dB of their fp16 form."""
    features = adapter.features(pixel_grid(*images.shape[-2:]))
    target = to_signal(images).to(adapter.device)
    generator = torch.Generator().manual_seed(seed)
    origin = None if start is None else start(adapter, images)
    ε = fit_to_end(adapter, features, target, config, generator, origin).half()
    with torch.no_grad():
        shown = adapter.decode(ε.float(), features).clamp(-1, 1)
    return ε.cpu(), psnr_from_mse((shown - target).square().mean((1, 2))).cpu()


def fits_folder(runs: Path, config: AdapterConfig) -> Path:
    """Where the fits of a representation lie; one folder a split."""
    return runs / "faces-fit" / f"{config.representation}-r{config.rank}"


def load_fits(folder: Path) -> tuple[Tensor, list[str]]:
    """All fitted weights of a folder (n, D) fp16, and the files of their faces, in order."""
    weights, files = [], []
    for path in sorted(folder.glob("shard-*.safetensors")):
        tensors, meta = load_checkpoint(path)
        weights.append(tensors["instances"])
        files += meta["files"]
    return torch.cat(weights), files


def run_shards(
    args: argparse.Namespace,
    faces: Faces,
    adapter: Adapter,
    start: AmortisedStart | None,
    folder: Path,
) -> None:
    """Fits the shards of this worker that are not there yet."""
    part, of = (int(v) for v in args.part.split("/"))
    batch = 25 if adapter.device.type == "cpu" else 500
    for first in range(part * SHARD, len(faces), of * SHARD):
        path = folder / f"shard-{first // SHARD:04d}.safetensors"
        files = list(faces.files[first : first + SHARD])
        if path.exists() and load_checkpoint(path)[1]["files"] == files:
            continue
        images = faces.images[first : first + SHARD]
        results = [fit_faces(adapter, b, POPULATION, args.seed, start) for b in images.split(batch)]
        psnr = torch.cat([p for _, p in results])
        log(f"{path.name}: {psnr.mean():.2f} dB, worst {psnr.min():.2f}")
        temporary = path.with_suffix(".tmp")
        save_checkpoint(
            temporary,
            {"instances": torch.cat([ε for ε, _ in results]), "psnr": psnr},
            {"files": files},
        )
        temporary.rename(path)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--base", type=Path, default=Path("checkpoints/faces-base.safetensors"))
    parser.add_argument(
        "--encoder", type=Path, default=Path("checkpoints/faces-encoder.safetensors")
    )
    parser.add_argument("--representation", default="mlora-asym")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--split", default="train", choices=("train", "validation", "test"))
    parser.add_argument("--count", type=int, default=8000, help="faces to fit")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="share of this process: i/n")
    args = parser.parse_args(arguments)
    device = start(args)
    base = load_base(args.base)[0].to(device)
    config = AdapterConfig(args.representation, args.rank, 0)
    folder = fits_folder(args.runs, config) / args.split
    folder.mkdir(parents=True, exist_ok=True)
    faces = toy_faces(64) if args.toy else load_faces(args.data, args.split)
    faces = faces.first(args.count)
    adapter = Adapter(base, config)
    if config.kind == "mlp":
        size = faces.images.shape[-1]
        adapter.start = warm_start(adapter, adapter.features(pixel_grid(size, size)))
    amortised = load_start(args.encoder, device) if config.kind == "mlora" else None
    if args.workers > 1:
        log(f"fitting {len(faces)} faces, {args.representation} rank {args.rank}")
        given = sys.argv[1:] if arguments is None else arguments
        command = [sys.executable, "-m", "wsdemo.train.faces_fit", *given, "--workers=1"]
        extra = ["--threads=1"]
        workers = [
            subprocess.Popen([*command, *extra, f"--part={i}/{args.workers}"])
            for i in range(args.workers)
        ]
        sys.exit(max(abs(w.wait()) for w in workers))
    run_shards(args, faces, adapter, amortised, folder)


if __name__ == "__main__":
    main()
