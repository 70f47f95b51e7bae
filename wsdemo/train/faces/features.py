"""Trains FaceAttr-64, the feature space of the face metrics:

python -m wsdemo.train.faces.features --data celeba.zip --minutes 8
"""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from wsdemo.analysis.features import FaceFeatures
from wsdemo.analysis.generation import area_under_roc
from wsdemo.checkpoints import save_checkpoint
from wsdemo.train.faces.data import seen_and_unseen
from wsdemo.train.loop import Run, Training, cosine, log, recipe_parser, start


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=8)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    device = start(args)
    faces, held_out = seen_and_unseen(args.data, args.toy, unseen=64)
    network = FaceFeatures(len(faces.attribute_names)).to(device)
    run = Run(args.runs / "faces-features.pt", args.minutes, args.steps)
    training = Training(network, run, 2e-3, weight_decay=0.02, rate=cosine)
    log(f"FaceAttr-64: {len(faces)} faces, {args.minutes} minutes on {device}")
    generator = torch.Generator().manual_seed(args.seed + run.step)
    batch = 16 if args.toy else 64

    def loss() -> Tensor:
        index = torch.randint(len(faces), (batch,), generator=generator)
        images = faces.images[index]
        if torch.rand((), generator=generator) < 0.5:
            images = images.flip(-1)
        shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
        images = images.roll(shift, dims=(2, 3)).to(device).float() / 127.5 - 1
        target = faces.attributes[index].float().to(device)
        return F.binary_cross_entropy_with_logits(network(images), target)

    done = training.to_end(loss)
    model = training.ema.model.cpu().eval()
    with torch.no_grad():
        logits = torch.cat([model(b.float() / 127.5 - 1) for b in held_out.images.split(128)])
    aucs = {
        name: area_under_roc(logits[:, i], held_out.attributes[:, i])
        for i, name in enumerate(held_out.attribute_names)
    }
    known = [v for v in aucs.values() if not math.isnan(v)]
    figures = {
        "steps": done["steps"],
        "minutes": done["minutes"],
        "validation_auc_mean": sum(known) / max(1, len(known)),
        "validation_auc": {k: round(v, 4) for k, v in aucs.items()},
    }
    log(f"validation AUC {figures['validation_auc_mean']:.3f}, mean over attributes")
    save_checkpoint(
        args.out / "faces-features.safetensors",
        {k: v.half() for k, v in model.state_dict().items()},
        {"name": "faces-features", "kind": "features", "attributes": list(faces.attribute_names),
         "toy": args.toy, "measured": figures},
    )  # fmt: skip


if __name__ == "__main__":
    main()
