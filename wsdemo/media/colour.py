"""Colours of a picture as its ICC profile means them → sRGB."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
"""A profile's colour space, and Pillow's mode of such a picture."""
SAME = 2
"""Levels of 255 by which a profile may differ from sRGB and still be taken as it."""


def to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[str]]:
    """Converts a picture to RGB, through its profile if it has one.

    Args:
        picture: Of any 8-bit mode, without transparency.
        profile: The ICC profile of its file.

    Returns:
        (RGB picture, what a person should know).
    """
    if picture.mode == "LAB" and not profile:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if not profile:
        approximate = ["Its CMYK colours have no profile: they are approximate."]
        return picture.convert("RGB"), approximate if picture.mode == "CMYK" else []
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(source.profile.xcolor_space)
        if picture.mode not in MODES.values():
            picture = picture.convert("L" if picture.mode == "1" else "RGB")
        if MODES.get(space) != picture.mode:
            return picture.convert("RGB"), [_ignored(f"is for {space.strip()}, not {picture.mode}")]
        change = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), picture.mode, "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        if _changes_little(change, picture.mode):
            return picture.convert("RGB"), []
        result = ImageCms.applyTransform(picture, change)
        assert result is not None
        return result, [f"Its colours were read by its profile, {_name(source)}."]
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return picture.convert("RGB"), [_ignored(f"is damaged ({type(error).__name__})")]


def _ignored(why: str) -> str:
    return f"Its colour profile {why}, and was ignored."


def _name(profile: Any) -> str:
    try:
        name = ImageCms.getProfileDescription(profile).strip()
    except (ImageCms.PyCMSError, AttributeError, TypeError):
        name = ""
    return "".join(c for c in name if c.isprintable())[:60] or "of no name"


def _changes_little(change: Any, mode: str) -> bool:
    """Whether a transform leaves the corners and middles of the colours where they are."""
    if mode not in ("RGB", "L"):
        return False
    levels = np.array([0, 32, 64, 128, 192, 255], dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    chart = Image.fromarray(grid if mode == "RGB" else levels[None])
    after = ImageCms.applyTransform(chart, change)
    before = np.asarray(chart.convert("RGB"), dtype=int)
    return int(np.abs(np.asarray(after, dtype=int) - before).max()) <= SAME
