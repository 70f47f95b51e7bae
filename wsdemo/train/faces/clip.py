"""Trains CelebA-CLIP, which scores generators of faces and reads their prompts:

    python -m wsdemo.train.faces.clip --data celeba.zip --minutes 10

The image tower starts at FaceAttr-64 (faces_features.py). While it is frozen the text tower
catches up, a quarter of the time; then both are trained.
"""

import random
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.analysis.generation import area_under_roc
from wsdemo.checkpoints import load_checkpoint, save_checkpoint
from wsdemo.generate.captions import caption, tokenise
from wsdemo.generate.clip import FaceClip, clip_scores
from wsdemo.train.faces.data import Faces, seen_and_unseen
from wsdemo.train.loop import Run, Training, cosine, log, recipe_parser, start

FROZEN_SHARE = 0.25
"""Share of the time in which the image tower stays as it is."""
ZERO_SHOT = {
    "Male": ("a photo of a man", "a photo of a woman"),
    "Smiling": ("a photo of a smiling person", "a photo of a serious person"),
    "Young": ("a photo of a young person", "a photo of an old person"),
    "Eyeglasses": ("a photo of a person wearing glasses", "a photo of a person"),
    "Blond_Hair": ("a photo of a person with blond hair", "a photo of a person with black hair"),
    "Wearing_Lipstick": ("a photo of a woman wearing lipstick", "a photo of a woman"),
}


def captions_of(faces: Faces, index: Tensor, rng: random.Random) -> list[str]:
    """A new caption for each of some faces."""
    names = faces.attribute_names
    rows = faces.attributes[index].bool().tolist()
    return [caption(dict(zip(names, row, strict=True)), rng) for row in rows]


@torch.no_grad()
def measure(model: FaceClip, faces: Faces) -> dict[str, object]:
    """On unseen faces: retrieval among 100, and AUC of two opposite prompts."""
    rng = random.Random(0)
    n = min(100, len(faces))
    index = torch.arange(n)
    images = faces.images[:n]
    texts = captions_of(faces, index, rng)
    scores = model.embed_images(images.float() / 127.5 - 1) @ model.embed_text(tokenise(texts)).T
    rank = (scores > scores.diag()[:, None]).sum(1)
    aucs = {}
    for name, (yes, no) in ZERO_SHOT.items():
        if name in faces.attribute_names:
            label = faces.attributes[:, faces.attribute_names.index(name)]
            margin = clip_scores(faces.images, [yes] * len(faces), model)
            margin = margin - clip_scores(faces.images, [no] * len(faces), model)
            aucs[name] = round(area_under_roc(margin, label), 4)
    return {"top_5_of_100": float((rank < 5).float().mean()), "zero_shot_auc": aucs}


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=10)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--batch", type=int, default=96)
    args = parser.parse_args(arguments)
    device = start(args)
    faces, held_out = seen_and_unseen(args.data, args.toy, unseen=64)
    model = FaceClip(len(faces.attribute_names))
    if not args.toy:
        trunk, _ = load_checkpoint(args.out / "faces-features.safetensors")
        model.trunk.load_state_dict({k: v.float() for k, v in trunk.items()})
    model.to(device)
    towers = [p for n, p in model.named_parameters() if not n.startswith("trunk")]
    run = Run(args.runs / "faces-clip.pt", args.minutes, args.steps)
    peaks = [(towers, 2e-3), (list(model.trunk.parameters()), 4e-4)]
    training = Training(model, run, peaks, weight_decay=0.05, rate=cosine)
    log(f"CelebA-CLIP: {len(faces)} faces, {args.minutes} minutes on {device}")
    with torch.no_grad():
        pixels = faces.images.split(128)
        known = torch.cat([model.trunk.features(b.to(device).float() / 127.5 - 1) for b in pixels])
    rng = random.Random(args.seed + run.step)
    generator = torch.Generator().manual_seed(args.seed + run.step)

    def loss() -> Tensor:
        index = torch.randint(len(faces), (args.batch,), generator=generator)
        tokens = tokenise(captions_of(faces, index, rng)).to(device)
        if run.progress < FROZEN_SHARE:
            images = torch.nn.functional.normalize(model.image_out(known[index.to(device)]), dim=1)
        else:
            some = faces.images[index]
            if torch.rand((), generator=generator) < 0.5:
                some = some.flip(-1)
            shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
            some = some.roll(shift, dims=(2, 3)).to(device).float() / 127.5 - 1
            images = model.embed_images(some)
        return model.loss(images, tokens)

    done = training.to_end(loss, every=100)
    final = training.ema.model.cpu().eval()
    figures = {"steps": done["steps"], "minutes": done["minutes"], **measure(final, held_out)}
    log(str(figures))
    save_checkpoint(
        args.out / "faces-clip.safetensors",
        {k: v.half() for k, v in final.state_dict().items()},
        {"name": "faces-clip", "kind": "clip", "toy": args.toy, "measured": figures},
    )


if __name__ == "__main__":
    main()
