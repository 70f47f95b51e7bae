"""What does batching buy, and how long does a visitor wait?

    python -m benchmarks.faces_speed --data celeba.zip

Batched against one-at-a-time fitting of the same model to the same PSNR, in one run, on
unseen faces (CelebA's test range). Then what a visitor gets in five seconds, one face at
a time as in the app, and the waits.
"""

import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.domains.domain import FitOptions, Original
from wsdemo.domains.faces import FACES, render_faces
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.instances import warm_up
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.sampling import sample
from wsdemo.fields.adapters import STARTS
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.fit import FitConfig, fit
from wsdemo.train.faces.data import load_faces, to_signal

NAME = "faces-speed"
TARGET = 28.0
BATCHES = (2, 4, 8, 32)


def seconds_to_fit(targets: torch.Tensor, batch: int) -> float:
    """Seconds until all (n, P, 3) targets are fitted to TARGET dB in batches."""
    adapter = diffusion_of(FACES).adapter
    grid = pixel_grid(64, 64)
    config = FitConfig(steps=2000, points=768, target_psnr=TARGET, learning_rate=0.04)
    started = time.perf_counter()
    for part in targets.split(batch):
        for _ in fit(adapter, grid, part, config, torch.Generator().manual_seed(0)):
            pass
    return time.perf_counter() - started


def psnr_after(images: torch.Tensor, seconds: float, rank: int, origin: str) -> float:
    """Mean PSNR in dB of (n, 3, 64, 64) uint8 faces, each fitted alone for some seconds."""
    options = FitOptions(rank=rank, seconds=seconds, start=origin)
    last = [list(fit_original(FACES, Original(image), options))[-1].psnr for image in images]
    return statistics.mean(last)


def seconds_to_page() -> float:
    """Seconds from starting app.py to the page answering."""
    started = time.perf_counter()
    app = Path(__file__).resolve().parent.parent / "app.py"
    process = subprocess.Popen([sys.executable, str(app)], env=os.environ | {"PORT": "7999"})
    try:
        while time.perf_counter() - started < 120:
            try:
                urllib.request.urlopen("http://127.0.0.1:7999/", timeout=2)
                return time.perf_counter() - started
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.1)
        raise TimeoutError("the app did not start within two minutes")
    finally:
        process.terminate()


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--count", type=int, default=32)
    args = parser.parse_args()
    start(args)
    model = diffusion_of(FACES)
    images = load_faces(args.data, "test").images
    targets = to_signal(images[: args.count])
    seconds_to_fit(targets[:2], 1)  # warm
    single = seconds_to_fit(targets, 1) / args.count
    batched = {b: seconds_to_fit(targets, b) / args.count for b in BATCHES}
    warm_up()
    started = time.perf_counter()
    for moment in sample(FACES, 1, seed=5, steps=30):
        last = moment
    render_faces(last.instances, model.adapter, 128)
    first_face = time.perf_counter() - started
    values = {
        "target_psnr": TARGET,
        "faces": args.count,
        "single_per_minute": 60 / single,
        "ratios": {str(b): single / seconds for b, seconds in batched.items()},
        "psnr_5s": {
            origin: {rank: psnr_after(images[:8], 5.0, rank, origin) for rank in (8, 18)}
            for origin in STARTS
        },
        "seconds_to_first_face": first_face,
        "seconds_to_page": seconds_to_page(),
    }
    print(values)
    store_result(NAME, "python -m benchmarks.faces_speed --data celeba.zip", values)


if __name__ == "__main__":
    main()
