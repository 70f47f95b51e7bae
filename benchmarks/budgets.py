"""Do fits keep their time, and how many steps are left beside another busy process?

    python -m benchmarks.budgets

Each fit runs by the command line, alone and beside a process that multiplies matrices with two
threads; the order alternates, so that what else the machine does falls on both alike. The load of
the machine before each round is stored with it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.surface import dense_grid, extract

BUSY = (
    "import torch\ntorch.set_num_threads(2)\na = torch.rand(700, 700)\n"
    "while True: a = (a @ a).clamp(0, 1)"
)
SECONDS = {"picture": 5.0, "mesh": 15.0}


def inputs(folder: Path) -> dict[str, Path]:
    """A noisy picture and a torus."""
    noise = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")

    def torus(points: np.ndarray) -> np.ndarray:
        ring = np.hypot(points[:, 0], points[:, 1]) - 0.55
        return np.asarray(np.hypot(ring, points[:, 2]) - 0.2, dtype=np.float32)

    (folder / "mesh.ply").write_bytes(mesh_bytes(extract(dense_grid(torus, 48)), "ply"))
    return {"picture": folder / "picture.png", "mesh": folder / "mesh.ply"}


def fitted(path: Path, seconds: float, out: Path) -> dict[str, float]:
    """Steps, and the seconds of the fit, of one call of the command line."""
    words = ["fit", str(path), "--seconds", str(seconds), "--out", str(out), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "wsdemo", *words], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    return {"steps": result["steps"], "seconds": result["fit_seconds"]}


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    start(args)
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, path in inputs(folder).items():
            runs: dict[str, list[dict[str, float]]] = {"alone": [], "beside": []}
            loads = []
            for _ in range(args.rounds):
                loads.append(os.getloadavg()[0])
                for where, results in runs.items():
                    busy = None
                    if where == "beside":
                        busy = subprocess.Popen([sys.executable, "-c", BUSY])
                    try:
                        results.append(fitted(path, SECONDS[kind], folder / "x.safetensors"))
                    finally:
                        if busy is not None:
                            busy.kill()
                            busy.wait()
            alone, beside = (statistics.mean(run["steps"] for run in runs[where]) for where in runs)
            times = [run["seconds"] for results in runs.values() for run in results]
            rows[kind] = {
                "asked": SECONDS[kind], "alone": alone, "beside": beside, "longest": max(times),
                "shortest": min(times), "loads": loads,
            }  # fmt: skip
            print(kind, rows[kind], flush=True)
            command = f"python -m benchmarks.budgets --rounds {args.rounds}"
            store_result("budgets", command, {"rows": rows})


if __name__ == "__main__":
    main()
