"""Which representation reconstructs unseen shapes best, at equal size?

    python -m benchmarks.shapes_reconstruction airplane --data MESHES
    python -m benchmarks.shapes_reconstruction shapes --data MESHES

Meshes of the test split, fitted in batches from one shared start; the learning rate of each
representation is chosen by the error near the surface of up to 16 validation meshes, with every
seed. The last row starts at the encoder's guess. A seed draws mask, start and points. mLoRA begins
at its carried start; the last three rows at the spread one, from which the instances that ship were
fitted. Surfaces are extracted at 128³. Finished rows are kept; a second call of the same counts
continues.
"""

import dataclasses
import statistics
from pathlib import Path

import torch

from benchmarks.common import benchmark_parser, load_result, scaled, start, store_result
from benchmarks.faces_reconstruction import SPREAD, WITH_ENCODER, carried
from wsdemo.analysis.shapes import compare_clouds, compare_meshes
from wsdemo.domains.models import adapter_of, encoder_of
from wsdemo.domains.registry import domain_named
from wsdemo.domains.shapes import decode_shape
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig, equal_budget
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.fit import FitConfig, fit_to_end
from wsdemo.fields.signal import grid_to_inputs
from wsdemo.media.meshes import Mesh
from wsdemo.media.solids import as_solid
from wsdemo.train.shapes.data import SETS, Shapes, load_meshes, load_shapes, signals

WEIGHTS = 27_000
STEPS, POINTS = scaled(200, 4), 1024
RESOLUTION = scaled(128, 32)
RATES = scaled((0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), (0.01,))
VALIDATION = scaled(16, 2)
DRAWN = scaled(30_000, 3_000)
MEASURES = ("chamfer", "chamfer_2048", "fscore", "iou", "normals",
            "surface_chamfer", "surface_fscore", "surface_normals")  # fmt: skip
"""The first by points drawn on both meshes, as papers have it; the last by distances of points to
the other surface, as the app has it, against the boundary of the mesh."""
NOTHING = {measure: float("chamfer" in measure) for measure in MEASURES}
"""What a fit without any surface scores."""


def reconstruct(
    name: str, config: AdapterConfig, shapes: Shapes, rate: float, encoder: bool
) -> tuple[torch.Tensor, Adapter, float]:
    """Fits shapes; returns their weights, the adapter, and the mean error near the surface."""
    own = (config.representation, config.rank, config.seed, config.start)
    adapter = adapter_of(domain_named(name), *own)
    fitting = FitConfig(steps=STEPS, points=POINTS, learning_rate=rate, absolute=True)
    parts, errors = [], []
    for index in torch.arange(len(shapes)).split(16):
        points, targets = signals(shapes, index, 24_576, 6_144, torch.Generator().manual_seed(0))
        inputs = grid_to_inputs(shapes.grids[index])
        origin = encoder_of(domain_named(name))(adapter, inputs) if encoder else None
        generator = torch.Generator().manual_seed(config.seed)
        ε = fit_to_end(adapter, points, targets, fitting, generator, origin)
        parts.append(ε)
        with torch.no_grad():
            near = adapter.features(points[:, :8192])  # what all measures of the surface depend on
            errors.append((adapter.decode(ε, near) - targets[:, :8192]).abs().mean((1, 2)))
    return torch.cat(parts), adapter, float(torch.cat(errors).mean())


def spread_over(shapes: Shapes, count: int) -> Shapes:
    """Every k-th of the list, which is in order of category within its source."""
    count = min(count, len(shapes))
    return shapes.pick(
        sorted({round(i) for i in torch.linspace(0, len(shapes) - 1, count).tolist()})
    )


def best_rate(
    name: str, config: AdapterConfig, validation: Shapes, seeds: int, encoder: bool
) -> float:
    """The rate of the smallest mean absolute error near the surface of the validation meshes."""

    def error(rate: float) -> float:
        own = [dataclasses.replace(config, seed=seed) for seed in range(seeds)]
        return statistics.mean(reconstruct(name, c, validation, rate, encoder)[2] for c in own)

    return min(RATES, key=error)


def scores(mesh: Mesh, decoded: Mesh) -> dict[str, float]:
    """Both definitions side by side."""
    clouds = compare_clouds(mesh, decoded, DRAWN)
    surface = compare_meshes(as_solid(mesh)[0], decoded, DRAWN)
    plain = {name.removesuffix("_cloud"): value for name, value in clouds.items()}
    beside = {f"surface_{name}": surface[name] for name in ("chamfer", "fscore", "normals")}
    return {**plain, "iou": surface["iou"], **beside}


def measure(weights: torch.Tensor, adapter: Adapter, meshes: list[Mesh]) -> list[dict[str, float]]:
    """Compares decoded weights (n, D) with their meshes."""
    rows = []
    for ε, mesh in zip(weights, meshes, strict=True):
        try:
            rows.append(scores(mesh, decode_shape(ε, adapter, RESOLUTION)))
        except WsdemoError:
            rows.append(NOTHING)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--count", type=int, help="meshes, spread over categories; default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args(arguments)
    start(args)
    name, cache = args.set, args.runs / "shapes-samples"
    test = load_shapes(args.data, name, "test", cache)
    items = {m.name: m.mesh for m in load_meshes(args.data, SETS[name], "test")}
    test = spread_over(test, args.count or len(test))
    count = len(test)
    meshes = [items[n] for n in test.names]
    validation = spread_over(load_shapes(args.data, name, "validation", cache), VALIDATION)
    configs = equal_budget(shipped_base(f"{name}-base")[0].config, WEIGHTS)
    spread = {name: configs[name.split(",")[0]] for name in SPREAD}
    configs = {name: carried(config) for name, config in configs.items()} | spread
    key = f"{name}-reconstruction"
    counts = {"meshes": count, "seeds": args.seeds}
    stored = load_result(key).get("values", {})
    same = {"seeds": 1, **stored}.items() >= counts.items()
    rows = stored["rows"] if same else {}
    for label, config in configs.items():
        if label in rows or label not in (args.only or configs):
            continue
        encoder = label == WITH_ENCODER
        rate = best_rate(name, config, validation, args.seeds, encoder)
        measured = []
        for seed in range(args.seeds):
            own = dataclasses.replace(config, seed=seed)
            weights, adapter, _ = reconstruct(name, own, test, rate, encoder)
            measured += measure(weights, adapter, meshes)
        rows[label] = {"rank": config.rank, "weights": adapter.weight_count, "rate": rate}
        for m in MEASURES:
            values = [r[m] for r in measured]
            rows[label][m] = [statistics.mean(values), statistics.stdev(values)]
        print(label, rows[label], flush=True)
        command = f"python -m benchmarks.shapes_reconstruction {name} --data MESHES"
        command += f" --count {args.count}" if args.count else ""
        command += f" --seeds {args.seeds}" if args.seeds > 1 else ""
        values = counts | {"steps": STEPS, "points": POINTS, "rows": rows}
        store_result(key, command, values)


if __name__ == "__main__":
    main()
