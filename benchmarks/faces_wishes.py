"""Does a drawn face have what was wished for?

    python -m benchmarks.faces_wishes --data celeba.zip

Each attribute is wished for alone, at the strengths that are plain conditioning and the shipped
default, and a classifier says how many of the drawn faces have it. The classifier has nothing of
the networks that were used for training or shipped: logistic regression on histograms of oriented
gradients (scikit-image) and on coarse colours, estimated on CelebA's training range and tried on
its test range. How many unwished faces have the attribute stands beside it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.domains.faces import FACES, FACES_MANIFOLD, render_faces
from wsdemo.domains.models import diffusion_of
from wsdemo.train.faces.data import attributes_of, load_faces

NAME = "faces-wishes"
GENERATIONS = {"first": FACES, "second": FACES_MANIFOLD}
PLAIN = 1.0
"""Strength of a wish that is conditioned on and no more."""
SEED = 2026
"""Of the noises: not those on which the default strength was chosen."""


def described(images: Tensor) -> NDArray[np.float32]:
    """(n, f) oriented gradients of pictures (n, 3, 64, 64) uint8, and their colours at 8x8."""
    shapes = [
        hog(image, 9, (8, 8), (2, 2), channel_axis=-1)
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    colours = F.avg_pool2d(images.float() / 255, 8).flatten(1).numpy()
    return np.concatenate([np.stack(shapes), colours], 1).astype(np.float32)


def classifier(x: NDArray[np.float32], y: NDArray[np.int64]) -> Pipeline:
    """Logistic regression that counts both answers alike, as most attributes are rare."""
    regression = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=300)
    return make_pipeline(StandardScaler(), regression).fit(x, y)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--count", type=int, default=100, help="faces a wish")
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    start(args)
    train, test = load_faces(args.data, "train"), load_faces(args.data, "test")
    x, x_test = described(train.images), described(test.images)
    models = {name: diffusion_of(domain) for name, domain in GENERATIONS.items()}
    names = models["second"].attribute_names
    unwished = {
        name: described(render_faces(model.draw(args.count, SEED, steps=args.steps), model.adapter))
        for name, model in models.items()
    }
    rows = []
    for name in names:
        y, y_test = (attributes_of(f, [name])[:, 0].numpy().astype(np.int64) for f in (train, test))
        judge = classifier(x, y)
        row = {
            "attribute": name,
            "accuracy": balanced_accuracy_score(y_test, judge.predict(x_test)),
        }
        for generation, model in models.items():
            row[f"{generation}_unwished"] = float(judge.predict(unwished[generation]).mean())
            condition = model.condition({name: True}, args.count)
            for strength in (PLAIN, GENERATIONS[generation].guidance):
                drawn = model.draw(
                    args.count, SEED, steps=args.steps, guidance=strength, attributes=condition
                )
                shown = described(render_faces(drawn, model.adapter))
                key = f"{generation}_plain" if strength == PLAIN else f"{generation}_default"
                row[key] = float(judge.predict(shown).mean())
        print(row, flush=True)
        rows.append(row)
    defaults = {name: domain.guidance for name, domain in GENERATIONS.items()}
    values = {"count": args.count, "steps": args.steps, "test": len(test), "defaults": defaults}
    command = f"python -m benchmarks.faces_wishes --data celeba.zip --count {args.count}"
    store_result(NAME, command, values | {"rows": rows})


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
