"""Which weights are easiest to generate? Equal budgets, one representation each.

    python -m benchmarks.generation faces --data celeba.zip --models MODELS
    python -m benchmarks.generation shapes --data MESHES --models MODELS

``MODELS`` holds models that ``faces_diffusion`` or ``shapes_diffusion`` wrote with ``--name
SET-REPRESENTATION-METHOD``; METHOD is ``plain`` (standardised weights, no prior, as in the
papers; for MLP over flat tokens, after HyperDiffusion) or ``prior`` (our Gaussian prior and its
principal coordinates). benchmarks/generation_models.py trains them all. Samples are drawn
without condition. A model that has a row of the same settings is not measured again, unless by
``--fresh``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import faces_generation, shapes_generation
from benchmarks.common import benchmark_parser, load_result, scaled, start, store_result
from wsdemo.analysis.features import face_features
from wsdemo.analysis.generation import frechet_distance
from wsdemo.analysis.point_features import point_features
from wsdemo.analysis.shapes import pairwise_chamfer
from wsdemo.domains.faces import render_faces
from wsdemo.domains.shapes import decode_shape
from wsdemo.errors import WsdemoError
from wsdemo.fields.base_files import load_base
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion
from wsdemo.train.faces.data import load_faces
from wsdemo.train.population import fits_folder, load_fits
from wsdemo.train.shapes.data import SETS, load_meshes

RESOLUTION = scaled(64, 32)
Measure = Callable[[WeightDiffusion, Tensor], dict[str, Any]]
"""Maps a model and weights (n, D) to the row of the table."""


def face_measure(data: Path) -> Measure:
    """Distances to CelebA's test range in FaceAttr-64 features."""
    reference = face_features(load_faces(data, "test").images)
    train = face_features(load_faces(data, "train").images)

    def measure(model: WeightDiffusion, weights: Tensor) -> dict[str, Any]:
        shown = torch.cat([render_faces(b, model.adapter) for b in weights.split(50)])
        return faces_generation.compare(shown, reference, train)

    return measure


def shape_measure(data: Path, name: str, count: int | None) -> tuple[Measure, int]:
    """Distances to meshes that no model has seen, every k-th of them, and how many those are.

    The Fréchet distance is to all of them.
    """
    unseen = [m.mesh for s in ("validation", "test") for m in load_meshes(data, SETS[name], s)]
    every = shapes_generation.clouds(unseen)
    places = torch.linspace(0, len(every) - 1, min(count or len(every), len(every))).tolist()
    references = [every[round(i)] for i in places]
    among = pairwise_chamfer(references, references)
    features = point_features(every)

    def measure(model: WeightDiffusion, weights: Tensor) -> dict[str, Any]:
        meshes = []
        for ε in weights:
            try:
                meshes.append(decode_shape(ε, model.adapter, RESOLUTION))
            except WsdemoError:
                continue
        empty = {"empty": len(weights) - len(meshes)}
        if len(meshes) < 2:
            return {"count": len(meshes), **empty}
        clouds = shapes_generation.clouds(meshes)
        row = shapes_generation.compare(clouds, references, among)
        return {**row, **empty, "fd": frechet_distance(point_features(clouds), features)}

    return measure, len(references)


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("set", choices=["faces", *sorted(SETS)])
    parser.add_argument("--models", type=Path, required=True, help="folder of trained models")
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"), help="of their fits")
    parser.add_argument(
        "--count", type=int, default=None, help="samples of each; of shapes also references"
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    args = parser.parse_args(arguments)
    start(args)
    if args.set == "faces":
        measure, references = face_measure(args.data), 500
        count = args.count or 1000
    else:
        measure, references = shape_measure(args.data, args.set, args.count)
        count = references
    name = f"{args.set}-representations"
    kept = load_result(name).get("values", {})
    settings = {"steps": args.steps, "references": references, "count": count}
    is_same = all(kept.get(k) == v for k, v in settings.items())
    rows = kept["rows"] if is_same and not args.fresh else {}
    data = "celeba.zip" if args.set == "faces" else "MESHES"
    command = f"python -m benchmarks.generation {args.set} --data {data} --models MODELS"
    if args.count is not None:
        command += f" --count {args.count}"
    base, _ = load_base(Path(f"checkpoints/{args.set}-base.safetensors"))
    for path in sorted(args.models.glob(f"{args.set}-*.safetensors")):
        model, meta = load_diffusion(path, base)
        row = path.stem.removeprefix(f"{args.set}-")
        if meta["name"] != path.stem or row in rows:  # a second part, or measured
            continue
        parts = [
            model.draw(min(50, count - i), seed=10_000 + i, steps=args.steps)
            for i in range(0, count, 50)
        ]
        rows[row] = {**measure(model, torch.cat(parts)), **meta["measured"]}
        fits = f"{row.removesuffix('-plain').removesuffix('-prior')}, fits"
        if fits not in rows:
            folder = fits_folder(args.runs, args.set, model.adapter.config)
            weights = load_fits(folder / "train")[0].float()
            chosen = torch.randperm(len(weights), generator=torch.Generator().manual_seed(0))
            rows[fits] = measure(model, weights[chosen[:count]])
        print(row, rows[row], rows[fits], flush=True)
        store_result(name, command, {**settings, "rows": rows})


if __name__ == "__main__":
    main()
