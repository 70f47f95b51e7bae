"""The feature space of the shape metrics: a small PointNet trained to name ten categories.

Called PointNet-10 wherever a figure uses it. It is ours, and its distances compare with
nothing outside this project.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.media.meshes import Floats

FEATURES = 32
"""Few, as sets of some hundred shapes must give a covariance."""
POINTS = 1024


class PointFeatures(nn.Module):
    """PointNet (Qi et al., 2017) without its transforms: (n, P, 3) clouds → category logits."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 256)
        )
        self.shape = nn.Sequential(
            nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, FEATURES)
        )
        self.head = nn.Linear(FEATURES, categories)

    def features(self, clouds: Tensor) -> Tensor:
        """(n, P, 3) clouds of zero mean and unit standard deviation → (n, 32)."""
        return self.shape(self.points(clouds).amax(1))

    def forward(self, clouds: Tensor) -> Tensor:
        return self.head(F.relu(self.features(clouds)))


@cache
def shipped_features() -> tuple[PointFeatures, tuple[str, ...]]:
    """The shipped network and the names of its categories."""
    tensors, meta = load_checkpoint(DIRECTORY / "shapes-features.safetensors")
    network = PointFeatures(len(meta["categories"]))
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    return network.eval().requires_grad_(False), tuple(meta["categories"])


@torch.no_grad()
def point_features(clouds: Sequence[Floats], network: PointFeatures | None = None) -> Tensor:
    """n standard clouds (analysis/shapes.py) → (n, 32) features; the first POINTS count."""
    model = network or shipped_features()[0]
    stacked = torch.from_numpy(np.stack([c[:POINTS] for c in clouds])).float()
    return torch.cat([model.features(b) for b in stacked.split(32)])
