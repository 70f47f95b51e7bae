"""Do sampled faces match unseen real faces?

    python -m benchmarks.faces_generation --data celeba.zip

Samples against CelebA's test range in FaceAttr-64 features (ours). Rows, of both generations: the
shipped model, its Gaussian prior alone (the network silenced), of the second also its network in
the place of the mixture of Gaussians, each the mean of ``--seeds`` runs; the fits of training
faces, or the points of the manifold that the encoder proposes for validation faces, which is the
best that the weights allow; and other real faces (validation), the floor. ``--only`` measures one
generation anew and keeps the other rows.
"""

import copy
import dataclasses
import statistics
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Silent, benchmark_parser, load_result, start, store_result
from wsdemo.analysis.features import face_features
from wsdemo.analysis.generation import (
    coverage,
    frechet_distance,
    mmd_gaussian,
    mmd_polynomial,
    nearest_distances,
)
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.domains.faces import FACES, FACES_MANIFOLD, render_faces
from wsdemo.domains.models import diffusion_of, encoder_of
from wsdemo.fields.signal import image_to_signal
from wsdemo.generate.coordinates import CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.train.faces.data import load_faces

NAME = "faces-generation"


def silenced(model: WeightDiffusion) -> WeightDiffusion:
    """The same whose network adds nothing to its Gaussian prior."""
    other = copy.copy(model)
    other.network = Silent(model.network)  # type: ignore[assignment]
    return other


def without_mixture(model: WeightDiffusion) -> WeightDiffusion:
    """The same whose network alone says what goes beyond its Gaussian prior."""
    other = copy.copy(model)
    other.network = copy.deepcopy(model.network)
    assert isinstance(other.network, CoordinateNetwork)
    other.network.mixture = None
    other.network.config = dataclasses.replace(other.network.config, components=0, mixed=0)
    return other


def draw(model: WeightDiffusion, count: int, steps: int, seed: int) -> Tensor:
    """Samples of a model, unconditional: (count, 3, 64, 64) uint8."""
    parts = []
    for i in range(0, count, 50):
        drawn = model.draw(min(50, count - i), seed=seed + i, steps=steps)
        parts.append(render_faces(drawn, model.adapter))
    return torch.cat(parts)


def compare(images: Tensor, reference: Tensor, train: Tensor) -> dict[str, Any]:
    """All distances of pictures (n, 3, 64, 64) to reference features (m, 192)."""
    x = face_features(images)
    scale = reference.std(0).mean()  # kernels and balls see features of unit spread
    precision, covered = coverage(x, reference)
    return {
        "count": len(x),
        "fd": frechet_distance(x, reference),
        "mmd_gaussian": mmd_gaussian(x / scale, reference / scale),
        "mmd_polynomial": mmd_polynomial(x / scale, reference / scale),
        "precision": precision,
        "coverage": covered,
        "nearest_train": float((nearest_distances(x, train) / scale).median()),
    }


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of every figure, and every FD."""
    means = {k: statistics.mean(row[k] for row in rows) for k in rows[0]}
    return means | {"count": rows[0]["count"], "fds": [row["fd"] for row in rows]}


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["first", "second"])
    args = parser.parse_args()
    start(args)
    reference = face_features(load_faces(args.data, "test").images)
    held_out = load_faces(args.data, "validation").images
    images = load_faces(args.data, "train").images
    train = face_features(images)

    def drawn(model: WeightDiffusion) -> dict[str, Any]:
        seeds = [10_000 * (1 + i) for i in range(args.seeds)]
        return mean_of(
            [compare(draw(model, args.count, args.steps, s), reference, train) for s in seeds]
        )

    rows: dict[str, Any] = load_result(NAME)["values"]["rows"] if args.only else {}
    if args.only != "second":
        model = diffusion_of(FACES)
        rows["diffusion"] = drawn(model)
        rows["gaussian"] = drawn(silenced(model))
        weights = load_checkpoint(DIRECTORY / "faces-weights.safetensors")[0]["instances"].float()
        rows["fits"] = compare(render_faces(weights, model.adapter), reference, train)
    if args.only != "first":
        model = diffusion_of(FACES_MANIFOLD)
        rows["manifold"] = drawn(model)
        rows["manifold_network"] = drawn(without_mixture(model))
        rows["manifold_gaussian"] = drawn(silenced(model))
        points = encoder_of(FACES_MANIFOLD)(model.adapter, image_to_signal(held_out))
        shown = torch.cat([render_faces(part, model.adapter) for part in points.split(50)])
        rows["points"] = compare(shown, reference, train)
    rows["real"] = compare(held_out, reference, train)
    print(rows, flush=True)
    command = f"python -m benchmarks.faces_generation --data celeba.zip --seeds {args.seeds}"
    values = {"steps": args.steps, "references": len(reference), "seeds": args.seeds, "rows": rows}
    store_result(NAME, command, values)


if __name__ == "__main__":
    main()
