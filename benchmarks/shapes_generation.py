"""Do sampled shapes match unseen real shapes? HyperDiffusion's protocol.

    python -m benchmarks.shapes_generation airplane --data MESHES
    python -m benchmarks.shapes_generation shapes --data MESHES

References: all meshes that no model has seen (validation and test). As many samples, drawn
without condition, ``--seeds`` times. Rows: the shipped model; the same at the app's temperature,
with surfaces at its level, and at 0; the Gaussian prior alone (the network silenced); the fits of
as many training shapes; and those training shapes themselves, the floor. Of a second generation the
first one, as it is and as the app draws it, stands in the place of the Gaussian and of the surfaces
at 0. Rows that were measured with the same settings are kept, unless named by ``--fresh``.

Drawn as the app draws: how many are in one piece, at its level and at 0, and how often PointNet-10
names the category that was asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Silent, benchmark_parser, load_result, start, store_result
from wsdemo.analysis.generation import frechet_distance
from wsdemo.analysis.point_features import POINTS, point_features, shipped_features
from wsdemo.analysis.shapes import (
    coverage_of,
    minimum_matching_distance,
    one_nearest_neighbour_accuracy,
    pairwise_chamfer,
    standard_cloud,
)
from wsdemo.domains.domain import Domain
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import DOMAINS, domain_named
from wsdemo.domains.sampling import sample
from wsdemo.domains.shapes import decode_shape, drawn_level
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.media.meshes import Floats, Mesh, vertex_components
from wsdemo.train.population import fits_folder, load_fits
from wsdemo.train.shapes.data import SETS, load_meshes, set_of


def decoded(weights: torch.Tensor, adapter: Adapter, level: float = 0.0) -> tuple[list[Mesh], int]:
    """Meshes of weights (n, D) at 96³, and how many had no surface."""
    meshes = []
    for ε in weights:
        try:
            meshes.append(decode_shape(ε, adapter, 96, level=level))
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
def asked(domain: Domain) -> dict[str, Any]:
    """What the app draws, of every category: in one piece, and what PointNet-10 calls it."""
    level, model = drawn_level(domain.name, domain.temperature), diffusion_of(domain)
    (network, known), wishes = shipped_features(), model.attribute_names
    each = 6 if wishes else 16
    found: dict[str, Any] = {"each": each, "count": 0, "whole": 0, "whole_at_zero": 0, "right": {}}
    for k, wish in enumerate(wishes or (None,) * 4):
        *_, last = sample(domain, each, 500 + k, 30, wishes={wish: True} if wish else {})
        drawn = last.instances
        meshes, _ = decoded(drawn, model.adapter, level)
        found["count"] += each
        found["whole"] += sum(map(is_whole, meshes))
        found["whole_at_zero"] += sum(map(is_whole, decoded(drawn, model.adapter)[0]))
        if wish:
            said = [network(torch.from_numpy(c[None, :POINTS]).float()) for c in clouds(meshes)]
            found["right"][wish] = sum(known[int(s.argmax())] == wish for s in said)
    return found


def is_whole(mesh: Mesh) -> bool:
    """Whether a mesh is one piece, but for pieces of under half a percent of its vertices."""
    sizes = np.bincount(vertex_components(mesh))
    return int((sizes > 0.005 * len(mesh.vertices)).sum()) == 1


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("set", choices=[d.name for d in DOMAINS.values() if d.kind == "sdf"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--count", type=int, default=None, help="references; default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--fresh", nargs="+", default=[], help="rows to measure again")
    args = parser.parse_args()
    start(args)
    name, domain = args.set, domain_named(args.set)
    heat, level = domain.temperature, drawn_level(name, domain.temperature)
    categories, model = SETS[set_of(name)], diffusion_of(domain)
    unseen = [m.mesh for s in ("validation", "test") for m in load_meshes(args.data, categories, s)]
    if args.count is not None:  # every k-th, over all categories
        places = torch.linspace(0, len(unseen) - 1, min(args.count, len(unseen))).tolist()
        unseen = [unseen[round(i)] for i in places]
    train = {m.name: m.mesh for m in load_meshes(args.data, categories, "train")}
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chosen = [list(train)[i] for i in picked[: len(unseen)].tolist()]
    references = clouds(unseen)
    among = pairwise_chamfer(references, references)
    count = len(unseen)

    def drawn(
        temperature: float = 1.0, level: float = 0.0, model: WeightDiffusion = model
    ) -> dict[str, Any]:
        found = []
        options = {"steps": args.steps, "temperature": temperature}
        for seed in range(args.seeds):
            parts = [
                model.draw(min(16, count - i), seed=10_000 + 1000 * seed + i, **options)
                for i in range(0, count, 16)
            ]
            meshes, empty = decoded(torch.cat(parts), model.adapter, level)
            found.append(compare(clouds(meshes), references, among) | {"empty": empty})
        return mean_of(found) if args.seeds > 1 else found[0]

    def gaussian() -> dict[str, Any]:
        network, model.network = model.network, Silent(model.network)  # type: ignore[assignment]
        row = drawn()
        model.network = network
        return row

    def fits() -> dict[str, Any]:
        weights, names = load_fits(fits_folder(args.runs, name, model.adapter.config) / "train")
        place = {n: i for i, n in enumerate(names)}
        picked = weights[[place[n] for n in chosen if n in place]].float()
        meshes, empty = decoded(picked, model.adapter)
        return compare(clouds(meshes), references, among) | {"empty": empty}

    def real() -> dict[str, Any]:
        return compare(clouds([train[n] for n in chosen]), references, among) | {"empty": 0}

    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "diffusion": drawn, "cool": lambda: drawn(heat, level),
    }  # fmt: skip
    if set_of(name) == name:
        measures |= {"cool_at_zero": lambda: drawn(heat), "gaussian": gaussian}
    else:
        first = domain_named(set_of(name))
        t, surface = first.temperature, drawn_level(first.name, first.temperature)
        measures["first"] = lambda: drawn(model=diffusion_of(first))
        measures["first_cool"] = lambda: drawn(t, surface, diffusion_of(first))
    measures |= {"fits": fits, "real": real}
    settings = {"steps": args.steps, "references": count, "seeds": args.seeds}
    kept = load_result(f"{name}-generation").get("values", {})
    rows = kept["rows"] if settings.items() <= kept.items() else {}
    for label, measure in measures.items():
        if label not in rows or label in args.fresh:
            rows[label] = measure()
            print(label, rows[label], flush=True)
    command = f"python -m benchmarks.shapes_generation {name} --data MESHES"
    if args.count is not None:
        command += f" --count {args.count}"
    if args.seeds != 3:
        command += f" --seeds {args.seeds}"
    values = {
        **settings,
        "temperature": heat,
        "level": level,
        "rows": {label: rows[label] for label in measures},
    }
    values["asked"] = asked(domain)
    store_result(f"{name}-generation", command, values)


if __name__ == "__main__":
    main()
