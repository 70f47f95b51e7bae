"""How well do the six representations reconstruct unseen faces at equal size?

    python -m benchmarks.faces_reconstruction --data celeba.zip

The faces are CelebA's test range, which no model has seen. A seed draws mask, start
and the points of each step. Learning rates were chosen per representation on eight
validation faces, among the same five values. mLoRA begins at its carried start; further rows
show its spread start, from which the instances that ship were fitted. Resumes after each row.
"""

import dataclasses
import statistics
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import benchmark_parser, load_result, scaled, start, store_result
from wsdemo.analysis.reconstruction import psnr, ssim
from wsdemo.domains.faces import FACES
from wsdemo.domains.models import encoder_of
from wsdemo.fields.adapters import REPRESENTATIONS, Adapter, AdapterConfig, equal_budget
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.fit import FitConfig, fit_to_end, warm_start
from wsdemo.fields.signal import image_to_signal
from wsdemo.train.faces.data import load_faces, to_signal

NAME = "faces-reconstruction"
WEIGHTS = 27_000
STEPS, POINTS = scaled(300, 4), 1024
WITH_ENCODER = "mlora-asym, encoder start"
SPREAD = ("mlora, spread start", "mlora-asym, spread start", WITH_ENCODER)
"""mLoRA from the other start, shared or scaled by the encoder's guess."""
RATES = scaled((0.003, 0.01, 0.03, 0.06, 0.12), (0.01,))


def reconstruct(
    config: AdapterConfig, images: Tensor, rate: float, encoder: bool = False
) -> tuple[Tensor, int]:
    """Fits (n, 3, 64, 64) uint8 faces; returns what the weights show, and their number.

    Every instance starts from ε₀, or, with ``encoder``, from the encoder's guess.
    """
    adapter = Adapter(shipped_base("faces-base")[0], config)
    features = adapter.features(pixel_grid(64, 64))
    if config.kind == "mlp":
        adapter.start = warm_start(adapter, pixel_grid(64, 64), scaled(200, 4))
    fitting = FitConfig(steps=STEPS, points=POINTS, learning_rate=rate)
    shown = []
    for batch in images.split(16):
        generator = torch.Generator().manual_seed(config.seed)
        origin = encoder_of(FACES)(adapter, image_to_signal(batch)) if encoder else None
        ε = fit_to_end(adapter, pixel_grid(64, 64), to_signal(batch), fitting, generator, origin)
        with torch.no_grad():
            values = adapter.decode(ε, features).clamp(-1, 1)
        shown.append(((values + 1) * 127.5).round().to(torch.uint8))
    pictures = torch.cat(shown).transpose(1, 2).reshape(-1, 3, 64, 64)
    return pictures, adapter.weight_count


def carried(config: AdapterConfig) -> AdapterConfig:
    """The configuration with mLoRA's carried start."""
    return dataclasses.replace(config, start="carried") if config.kind == "mlora" else config


def mean_psnr(shown: Tensor, images: Tensor) -> float:
    return float(psnr(shown, images).mean())


def tune(config: AdapterConfig, images: Tensor, encoder: bool) -> float:
    """The rate among RATES with the best mean PSNR on validation faces."""
    scores = {
        rate: mean_psnr(reconstruct(config, images, rate, encoder)[0], images) for rate in RATES
    }
    return max(scores, key=lambda r: scores[r])


def measure(
    config: AdapterConfig, images: Tensor, seeds: int, rate: float, encoder: bool
) -> dict[str, Any]:
    """PSNR and SSIM over faces and seeds."""
    psnrs, ssims, count = [], [], 0
    for seed in range(seeds):
        seeded = dataclasses.replace(config, seed=seed)
        shown, count = reconstruct(seeded, images, rate, encoder)
        psnrs += psnr(shown, images).tolist()
        ssims += [ssim(a, b) for a, b in zip(shown, images, strict=True)]
    return {
        "rank": config.rank,
        "weights": count,
        "rate": rate,
        "psnr": statistics.mean(psnrs),
        "psnr_sd": statistics.stdev(psnrs),
        "ssim": statistics.mean(ssims),
        "ssim_sd": statistics.stdev(ssims),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", type=int, default=WEIGHTS, help="of an instance, about")
    parser.add_argument("--only", nargs="*", default=None)
    args = parser.parse_args(arguments)
    start(args)
    images = load_faces(args.data, "test").images[: args.faces]
    validation = load_faces(args.data, "validation").images[:8]
    base = shipped_base("faces-base")[0]
    key = NAME if args.weights == WEIGHTS else f"{NAME}-{args.weights}"
    rows = load_result(key).get("values", {}).get("rows", {})
    budgets = equal_budget(base.config, args.weights)
    variants = {name: (carried(budgets[name]), False) for name in REPRESENTATIONS}
    variants |= {n: (budgets[n.split(",")[0]], n == WITH_ENCODER) for n in SPREAD}
    for name, (config, encoder) in variants.items():
        if name in rows or name not in (args.only or variants):
            continue
        rate = tune(config, validation, encoder)
        rows[name] = measure(config, images, args.seeds, rate, encoder)
        print(name, rows[name], flush=True)
        values = {"faces": len(images), "seeds": args.seeds, "steps": STEPS, "points": POINTS}
        command = "python -m benchmarks.faces_reconstruction --data celeba.zip"
        if args.weights != WEIGHTS:
            command += f" --weights {args.weights} --faces {args.faces} --seeds {args.seeds}"
        store_result(key, command, {**values, "rows": rows})


if __name__ == "__main__":
    main()
