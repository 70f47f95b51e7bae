"""Do sampled faces match unseen real faces?

    python -m benchmarks.faces_generation --data celeba.zip

Samples against CelebA's test range in FaceAttr-64 features (ours). Rows: the shipped
model; the Gaussian prior alone (the network silenced); the fits of training faces,
which is the best that the weights allow; and other real faces (validation), the floor.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Silent, benchmark_parser, start, store_result
from wsdemo.analysis.features import face_features
from wsdemo.analysis.generation import (
    coverage,
    frechet_distance,
    mmd_gaussian,
    mmd_polynomial,
    nearest_distances,
)
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.domains.faces import FACES, render_faces
from wsdemo.domains.models import diffusion_of
from wsdemo.train.faces.data import load_faces

NAME = "faces-generation"


def draw(count: int, steps: int) -> Tensor:
    """Samples of the shipped model, unconditional: (count, 3, 64, 64) uint8."""
    model = diffusion_of(FACES)
    parts = []
    for seed in range(0, count, 50):
        drawn = model.draw(min(50, count - seed), seed=10_000 + seed, steps=steps)
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


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    start(args)
    reference = face_features(load_faces(args.data, "test").images)
    held_out = load_faces(args.data, "validation").images
    images = load_faces(args.data, "train").images
    train = face_features(images)
    model = diffusion_of(FACES)
    weights = load_checkpoint(DIRECTORY / "faces-weights.safetensors")[0]["instances"].float()
    rows = {"diffusion": compare(draw(args.count, args.steps), reference, train)}
    print(rows, flush=True)
    network, model.network = model.network, Silent(model.network)  # type: ignore[assignment]
    rows["gaussian"] = compare(draw(args.count, args.steps), reference, train)
    model.network = network
    rows["fits"] = compare(render_faces(weights, model.adapter), reference, train)
    rows["real"] = compare(held_out, reference, train)
    print(rows, flush=True)
    command = "python -m benchmarks.faces_generation --data celeba.zip"
    store_result(NAME, command, {"steps": args.steps, "references": len(reference), "rows": rows})


if __name__ == "__main__":
    main()
