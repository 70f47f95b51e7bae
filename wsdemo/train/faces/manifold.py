"""Trains the second-generation base of the faces and its manifold, stage by stage.

    python -m wsdemo.train.faces.manifold --data celeba.zip --minutes 360
    python -m wsdemo.train.faces.manifold --data celeba.zip --stage autoencoder --minutes 180
    python -m wsdemo.train.faces.manifold --data celeba.zip --stage adversarial --minutes 60
    python -m wsdemo.train.faces.manifold --data celeba.zip --stage drawn --latents Z --unchanged

Without ``--stage`` all three share the minutes. A stage is resumed from its state in RUNS. Without
one, ``adversarial`` and ``drawn`` start from OUT/faces-manifold.safetensors, which every stage
writes at its end; ``--from-checkpoint`` names another, and lets ``autoencoder`` go on from one too.
Z is what ``manifold_diffusion --draw`` keeps. What the stages are: train/manifold/autoencoder.py.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsdemo.analysis.features import face_features
from wsdemo.analysis.generation import frechet_distance
from wsdemo.checkpoints import load_checkpoint
from wsdemo.fields.adapters import AdapterConfig
from wsdemo.fields.base import FieldConfig, pixel_grid
from wsdemo.fields.fit import psnr_from_mse
from wsdemo.train.faces.data import Faces, Mirrored, seen_and_unseen
from wsdemo.train.loop import Run, log, recipe_parser, start
from wsdemo.train.manifold.adversarial import (
    ADVERSARIAL,
    DRAWN,
    Adversary,
    Change,
    Draw,
    Gaussian,
    store,
    train_adversarial,
)
from wsdemo.train.manifold.autoencoder import (
    KL_WEIGHT,
    Autoencoder,
    as_text,
    shape_of,
    train_autoencoder,
)
from wsdemo.train.manifold.discriminator import Discriminator
from wsdemo.train.manifold.files import load_stage, save_stage

STAGES = {"autoencoder": 0.5, "adversarial": 0.15, "drawn": 0.35}
"""Each stage's share of the minutes, where all are run."""

CONFIG = FieldConfig(frequencies=96, fourier_scale=10.0, fourier_scale_low=4.0, latent_dim=256)
"""Half of the frequencies reach what 128 and 256 pixels resolve, for fits of that size later."""
TOY = FieldConfig(width=32, blocks=1, frequencies=16, latent_dim=8)
SHIFT = 2
"""Pixels that augmentation moves a face, at most, along each axis."""
OPPONENT_SHIFT = 6
"""The same before the discriminator, which sees data and decoded fields so changed alike."""


def shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Pictures (n, 3, H, W) moved by whole pixels (n, 2), mirrored at the edges."""
    reach = int(offsets.abs().max())
    height, width = images.shape[-2:]
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    places = (reach - offsets).tolist()
    return torch.stack(
        [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, places, strict=True)]
    )


class FaceViews(Mirrored):
    """Faces, mirrored, shifted and tinted at random.

    Args:
        faces: Of one split.
        is_changed: Whether ``change`` changes anything.
    """

    def __init__(self, faces: Faces, is_changed: bool = True) -> None:
        super().__init__(faces)
        self.is_changed = is_changed
        size = self.images.shape[-1]
        self.grid = pixel_grid(size, size)

    def augmented(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures (n, 3, S, S), half of them shifted by whole pixels, of other light and tint."""
        images = self.inputs(index)
        n = len(images)
        changed = torch.rand(n, generator=generator) < 0.5
        offsets = torch.randint(-SHIFT, SHIFT + 1, (n, 2), generator=generator)
        images = shifted(images, torch.where(changed[:, None], offsets, 0))
        gain = 1 + 0.1 * changed[:, None] * torch.randn(n, 1, generator=generator)
        tint = 0.05 * changed[:, None] * torch.randn(n, 3, generator=generator)
        return (images * gain[..., None, None] + tint[..., None, None]).clamp(-1, 1)

    def error(self, values: Tensor, target: Tensor) -> Tensor:
        """Squared error of (n, P, 3), summed over channels."""
        return (values - target).square().sum(-1).mean()

    def batch(
        self, index: Tensor, points: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points lie anywhere, also between pixels: frequencies beyond 64 pixels must be quiet."""
        images = self.augmented(index, generator)
        places = torch.rand(len(index), points, 2, generator=generator) * 2 - 1
        values = F.grid_sample(
            images, places[:, None], mode="bicubic", padding_mode="border", align_corners=False
        )
        return images, places, values[:, :, 0].transpose(1, 2)

    def whole(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        images = self.inputs(index)
        return images, self.grid, images

    def change(self, count: int, generator: torch.Generator) -> Change:
        """Mirror, shift, brightness, saturation, contrast: what D may not judge by."""
        if not self.is_changed:
            return lambda images: images
        flip = torch.rand(count, generator=generator) < 0.5
        offsets = torch.randint(
            -OPPONENT_SHIFT, OPPONENT_SHIFT + 1, (count, 2), generator=generator
        )
        light, colour, contrast = torch.rand(3, count, 1, 1, 1, generator=generator).unbind()

        def changed(images: Tensor) -> Tensor:
            def like(amount: Tensor) -> Tensor:
                return amount.to(images.device)

            images = torch.where(like(flip)[:, None, None, None], images.flip(-1), images)
            images = shifted(images, offsets) + like(light - 0.5)
            grey = images.mean(1, keepdim=True)
            images = grey + (images - grey) * like(0.5 + colour)
            mean = images.mean((1, 2, 3), keepdim=True)
            return mean + (images - mean) * like(0.75 + 0.5 * contrast)

        return changed


class Held:
    """Faces that nothing is trained on, and the figures that choose the best average.

    Args:
        faces: Of the validation split.
        train: What the Gaussian of z is estimated from.
        count: Faces, and fields drawn.
        draw: Draws coordinates; without, the Gaussian of all z of ``train``.
    """

    def __init__(
        self, faces: Faces, train: FaceViews, count: int, draw: Draw | None = None
    ) -> None:
        self.views, self.train, self.draw = FaceViews(faces), train, draw
        self.count = min(count, len(faces))
        index = torch.arange(self.count)
        self.images = self.views.inputs(index)
        self.reference = features_of(self.images)

    def distance(self, images: Tensor) -> float:
        """Fréchet distance of pictures in [-1, 1] to the held-out faces, in FaceAttr-64."""
        return frechet_distance(features_of(images), self.reference)

    @torch.no_grad()
    def by_error(self, model: Autoencoder) -> tuple[float, dict[str, float]]:
        """The autoencoder's score: PSNR of encoding and decoding the first 128."""
        psnr, _ = self.reconstruction(model, 128)
        return -psnr, {"psnr": psnr, "n": min(128, self.count)}

    @torch.no_grad()
    def by_reconstruction(self, model: Autoencoder) -> tuple[float, dict[str, float]]:
        """The adversarial stage's score: the distance of reconstructions."""
        figures = self.figures(model)
        return figures["fd_reconstructed"], figures

    @torch.no_grad()
    def by_draws(self, model: Autoencoder) -> tuple[float, dict[str, float]]:
        """The last stage's score: the distance of drawn fields."""
        figures = self.figures(model)
        return figures["fd_drawn"], figures

    def figures(self, model: Autoencoder) -> dict[str, float]:
        """PSNR, and the Fréchet distances of reconstructed and of drawn faces."""
        psnr, shown = self.reconstruction(model, self.count)
        index = torch.arange(0, len(self.train), max(1, len(self.train) // 4000))
        draw = self.draw or Gaussian(model.coordinates(self.train, index))
        drawn = decoded(model, draw(self.count, torch.Generator().manual_seed(1)), self.views)
        return {
            "psnr": psnr, "fd_reconstructed": self.distance(shown),
            "fd_drawn": self.distance(drawn), "n": self.count,
        }  # fmt: skip

    def reconstruction(self, model: Autoencoder, count: int) -> tuple[float, Tensor]:
        """Mean PSNR in dB of the first held-out faces, and their decoded pictures."""
        faces = self.images[:count]
        shown = decoded(model, model.coordinates(self.views, torch.arange(len(faces))), self.views)
        mse = (shown.cpu() - faces).square().mean((1, 2, 3))
        return float(psnr_from_mse(mse).mean()), shown


def features_of(images: Tensor) -> Tensor:
    """FaceAttr-64 features of pictures in [-1, 1], rounded as a file would have them."""
    return face_features((images.cpu() * 127.5 + 127.5).round().to(torch.uint8))


@torch.no_grad()
def decoded(model: Autoencoder, z: Tensor, views: FaceViews) -> Tensor:
    """Pictures (n, 3, 64, 64) in [-1, 1] of coordinates (n, K)."""
    manifold = model.manifold
    features = manifold.features(views.grid.to(z.device))
    parts = [shape_of(manifold(part, features), views.images) for part in z.split(4)]
    return torch.cat(parts).clamp(-1, 1)


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = recipe_parser(str(__doc__), minutes=180)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--stage", default="all", choices=["all", *STAGES])
    parser.add_argument("--from-checkpoint", type=Path, help="start there, not at the last stage")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--instances", type=int, help="faces a step; default: 48, then 6")
    parser.add_argument("--points", type=int, default=320, help="random points a face")
    parser.add_argument("--kl", type=float, default=KL_WEIGHT)
    parser.add_argument("--latents", type=Path, help="drawn z for *drawn*, not the Gaussian's")
    parser.add_argument("--unchanged", action="store_true", help="D sees pictures as they are")
    parser.add_argument("--last", action="store_true", help="adversarial: not the best by FD")
    parser.add_argument("--validate-minutes", type=float, default=6.0)
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler")
    parser.add_argument("--bfloat16", action="store_true", help="adversarial stages, where quicker")
    return parser.parse_args(arguments)


def beginning(
    args: argparse.Namespace, opponent: Discriminator
) -> tuple[Autoencoder, list[dict[str, Any]]]:
    """The model that a stage starts with, and the stages before."""
    source = args.from_checkpoint
    if source is None and args.stage != "autoencoder":
        source = args.out / "faces-manifold.safetensors"
    if source is not None:
        model, meta = load_stage(source, opponent)
        return model, meta["stages"]
    adapter = AdapterConfig("mlora-asym", args.rank, args.seed, "carried")
    generator = torch.Generator().manual_seed(args.seed)
    return Autoencoder(TOY if args.toy else CONFIG, adapter, generator), []


def gaussian(model: Autoencoder, train: FaceViews) -> Gaussian:
    """That of all coordinates of the training faces."""
    return Gaussian(model.coordinates(train, torch.arange(len(train))))


def kept_draws(path: Path | None) -> tuple[Draw | None, Draw | None]:
    """Coordinates to train on and, of others, to judge by; None stands for the Gaussian of all."""
    if path is None:
        return None, None
    z = load_checkpoint(path)[0]["z"]
    apart = -(-len(z) // 10)
    return store(z[apart:]), store(z[:apart])


def main(arguments: list[str] | None = None) -> None:
    args = arguments_of(arguments)
    device = start(args)
    faces, held_out = seen_and_unseen(args.data, args.toy)
    train = FaceViews(faces, not args.unchanged)
    draw, judged = kept_draws(args.latents)
    held = Held(held_out, train, 500, judged)
    if args.stage != "all":
        run_stage(args, train, held, device, draw)
        return
    for stage, share in STAGES.items():
        options = vars(args) | {"stage": stage, "minutes": share * args.minutes}
        run_stage(argparse.Namespace(**options), train, held, device, draw)
        args.from_checkpoint = None


def run_stage(
    args: argparse.Namespace, train: FaceViews, held: Held, device: torch.device,
    draw: Draw | None,
) -> None:  # fmt: skip
    """Trains one stage for its budget and writes the checkpoint."""
    args.instances = args.instances or (48 if args.stage == "autoencoder" else 6)
    opponent = Discriminator(3, 2, train.images.shape[-1]).to(device)
    model, before = beginning(args, opponent)
    model.to(device)
    run = Run(args.runs / f"faces-manifold-{args.stage}.pt", args.minutes, args.steps)
    log(f"faces-manifold, {args.stage}: {args.minutes:.0f} minutes on {device}")
    if args.stage == "autoencoder":
        best = train_autoencoder(model, train, held.by_error, run, args)
    else:
        is_drawn = args.stage == "drawn"
        adversary = Adversary(
            model, opponent, train, DRAWN if is_drawn else ADVERSARIAL, args.kl,
            (draw or gaussian(model, train)) if is_drawn else None,
        )  # fmt: skip
        validate = held.by_draws if is_drawn else held.by_reconstruction
        best = train_adversarial(adversary, validate, run, args)
    figures = {"steps": run.step, "minutes": run.seconds / 60, **best.figures}
    log(f"faces-manifold, {args.stage}: {as_text(figures)}")
    stages = [*before, {"stage": args.stage, **figures}]
    meta = {"name": "faces-manifold", "domain": "image", "size": 64, "toy": args.toy}
    meta |= {"stages": stages, "measured": figures}
    known = None if args.stage == "autoencoder" else opponent.cpu()
    save_stage(args.out / "faces-manifold.safetensors", best.model.cpu(), known, meta)


if __name__ == "__main__":
    main()
