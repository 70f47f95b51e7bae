"""What fields answer in, [-1, 1], and what that means: colours, or truncated distances."""

from torch import Tensor

TRUNCATION = 0.05
"""Signed distances are cut off at ± this, in units of the normalised mesh, and divided by it."""
ENCODER_TRUNCATION = 0.25
"""The encoder's coarse grid has a node every 0.065, so it sees distances further out."""


def image_to_signal(images: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 → (n, 3, H, W) float in [-1, 1]."""
    return images.float() / 127.5 - 1


def sdf_to_signal(distances: Tensor) -> Tensor:
    """Signed distances, any shape → truncated, in [-1, 1]; negative inside."""
    return (distances.float() / TRUNCATION).clamp(-1, 1)


def grid_to_inputs(grids: Tensor) -> Tensor:
    """(n, 32, 32, 32) signed distances → (n, 1, 32, 32, 32), what the encoder reads."""
    return (grids.float() / ENCODER_TRUNCATION).clamp(-1, 1)[:, None]
