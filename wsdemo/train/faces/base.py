"""Trains the base field of the faces: ``python -m wsdemo.train.faces.base --data celeba.zip``.

A variational autodecoder (train/autodecoder.py). A phase's detail is the pictures' size in
pixels: many faces at half the size first, fewer at the whole later.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from wsdemo.domains.faces import FACES
from wsdemo.fields.base import FieldConfig, pixel_grid
from wsdemo.fields.signal import image_to_signal
from wsdemo.train.autodecoder import Phase, Trainer, train_base
from wsdemo.train.faces.data import Mirrored, seen_and_unseen, to_signal
from wsdemo.train.loop import recipe_parser, start


def phases_at(size: int, is_toy: bool = False) -> tuple[Phase, ...]:
    """The schedule for pictures of ``size`` pixels a side."""
    phases = (
        Phase(until=0.25, detail=size // 2, instances=128, points=256, free_latents=False),
        Phase(until=0.75, detail=size, instances=96, points=384, free_latents=False),
        Phase(until=1.00, detail=size, instances=64, points=576, free_latents=True),
    )
    return tuple(dataclasses.replace(p, instances=8, points=64) if is_toy else p for p in phases)


class FaceData(Mirrored):
    """Faces and their mirror images, pixel by pixel."""

    absolute = False

    def batch(
        self, index: Tensor, inputs: Tensor, phase: Phase, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random pixels of the pictures, at the size of the phase."""
        size = int(phase.detail)
        images = inputs
        if size < images.shape[-1]:
            images = F.avg_pool2d(images, images.shape[-1] // size)
        signal = images.flatten(2).transpose(1, 2)
        pixels = torch.randint(size**2, (len(index), phase.points), generator=generator)
        return pixel_grid(size, size)[pixels], signal.gather(1, pixels[..., None].expand(-1, -1, 3))


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=20)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--size", type=int, default=64, help="pixels a side, a multiple of 16")
    args = parser.parse_args(arguments)
    device = start(args)
    faces, held_out = seen_and_unseen(args.data, args.toy, args.size)
    config = FieldConfig(width=32, frequencies=16, blocks=1) if args.toy else FieldConfig()
    images = held_out.images[:128]

    def validate(trainer: Trainer) -> float:
        return trainer.psnr(
            image_to_signal(images), pixel_grid(*images.shape[-2:]), to_signal(images)
        )

    phases = phases_at(args.size, args.toy)
    train_base(FACES, FaceData(faces), config, phases, validate, args.size, args, device)


if __name__ == "__main__":
    main()
