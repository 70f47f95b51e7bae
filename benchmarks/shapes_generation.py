"""Do sampled shapes match unseen real shapes? HyperDiffusion's protocol.

    python -m benchmarks.shapes_generation airplane --data MESHES
    python -m benchmarks.shapes_generation shapes --data MESHES

References: all meshes that no model has seen (validation and test). As many samples, drawn
without condition, ``--seeds`` times. Rows: the shipped model; the same at the app's temperature,
with surfaces at its level, and at 0; the Gaussian prior alone (the network silenced); the fits of
as many training shapes; and those training shapes themselves, the floor.

Asked for a category, as the app asks: how often PointNet-10 names that category.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Silent, benchmark_parser, start, store_result
from wsdemo.analysis.generation import frechet_distance
from wsdemo.analysis.point_features import POINTS, point_features, shipped_features
from wsdemo.analysis.shapes import (
    coverage_of,
    minimum_matching_distance,
    one_nearest_neighbour_accuracy,
    pairwise_chamfer,
    standard_cloud,
)
from wsdemo.errors import WsdemoError
from wsdemo.media.meshes import Floats, Mesh
from wsdemo.shape_pipelines import (
    TEMPERATURE,
    decode_shape,
    drawn_level,
    sample_shapes,
    shape_diffusion,
)
from wsdemo.train.population import fits_folder, load_fits
from wsdemo.train.shapes_data import SETS, load_meshes


def decoded(weights: torch.Tensor, name: str, level: float = 0.0) -> tuple[list[Mesh], int]:
    """Meshes of weights (n, D) at 96³, and how many had no surface."""
    meshes = []
    for ε in weights:
        try:
            meshes.append(decode_shape(ε, shape_diffusion(name).adapter, 96, level=level))
        except WsdemoError:
            continue
    return meshes, len(weights) - len(meshes)


def clouds(meshes: list[Mesh]) -> list[Floats]:
    return [standard_cloud(mesh, seed=i) for i, mesh in enumerate(meshes)]


def compare(
    samples: list[Floats], references: list[Floats], among_references: Floats
) -> dict[str, Any]:
    """MMD, COV, 1-NNA and PointNet-10's Fréchet distance of clouds against reference clouds."""
    across = pairwise_chamfer(samples, references)
    return {
        "count": len(samples),
        "mmd": minimum_matching_distance(across),
        "cov": coverage_of(across),
        "nna": one_nearest_neighbour_accuracy(
            pairwise_chamfer(samples, samples), among_references, across
        ),
        "fd": frechet_distance(point_features(samples), point_features(references)),
    }


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of every figure over seeds, and its standard deviation as KEY_sd."""
    found: dict[str, Any] = {"seeds": len(rows)}
    for key in rows[0]:
        values = np.array([row[key] for row in rows], dtype=np.float64)
        found |= {key: float(values.mean()), f"{key}_sd": float(values.std(ddof=1))}
    return found | {"count": rows[0]["count"]}


@torch.no_grad()
def named(name: str, each: int = 6) -> dict[str, Any]:
    """Of each category's samples, how many PointNet-10 gives that category."""
    model, (network, known) = shape_diffusion(name), shipped_features()
    right = {}
    for k, wish in enumerate(model.attribute_names):
        drawn = list(sample_shapes(name, each, 500 + k, 30, category=wish))[-1].instances
        meshes, _ = decoded(drawn, name, drawn_level(TEMPERATURE))
        said = [network(torch.from_numpy(c[None, :POINTS]).float()) for c in clouds(meshes)]
        right[wish] = sum(known[int(s.argmax())] == wish for s in said)
    return {"each": each, "temperature": TEMPERATURE, "right": right}


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--count", type=int, default=None, help="references; default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    start(args)
    name = args.set
    model = shape_diffusion(name)
    unseen = [m.mesh for s in ("validation", "test") for m in load_meshes(args.data, SETS[name], s)]
    if args.count is not None:  # every k-th, over all categories
        places = torch.linspace(0, len(unseen) - 1, min(args.count, len(unseen))).tolist()
        unseen = [unseen[round(i)] for i in places]
    train = {m.name: m.mesh for m in load_meshes(args.data, SETS[name], "train")}
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chosen = [list(train)[i] for i in picked[: len(unseen)].tolist()]
    references = clouds(unseen)
    among = pairwise_chamfer(references, references)
    count = len(unseen)

    def drawn(temperature: float = 1.0, level: float = 0.0) -> dict[str, Any]:
        found = []
        options = {"steps": args.steps, "temperature": temperature}
        for seed in range(args.seeds):
            parts = [
                model.draw(min(16, count - i), seed=10_000 + 1000 * seed + i, **options)
                for i in range(0, count, 16)
            ]
            meshes, empty = decoded(torch.cat(parts), name, level)
            found.append(compare(clouds(meshes), references, among) | {"empty": empty})
        return mean_of(found) if args.seeds > 1 else found[0]

    rows = {"diffusion": drawn()}
    rows["cool"] = drawn(TEMPERATURE, drawn_level(TEMPERATURE))
    rows["cool_at_zero"] = drawn(TEMPERATURE)
    print(rows, flush=True)
    network, model.network = model.network, Silent(model.network)  # type: ignore[assignment]
    rows["gaussian"] = drawn()
    model.network = network
    weights, names = load_fits(fits_folder(args.runs, name, model.adapter.config) / "train")
    place = {n: i for i, n in enumerate(names)}
    fits = weights[[place[n] for n in chosen if n in place]].float()
    meshes, empty = decoded(fits, name)
    rows["fits"] = compare(clouds(meshes), references, among) | {"empty": empty}
    rows["real"] = compare(clouds([train[n] for n in chosen]), references, among) | {"empty": 0}
    print(rows)
    command = f"python -m benchmarks.shapes_generation {name} --data MESHES"
    if args.count is not None:
        command += f" --count {args.count}"
    if args.seeds != 3:
        command += f" --seeds {args.seeds}"
    values = {
        "steps": args.steps,
        "references": count,
        "temperature": TEMPERATURE,
        "level": drawn_level(TEMPERATURE),
        "rows": rows,
    }
    if model.attribute_names:
        values["named"] = named(name)
    store_result(f"{name}-generation", command, values)


if __name__ == "__main__":
    main()
