"""How often is the upward axis of a mesh guessed right?

    python -m benchmarks.upright --data MESHES

Meshes of every category at hand, once as they stand and once lying on their backs, as a z-up file
has them. The three weights of ``media.upright`` are those of a logistic regression on all of them;
the shares below are of categories that it has not seen.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.media.meshes import STAND, Mesh, surface_points
from wsdemo.media.upright import ODDS, POINTS, stance

Floats = NDArray[np.float64]
EACH = 20
"""Meshes a category and source, at most."""


def meshes_of(path: Path) -> list[tuple[str, Mesh]]:
    """Category and mesh of a file of meshes, in the order of a seed."""
    stored, meshes = np.load(path), list[tuple[str, Mesh]]()
    v, f, names = stored["verts"], stored["faces"], stored["names"]
    count: dict[str, int] = {}
    for i in np.random.default_rng(0).permutation(len(names)):
        category = str(names[i]).split("/")[0]
        count[category] = count.get(category, 0) + 1
        if count[category] <= EACH:
            (a, b), (c, d) = stored["voff"][i : i + 2], stored["foff"][i : i + 2]
            meshes.append((category, Mesh(v[a:b] / 32767.5 - 1, f[c:d].astype(np.int64))))
    return meshes


def fitted(x: Floats, y: Floats) -> Floats:
    """Weights of a logistic regression without a constant, by Newton's method."""
    scale = x.std(0)
    x, w = x / scale, np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.eye(len(w))
        w += np.linalg.solve(hessian, x.T @ (y - p) - w)
    return np.asarray(w / scale)


def main() -> None:
    args = (parser := benchmark_parser(__doc__)).parse_args()
    start(args)
    if args.data is None:
        parser.error("--data is needed")
    rows, labels, categories = [], [], []
    for path in sorted(args.data.glob("*.npz")):
        for category, mesh in meshes_of(path):
            points, _ = surface_points(mesh, POINTS, 0)
            for placed, is_y in ((points, 1.0), (points @ STAND, 0.0)):
                rows.append(np.subtract(stance(placed, 1, 2), stance(placed, 2, 1)))
                labels.append(is_y)
                categories.append(category)
    x, y, of = np.array(rows), np.array(labels), np.array(categories)
    score = np.zeros(len(x))
    for category in set(categories):
        held = of == category
        score[held] = x[held] @ fitted(x[~held], y[~held])
    values = {
        "weights": fitted(x, y).tolist(), "meshes": len(x) // 2,
        "formats": {
            kind: {"odds": odds, "standing": float((score[y == 1] > -np.log(odds)).mean()),
                   "lying": float((score[y == 0] <= -np.log(odds)).mean())}
            for kind, odds in {"even": 1.0, **ODDS}.items()
        },
        "categories": {
            c: float(((score > 0) == (y == 1))[of == c].mean()) for c in sorted(set(categories))
        },
    }  # fmt: skip
    print(values)
    store_result("upright", "python -m benchmarks.upright --data MESHES", values)


if __name__ == "__main__":
    main()
