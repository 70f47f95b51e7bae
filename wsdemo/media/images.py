"""Squares of pictures in, as tensors; pictures out as PNG. Reading files: picture_files.py."""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.media.picture_files import open_picture

__all__ = ["Crop", "contact_sheet", "open_picture", "png_bytes", "to_picture", "to_square"]


@dataclass(frozen=True)
class Crop:
    """A square in a picture.

    Attributes:
        x: Centre, 0 (left) to 1 (right) of the room that the square leaves.
        y: Centre, 0 (top) to 1 (bottom).
        zoom: 1 is the largest square; 2 has half its side.

    Raises:
        WsdemoError: A centre is not in 0 to 1, or the zoom below 1.
    """

    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1 and 1 <= self.zoom < math.inf):
            raise WsdemoError(
                "Crop out of range",
                f"Found a centre of {self.x:g}, {self.y:g} and a zoom of {self.zoom:g}; expected 0"
                " to 1 for the centre and a zoom of at least 1.",
                "0.5, 0.5 and 1 is the largest square in the middle.",
            )

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, upper, right, lower) in pixels."""
        side = min(width, height) / self.zoom
        left, upper = (width - side) * self.x, (height - side) * self.y
        return left, upper, left + side, upper + side


def to_square(picture: Image.Image, crop: Crop, size: int) -> Tensor:
    """Cuts a square and resizes it (Lanczos) → (3, size, size) uint8."""
    box = crop.box(*picture.size)
    if box[2] - box[0] < 1:
        raise WsdemoError("Crop too small", "The crop is below one pixel.", "Zoom out.")
    square = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.asarray(square).transpose(2, 0, 1).copy())


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) uint8 → RGB picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def png_bytes(image: Tensor) -> bytes:
    """(3, H, W) uint8 → the bytes of a PNG; equal images give equal bytes."""
    buffer = io.BytesIO()
    to_picture(image).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def contact_sheet(images: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Tiles (n, 3, H, W) uint8 on white → (3, H', W') uint8, row by row."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.full(
        (3, rows * (h + gap) + gap, columns * (w + gap) + gap), 255, dtype=torch.uint8
    )
    for i, image in enumerate(images):
        top, left = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
        sheet[:, top : top + h, left : left + w] = image
    return sheet
