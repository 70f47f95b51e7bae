"""Pictures in: any file a visitor drops → a square RGB tensor. Pictures out: PNG."""

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_PICTURE_BYTES, MAX_PICTURE_PIXELS, MIN_PICTURE_SIDE

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


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


def open_picture(source: Path | bytes) -> tuple[Image.Image, list[str]]:
    """Opens a picture within limits, upright, in 8-bit RGB.

    Args:
        source: A file or its content.

    Returns:
        The picture, and what was done to it that a person should know.

    Raises:
        WsdemoError: Not a picture, cut off, too large or too small.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_PICTURE_BYTES:
        raise WsdemoError(
            "Picture too large",
            f"The file has {size / 2**20:.0f} MB; {MAX_PICTURE_BYTES / 2**20:.0f} are allowed.",
            "Save a smaller copy.",
        )
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        # Our own limit on pixels is stricter than Pillow's warning, and speaks our language.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(stream, formats=FORMATS)
        width, height = picture.size
        _check_size(width, height)
        return _upright_rgb(picture)
    except UnidentifiedImageError as error:
        raise WsdemoError(
            "Not a picture",
            "The file is none of JPEG, PNG, WEBP, GIF, BMP, TIFF.",
            "Give a photo as JPEG or PNG.",
        ) from error
    except Image.DecompressionBombError as error:
        raise WsdemoError(
            "Picture too large",
            f"It has several times the {MAX_PICTURE_PIXELS / 1e6:.0f} million pixels that are"
            " allowed.",
            "Save a smaller copy; the field shows 64x64 of it anyway.",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        raise WsdemoError(
            "Picture unreadable",
            f"The file is damaged or cut off ({type(error).__name__}).",
            "Open it in a viewer and save it again.",
        ) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PICTURE_PIXELS:
        raise WsdemoError(
            "Picture too large",
            f"It has {width}x{height} pixels; {MAX_PICTURE_PIXELS / 1e6:.0f} million are allowed.",
            "Save a smaller copy; the field shows 64x64 of it anyway.",
        )
    if min(width, height) < MIN_PICTURE_SIDE:
        raise WsdemoError(
            "Picture too small",
            f"It has {width}x{height} pixels; at least {MIN_PICTURE_SIDE} a side are needed.",
            "Give a larger picture.",
        )


ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright, 2 to 8 are turned, mirrored, or both."""


def _upright_rgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    notes = []
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        notes.append("The first frame of the animation is used.")
        picture.seek(0)
    picture.draft("RGB", (512, 512))  # lets JPEG decode large photos at a fraction of the size
    upright = ImageOps.exif_transpose(picture)
    if picture.getexif().get(ORIENTATION) in range(2, 9):
        notes.append("Turned upright as its EXIF data say.")
    if upright.mode.startswith("I") or upright.mode == "F":
        upright, note = _eight_bits(upright)
        notes.append(note)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.new("RGBA", layer.size, "white")
        upright.alpha_composite(layer)
        notes.append("Transparent parts are shown on white.")
    return upright.convert("RGB"), notes


def _eight_bits(deep: Image.Image) -> tuple[Image.Image, str]:
    """A picture of 16 or 32 bits, whole or floating-point, in 8 bits, and what was done.

    White is the least of 1 (floating-point only), 255 and 65,535 that no value exceeds.
    """
    values = np.asarray(deep, dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        raise WsdemoError(
            "Picture unreadable", "None of its values is a finite number.", "Save it in 8 bits."
        )
    values = np.where(known, values, 0)
    tops = (1, 255, 65535) if deep.mode == "F" else (255, 65535)
    top = next((t for t in tops if values.max() <= t), values.max())
    note = f"Reduced to 8 bits a channel: 0 is black and {top:,.0f} white."
    if not known.all():
        note += " Values that are no finite numbers are black."
    return Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8)), note


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
