"""What does batching buy, and how long does a visitor wait?

    python -m benchmarks.faces_speed

Batched against one-at-a-time fitting of the same model to the same PSNR, in one run;
the pictures are decoded samples, so no data is needed. Then the waits in the app.
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo import pipelines
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.fit import FitConfig, fit

NAME = "faces-speed"
TARGET = 28.0


def seconds_to_fit(targets: torch.Tensor, batch: int) -> float:
    """Seconds until all (n, P, 3) targets are fitted to TARGET dB in batches."""
    adapter = pipelines.face_diffusion().adapter
    features = adapter.features(pixel_grid(64, 64))
    config = FitConfig(steps=2000, points=768, target_psnr=TARGET)
    started = time.perf_counter()
    for part in targets.split(batch):
        for _ in fit(adapter, features, part, config, torch.Generator().manual_seed(0)):
            pass
    return time.perf_counter() - started


def seconds_to_page() -> float:
    """Seconds from starting app.py to the page answering."""
    started = time.perf_counter()
    app = Path(__file__).resolve().parent.parent / "app.py"
    process = subprocess.Popen([sys.executable, str(app)], env={"PORT": "7999", "PATH": ""})
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
    model = pipelines.face_diffusion()
    pictures = pipelines.render_faces(model.draw(args.count, seed=1, steps=20), model.adapter)
    targets = pictures.flatten(2).transpose(1, 2).float() / 127.5 - 1
    single = seconds_to_fit(targets[:8], 1) / 8
    batched = seconds_to_fit(targets, args.count) / args.count
    pipelines.warm_up()
    started = time.perf_counter()
    for moment in pipelines.sample_faces(1, seed=5, steps=30):
        last = moment
    pipelines.render_faces(last.instances, model.adapter, 128)
    first_face = time.perf_counter() - started
    values = {
        "target_psnr": TARGET,
        "batch": args.count,
        "ratio": single / batched,
        "instances_per_minute": 60 / batched,
        "seconds_to_first_face": first_face,
        "seconds_to_page": seconds_to_page(),
    }
    print(values)
    store_result(NAME, "python -m benchmarks.faces_speed", values)


if __name__ == "__main__":
    main()
