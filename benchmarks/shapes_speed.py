"""How fast are shapes? ``python -m benchmarks.shapes_speed --data MESHES``

Ratios within one run on one machine: coarse-to-fine against dense evaluation, batched against
single fitting; and seconds for what a visitor waits for. Meshes of the test split.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.analysis.shapes import compare_clouds
from wsdemo.domains import shape_fitting, shapes
from wsdemo.domains.domain import FitOptions, Original
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.models import diffusion_of, encoder_of
from wsdemo.domains.shapes import SHAPES
from wsdemo.fields.fit import FitConfig, fit_to_end
from wsdemo.fields.signal import TRUNCATION, grid_to_inputs
from wsdemo.media.mesh_files import MeshReport
from wsdemo.media.meshes import Pose
from wsdemo.media.render import render
from wsdemo.media.sdf import solidity
from wsdemo.media.surface import dense_grid, extract, sparse_grid
from wsdemo.train.shapes.data import SETS, NamedMesh, load_meshes, load_shapes, signals

BATCHES = (2, 4, 8)


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def fitted(item: NamedMesh, budget: float) -> dict[str, float]:
    """One mesh, fitted as the app does it, by both definitions of the F-score."""
    report = MeshReport("npz", len(item.mesh.vertices), len(item.mesh.faces), 1, True, ())
    source = shape_fitting.MeshInput(item.mesh, Pose(), report, solidity(item.mesh))
    last = None
    for last in fit_original(SHAPES, Original(source), FitOptions(seconds=budget)):
        pass
    assert last is not None
    clouds = compare_clouds(last.reference, last.shown)
    measured = last.instance.measured
    return {
        "fscore": clouds["fscore_cloud"], "surface_fscore": measured["fscore"],
        "iou": measured["iou"],
    }  # fmt: skip


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--meshes", type=int, default=8)
    args = parser.parse_args()
    start(args)
    model = diffusion_of(SHAPES)
    weights = model.draw(1, seed=3, steps=30)[0]
    field = shapes.field_of(weights, model.adapter)
    field(np.zeros((8192, 3), dtype=np.float32))
    values: dict[str, object] = {}
    ratios = {}
    for cells in (128, 256):
        sparse = seconds(lambda c=cells: sparse_grid(field, c, TRUNCATION))  # type: ignore[misc]
        dense = seconds(lambda c=cells: dense_grid(field, c))  # type: ignore[misc]
        ratios[cells] = dense / sparse
        print(cells, sparse, dense, flush=True)
    values["coarse_to_fine_ratio"] = ratios

    def sampled() -> None:
        drawn = model.draw(1, seed=4, steps=30)[0]
        render(extract(sparse_grid(shapes.field_of(drawn, model.adapter), 64, TRUNCATION)[0]), 192)

    sampled()
    values["seconds_to_sampled_preview"] = statistics.median(seconds(sampled) for _ in range(3))
    test = load_shapes(args.data, "shapes", "test", args.runs / "shapes-samples").pick(range(8))
    points, targets = signals(test, torch.arange(8), 24_576, 6_144, torch.Generator())
    origin = encoder_of(SHAPES)(model.adapter, grid_to_inputs(test.grids))
    config = FitConfig(steps=30, points=1024, learning_rate=0.02, absolute=True)

    def fit(batch: int) -> None:
        for p, t, o in zip(
            points.split(batch), targets.split(batch), origin.split(batch), strict=True
        ):
            fit_to_end(model.adapter, p, t, config, torch.Generator().manual_seed(0), o)

    fit(8)
    single = seconds(lambda: fit(1))
    values["batched_ratio"] = {b: single / seconds(lambda b=b: fit(b)) for b in BATCHES}  # type: ignore[misc]
    print(values, flush=True)
    items = load_meshes(args.data, SETS["shapes"], "test")
    picked = [items[round(i)] for i in torch.linspace(0, len(items) - 1, args.meshes).tolist()]
    scores = [fitted(item, 15.0) for item in picked]
    values["fit_15_seconds"] = {
        "meshes": len(scores),
        **{key: [statistics.mean(s[key] for s in scores), statistics.stdev(s[key] for s in scores)]
           for key in ("fscore", "surface_fscore", "iou")},
        "reaching_95": sum(s["fscore"] >= 0.95 for s in scores),
    }  # fmt: skip
    print(values)
    command = f"python -m benchmarks.shapes_speed --data MESHES --meshes {args.meshes}"
    store_result("shapes-speed", command, values)


if __name__ == "__main__":
    main()
