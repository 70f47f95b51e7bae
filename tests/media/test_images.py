"""Pictures: whatever a visitor drops becomes a square of RGB, or a clear refusal."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_PICTURE_BYTES
from wsdemo.media.images import Crop, contact_sheet, open_picture, png_bytes, to_square


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    values = np.zeros((height, width, 3), np.uint8)
    values[..., 0] = np.linspace(0, 255, width)[None]
    values[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(values)


# ---- what is taken -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_common_formats_open_as_rgb(kind):
    picture, _ = open_picture(encode(gradient(), kind))
    assert picture.mode == "RGB"
    assert picture.size == (40, 30)


def test_cmyk_is_converted():
    picture, _ = open_picture(encode(gradient().convert("CMYK"), "JPEG"))
    assert picture.mode == "RGB"
    assert abs(picture.getpixel((39, 0))[0] - 255) < 12


def test_sixteen_bits_are_scaled_and_said():
    deep = Image.fromarray((np.linspace(0, 65535, 900).reshape(30, 30)).astype(np.uint16))
    picture, notes = open_picture(encode(deep))
    assert picture.getpixel((29, 29)) == (255, 255, 255)
    assert picture.getpixel((0, 0)) == (0, 0, 0)
    assert 110 < picture.getpixel((15, 14))[0] < 140
    assert any("8 bits" in n for n in notes)


@pytest.mark.parametrize(
    ("top", "kind"), [(255, np.int32), (65535, np.int32), (10**6, np.int32), (1, np.float32),
                      (255, np.float32), (65535, np.float32)],
)  # fmt: skip
def test_deep_pictures_fill_the_range_whatever_theirs_is(top, kind):
    values = np.linspace(0, top, 900).reshape(30, 30).astype(kind)
    picture, notes = open_picture(encode(Image.fromarray(values), "TIFF"))
    assert picture.getpixel((29, 29)) == (255, 255, 255)
    assert 110 < picture.getpixel((15, 14))[0] < 140
    assert any(f"{top:,} white" in n for n in notes)


def test_values_that_are_no_numbers_are_said_or_refused():
    values = np.full((30, 30), math.nan, np.float32)
    with pytest.raises(WsdemoError, match="None of its values"):
        open_picture(encode(Image.fromarray(values), "TIFF"))
    values[:20] = 1.0
    _, notes = open_picture(encode(Image.fromarray(values), "TIFF"))
    assert any("no finite numbers" in n for n in notes)


def test_transparent_parts_become_white_and_it_is_said():
    picture, notes = open_picture(encode(Image.new("RGBA", (20, 20), (255, 0, 0, 0))))
    assert picture.getpixel((5, 5)) == (255, 255, 255)
    assert any("white" in n for n in notes)


def test_palette_with_transparency_opens():
    image = gradient().convert("P")
    picture, _ = open_picture(encode(image, "PNG", transparency=0))
    assert picture.mode == "RGB"


def test_exif_rotation_is_applied_and_said():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, notes = open_picture(encode(gradient(), "JPEG", exif=exif))
    assert picture.size == (30, 40)
    assert any("upright" in n for n in notes)


@pytest.mark.parametrize(("orientation", "is_said"), [(0, False), (1, False), (2, True), (3, True)])
def test_what_keeps_the_size_is_said_as_well(orientation, is_said):
    exif = Image.Exif()
    exif[0x0112] = orientation
    _, notes = open_picture(encode(gradient(), "JPEG", exif=exif))
    assert any("upright" in n for n in notes) == is_said


def test_first_frame_of_an_animation_is_taken_and_said():
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture, notes = open_picture(data)
    assert picture.getpixel((3, 3))[0] > 200
    assert any("first frame" in n for n in notes)


def test_grayscale_opens():
    picture, _ = open_picture(encode(gradient().convert("L")))
    assert picture.mode == "RGB"


# ---- what is refused --------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size without holding the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + body + chunk(b"IEND", b"")


GOOD_JPEG = encode(gradient(200, 200), "JPEG")
BAD = {
    "empty": (b"", "Not a picture"),
    "text": (b"hello" * 100, "Not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Not a picture"),
    "pdf": (b"%PDF-1.7 " + bytes(100), "Not a picture"),
    "cut jpeg": (GOOD_JPEG[: len(GOOD_JPEG) // 2], "Picture cut off"),
    "cut png": (encode(gradient())[:80], "Picture unreadable"),
    "one pixel": (encode(Image.new("RGB", (1, 1))), "Picture too small"),
    "thin": (encode(Image.new("RGB", (500, 3))), "Picture too small"),
    "20,000 a side": (png_header(20_000, 20_000), "Picture too large"),
    "bomb": (png_header(2**31 - 1, 2**31 - 1), "Picture too large|Picture unreadable"),
    "pixels missing": (png_header(300, 300), "Picture unreadable"),
    "too many bytes": (b"\xff\xd8" + bytes(MAX_PICTURE_BYTES), "Picture too large"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "Not a picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_picture_is_refused_with_a_remedy(name):
    data, title = BAD[name]
    with pytest.raises(WsdemoError, match=title) as caught:
        open_picture(data)
    assert caught.value.hint


@pytest.mark.parametrize("side", [8_000, 20_000])
def test_too_many_pixels_are_told_from_our_own_limit(side):
    with pytest.raises(WsdemoError, match="50 million"):
        open_picture(png_header(side, side))


# ---- cropping and writing -----------------------------------------------------------------


def test_default_crop_is_the_largest_centred_square():
    assert Crop().box(40, 30) == (5, 0, 35, 30)


def test_crop_follows_its_centre_and_zoom_and_stays_inside():
    assert Crop(x=0, y=1, zoom=2).box(40, 30) == (0, 15, 15, 30)


@pytest.mark.parametrize("wrong", [{"x": 7}, {"y": -0.1}, {"x": math.nan}, {"zoom": -5},
                                   {"zoom": math.inf}])  # fmt: skip
def test_a_crop_out_of_range_is_refused(wrong):
    with pytest.raises(WsdemoError, match="expected 0 to 1"):
        Crop(**wrong)


def test_square_has_the_asked_size_and_orientation():
    image = to_square(gradient(), Crop(), 16)
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.uint8
    assert float(image[0, :, -1].float().mean()) > float(image[0, :, 0].float().mean()) + 100
    assert float(image[1, -1].float().mean()) > float(image[1, 0].float().mean()) + 100


def test_equal_images_give_equal_png_bytes():
    image = to_square(gradient(), Crop(), 16)
    assert png_bytes(image) == png_bytes(image.clone())
    reopened, _ = open_picture(png_bytes(image))
    assert torch.equal(to_square(reopened, Crop(), 16), image)


def test_contact_sheet_places_images_row_by_row():
    images = torch.stack([torch.full((3, 4, 4), v, dtype=torch.uint8) for v in (10, 20, 30)])
    sheet = contact_sheet(images, columns=2, gap=1)
    assert sheet.shape == (3, 11, 11)
    assert (int(sheet[0, 1, 1]), int(sheet[0, 1, 6]), int(sheet[0, 6, 1])) == (10, 20, 30)
    assert int(sheet[0, 6, 6]) == 255
