"""The straight line between two instances, and between two faces by other representations.

For the latter both pictures are fitted anew in every representation, from its shared start, as in
the comparison of their connectivity (benchmarks/connectivity.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.domains import face_fitting, pipelines
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.fit import FitConfig, fit_to_end
from wsdemo.fields.signal import image_to_signal

WALKED = {"mlp": 39, "lora": 8, "mlora": 8, "mlora-asym": 8}
"""Representation → rank (MLP: width) of about 11,000 weights."""


@dataclass(frozen=True)
class Walk:
    """What lies between two faces.

    Attributes:
        representation: Whose weights are mixed.
        pictures: (count, 3, 64, 64) uint8, from the first face's fit to the second's.
        psnr: count values in dB, of each picture to the nearer of the two fits; an end is 60.
    """

    representation: str
    pictures: Tensor
    psnr: list[float]


def walk_by_representation(images: Tensor, count: int) -> Iterator[Walk]:
    """Fits two faces in each representation of WALKED and walks between their weights.

    ε(s) = (1 − s) ε₁ + s ε₂ for ``count`` shares s from 0 to 1.

    Args:
        images: (2, 3, 64, 64) uint8.
        count: Pictures along the way, both ends included.
    """
    target = image_to_signal(images).flatten(2).transpose(1, 2)
    shares = torch.linspace(0, 1, count)[:, None]
    grid = pixel_grid(pipelines.SIZE, pipelines.SIZE)
    for name, rank in WALKED.items():
        adapter = pipelines.face_adapter(name, rank, 0)
        rate = face_fitting.FIT_RATES[adapter.config.kind]
        config = FitConfig(steps=100, points=768, learning_rate=rate)
        ε = fit_to_end(adapter, grid, target, config, torch.Generator().manual_seed(0))
        shown = pipelines.render_faces(torch.lerp(ε[:1], ε[1:], shares), adapter)
        ends = [pipelines.mean_psnr(shown, shown[i].expand_as(shown)) for i in (0, -1)]
        nearer = torch.maximum(*[end.clamp(max=60) for end in ends])
        yield Walk(name, shown, nearer.tolist())
