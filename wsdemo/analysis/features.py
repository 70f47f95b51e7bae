"""The feature space of the face metrics: a small network trained on CelebA's attributes.

Called FaceAttr-64 wherever a figure uses it. It is ours, and its distances compare
with nothing outside this project.
"""

import itertools
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.checkpoints import DIRECTORY, load_checkpoint

FEATURES = 192


class FaceFeatures(nn.Module):
    """A residual convolutional network, (n, 3, 64, 64) in [-1, 1] → attribute logits."""

    def __init__(self, attributes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        widths = (32, 64, 128, FEATURES)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths))
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, w, 3, 1, 1),
                nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, w, 3, 1, 1),
            )
            for w in widths
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, attributes)

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, 64, 64) float in [-1, 1] → (n, 192)."""
        h = self.stem(images)
        h = h + self.mix[0](h)
        for down, mix in zip(self.down, list(self.mix)[1:], strict=True):
            h = down(h)
            h = h + mix(h)
        return F.silu(h).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


@cache
def shipped_features() -> tuple[FaceFeatures, tuple[str, ...]]:
    """The shipped network and the names of its attributes."""
    tensors, meta = load_checkpoint(DIRECTORY / "faces-features.safetensors")
    network = FaceFeatures(len(meta["attributes"]))
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    return network.eval().requires_grad_(False), tuple(meta["attributes"])


@torch.no_grad()
def face_features(images: Tensor, network: FaceFeatures | None = None) -> Tensor:
    """(n, 3, 64, 64) uint8 → (n, 192) float, features of the shipped network by default."""
    model = network or shipped_features()[0]
    batches: Iterable[Tensor] = images.split(128)
    return torch.cat([model.features(b.float() / 127.5 - 1) for b in batches])
