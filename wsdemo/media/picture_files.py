"""Picture files in: any file a visitor drops → 8-bit sRGB, upright, and what was done to it."""

import io
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_PICTURE_BYTES, MAX_PICTURE_PIXELS, MIN_PICTURE_SIDE
from wsdemo.media.colour import to_srgb
from wsdemo.media.picture_repair import end_jpeg, ends_early, rows_read, without_texts
from wsdemo.media.picture_strangers import check_picture, check_tiff

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError,
           AttributeError, OverflowError, ZeroDivisionError, RuntimeError)  # fmt: skip
"""What Pillow's parsers raise of damaged files, besides struct.error, a ValueError's kin."""
SMALLER = "Save a smaller copy; the field shows 64x64 of it anyway."


@cache
def _register_heif() -> None:
    """Teaches Pillow HEIC, once."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


def open_picture(source: Path | bytes) -> tuple[Image.Image, list[str]]:
    """Opens a picture within limits, upright, in 8-bit sRGB.

    Args:
        source: A file or its content.

    Returns:
        The picture, and what was done to it that a person should know.

    Raises:
        WsdemoError: Not a picture, of a format that is not read, cut off, too large or too small.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_PICTURE_BYTES:
        raise WsdemoError(
            "Picture too large",
            f"The file has {size / 2**20:.0f} MB; {MAX_PICTURE_BYTES / 2**20:.0f} are allowed.",
            "Save a smaller copy.",
        )
    data = source if isinstance(source, bytes) else source.read_bytes()
    check_picture(data)
    whole = data
    data, profile = without_texts(data)
    try:
        picture = _open(data)
        check_tiff(picture)
        _check_size(*picture.size)
        picture, notes = _decoded(picture, data)
        if profile is not None:
            picture.info["icc_profile"] = profile
        return _upright_rgb(picture, notes)
    except UnidentifiedImageError as error:
        early = ends_early(whole)
        raise (_cut_off(early) if early else _unidentified(data)) from error
    except Image.DecompressionBombError as error:
        raise WsdemoError(
            "Picture too large",
            f"It has several times the {MAX_PICTURE_PIXELS / 1e6:.0f} million pixels that are"
            " allowed.",
            SMALLER,
        ) from error
    except DAMAGED as error:
        early = ends_early(whole)
        if early is None and "truncated" in str(error):
            early = str(error)[:80]
        if early is not None:
            raise _cut_off(early) from error
        raise WsdemoError(
            "Picture unreadable",
            f"Found damage ({type(error).__name__}: {str(error)[:80]}); expected an intact file.",
            "Open it in a viewer and save it again.",
        ) from error


def _open(data: bytes) -> Image.Image:
    formats: tuple[str, ...] = FORMATS
    if data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis"):
        _register_heif()
        formats = (*FORMATS, "HEIF")
    # Our own limit on pixels is stricter than Pillow's warning, and speaks our language.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=formats)


def _cut_off(early: str) -> WsdemoError:
    return WsdemoError(
        "Picture cut off", f"The file ends too early: {early}.", "Copy or download it again."
    )


def _unidentified(data: bytes) -> WsdemoError:
    """What to say of a file that no reader knows."""
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("latin-1").strip().upper()
        name = {"HEIC": "HEIC", "HEIX": "HEIC", "MIF1": "HEIF", "MSF1": "HEIF"}.get(brand, brand)
        return WsdemoError(
            "Picture unreadable",
            f"Found {name[:8]} that is damaged or cut off, or holds no still picture.",
            "Export the photo again, as JPEG.",
        )
    known = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP",
             b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WEBP"}  # fmt: skip
    begun = next((n for sign, n in known.items() if data.startswith(sign)), None)
    if begun:
        return WsdemoError(
            "Picture unreadable",
            f"It begins like {begun}, and what follows is damaged or cut off.",
            "Open it in a viewer and save it again.",
        )
    return WsdemoError(
        "Not a picture",
        "The file is none of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC.",
        "Give a photo as JPEG or PNG.",
    )


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PICTURE_PIXELS:
        raise WsdemoError(
            "Picture too large",
            f"It has {width}x{height} pixels; {MAX_PICTURE_PIXELS / 1e6:.0f} million are allowed.",
            SMALLER,
        )
    if min(width, height) < MIN_PICTURE_SIDE:
        raise WsdemoError(
            "Picture too small",
            f"It has {width}x{height} pixels; at least {MIN_PICTURE_SIDE} a side are needed.",
            "Give a larger picture.",
        )


def _decoded(picture: Image.Image, data: bytes) -> tuple[Image.Image, list[str]]:
    """The first frame's pixels; a JPEG whose end marker alone is missing gets one."""
    notes = []
    if getattr(picture, "n_frames", 1) > 1 and picture.format not in ("MPO", "HEIF"):
        what = "page" if picture.format == "TIFF" else "frame of the animation"
        notes.append(f"The first {what} is used.")
        picture.seek(0)
    try:
        picture.load()
        return picture, notes
    except OSError:
        if picture.format not in ("JPEG", "MPO"):
            raise
    rows = rows_read(data)
    height = picture.size[1]
    if rows < height:
        raise WsdemoError(
            "Picture cut off",
            f"Of its {height} rows of pixels {rows} are there: the file ends too early.",
            "Copy or download it again.",
        )
    whole = _open(end_jpeg(data))
    whole.load()
    return whole, [*notes, "The JPEG lacks its end marker; all its pixels are there."]


ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright, 2 to 8 are turned, mirrored, or both."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation; 1 where there is none, or none that makes sense."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # other tags may be damaged in any way; only this one is needed
        return 1
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int) and value in TURNS else 1


def _upright_rgb(picture: Image.Image, notes: list[str]) -> tuple[Image.Image, list[str]]:
    orientation = _orientation(picture)
    profile = picture.info.get("icc_profile")
    if orientation in TURNS:
        turned = picture.transpose(TURNS[orientation])
        turned.info = dict(picture.info)
        picture = turned
        notes.append("Turned upright as its EXIF data say.")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture, note = _eight_bits(picture)
        notes.append(note)
    layer = None
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA").getchannel("A")
        if picture.mode in ("P", "PA", "RGBa"):
            picture = picture.convert("RGBA").convert("RGB")
        elif picture.mode in ("LA", "La"):
            picture = picture.convert("LA").getchannel("L")
        else:
            picture = picture.convert("RGBA" if picture.mode == "RGBA" else "RGB")
    colours, colour_notes = to_srgb(picture, profile)
    notes += colour_notes
    if layer is not None and layer.getextrema() != (255, 255):
        page = Image.new("RGB", colours.size, "white")
        page.paste(colours, mask=layer)
        colours = page
        notes.append("Transparent parts are shown on white.")
    return colours, notes


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
