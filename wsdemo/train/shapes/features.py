"""Trains PointNet-10, the feature space of the shape metrics:

python -m wsdemo.train.shapes.features --data MESHES --minutes 6
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wsdemo.analysis.point_features import POINTS, PointFeatures
from wsdemo.analysis.shapes import standard_cloud
from wsdemo.checkpoints import save_checkpoint
from wsdemo.media.meshes import Mesh
from wsdemo.train.loop import Run, Training, cosine, log, recipe_parser, start
from wsdemo.train.shapes.data import CATEGORIES, load_meshes

DRAWN = 8192
"""Surface points kept of a mesh; a step draws POINTS of them."""


def clouds(data: Path | None, split: str, is_toy: bool) -> tuple[Tensor, Tensor]:
    """(n, DRAWN, 3) standard clouds of a split's meshes, and (n,) their categories."""
    if is_toy:
        rng = np.random.default_rng(0)
        boxes = rng.normal(size=(16, DRAWN, 3)) * np.array([1, 1, 0.2])
        boxes[::2, :, 0] *= 3
        boxes = (boxes - boxes.mean(1, keepdims=True)) / boxes.std((1, 2), keepdims=True)
        return torch.from_numpy(boxes).float(), torch.arange(16) % 2
    meshes = load_meshes(data, CATEGORIES, split)
    drawn = np.stack([standard_cloud(Mesh(m.mesh.vertices, m.mesh.faces), DRAWN) for m in meshes])
    return torch.from_numpy(drawn).float(), torch.tensor(
        [CATEGORIES.index(m.category) for m in meshes]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=6)
    parser.add_argument("--data", type=Path, help="folder of meshes")
    args = parser.parse_args(arguments)
    device = start(args)
    points, labels = (t.to(device) for t in clouds(args.data, "train", args.toy))
    unseen, truth = clouds(args.data, "validation", args.toy)
    network = PointFeatures(len(CATEGORIES)).to(device)
    run = Run(args.runs / "shapes-features.pt", args.minutes, args.steps)
    training = Training(network, run, 2e-3, weight_decay=0.02, rate=cosine)
    log(f"PointNet-10: {len(points)} meshes, {args.minutes} minutes on {device}")
    g = torch.Generator().manual_seed(args.seed + run.step)
    batch = 8 if args.toy else 32

    def loss() -> Tensor:
        index = torch.randint(len(points), (batch,), generator=g)
        chosen = torch.randint(DRAWN, (batch, POINTS), generator=g)
        x = points[index.to(device)[:, None], chosen.to(device)]
        # As samples differ from real shapes: stretched, and a little rough.
        stretch = 1 + 0.2 * (2 * torch.rand(batch, 1, 3, generator=g) - 1)
        x = (x + 0.02 * torch.randn(x.shape, generator=g).to(device)) * stretch.to(device)
        x = x - x.mean(1, keepdim=True)
        x = x / x.std((1, 2), keepdim=True)
        return F.cross_entropy(network(x), labels[index.to(device)])

    done = training.to_end(loss)
    model = training.ema.model.cpu().eval()
    with torch.no_grad():
        named = model(unseen[:, :POINTS]).argmax(1)
    accuracy = float((named == truth).float().mean())
    figures = {"steps": done["steps"], "minutes": done["minutes"],
               "validation_accuracy": accuracy, "validation_meshes": len(truth)}  # fmt: skip
    log(f"names {accuracy:.1%} of {len(truth)} validation meshes rightly")
    meta = {"name": "shapes-features", "kind": "features", "categories": list(CATEGORIES),
            "toy": args.toy, "measured": figures}  # fmt: skip
    tensors = {k: v.half() for k, v in model.state_dict().items()}
    save_checkpoint(args.out / "shapes-features.safetensors", tensors, meta)


if __name__ == "__main__":
    main()
