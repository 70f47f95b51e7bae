"""Pictures: whatever a visitor drops becomes a square of RGB, or a clear refusal."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

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
    "cut png": (encode(gradient())[:80], "Picture cut off"),
    "cut webp": (encode(gradient(), "WEBP")[:-20], "Picture cut off"),
    "cut gif": (encode(gradient(200, 200), "GIF")[:-900], "Picture cut off"),
    "cut tiff": (encode(gradient(200, 200), "TIFF")[:-900], "Picture cut off"),
    "cut bmp": (encode(gradient(), "BMP")[:-900], "Picture cut off"),
    "cut avif": (encode(gradient(), "AVIF")[:-20], "Picture cut off"),
    "one pixel": (encode(Image.new("RGB", (1, 1))), "Picture too small"),
    "thin": (encode(Image.new("RGB", (500, 3))), "Picture too small"),
    "20,000 a side": (png_header(20_000, 20_000), "Picture too large"),
    "bomb": (png_header(2**31 - 1, 2**31 - 1), "Picture too large|Picture unreadable"),
    "pixels missing": (png_header(300, 300), "Picture cut off"),
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


# ---- colours -------------------------------------------------------------------------


def matrix_profile(primaries, gamma: int = 563) -> bytes:
    """An ICC profile of three primaries in XYZ (D50) and one gamma, in 256ths."""

    def fixed(values) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, gamma, 0)
    name = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)
    data = [(b"desc", name), (b"cprt", b"text" + bytes(4) + b"x\0"),
            (b"wtpt", b"XYZ " + bytes(4) + fixed((0.9642, 1, 0.8249)))]  # fmt: skip
    for letter, primary in zip("rgb", primaries, strict=True):
        data.append((letter.encode() + b"XYZ", b"XYZ " + bytes(4) + fixed(primary)))
        data.append((letter.encode() + b"TRC", curve))
    table, body = struct.pack(">I", len(data)), b""
    start = 132 + 12 * len(data)
    for key, value in data:
        value += b"\0" * (-len(value) % 4)
        table += key + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s12s4s", 128 + len(table) + len(body), b"", 0x02400000, b"mntr",
                       b"RGB ", b"XYZ ", b"", b"acsp").ljust(68, b"\0")  # fmt: skip
    return (head + fixed((0.9642, 1, 0.8249))).ljust(128, b"\0") + table + body


RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
P3 = [(0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("profile", [matrix_profile((GREEN, BLUE, RED)), matrix_profile(P3)])
def test_profiles_are_applied_and_said(kind, profile):
    stored = Image.new("RGB", (64, 64), (60, 90, 200))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    wanted = ImageCms.profileToProfile(stored, source, ImageCms.createProfile("sRGB"))
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    picture, notes = open_picture(encode(stored, kind, icc_profile=profile, **options))
    assert np.abs(np.subtract(picture.getpixel((9, 9)), wanted.getpixel((9, 9)))).max() < 8
    assert any("profile" in note for note in notes)


def test_srgb_itself_changes_nothing_and_a_damaged_profile_is_said():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture, notes = open_picture(encode(gradient(), icc_profile=own))
    assert notes == []
    assert picture.tobytes() == gradient().tobytes()
    picture, notes = open_picture(encode(gradient(), icc_profile=b"no profile"))
    assert picture.tobytes() == gradient().tobytes()
    assert any("profile is damaged" in note for note in notes)


def test_a_profile_of_another_kind_of_colours_is_ignored_and_said():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    _, notes = open_picture(encode(gradient().convert("L"), icc_profile=own))
    assert any("is for RGB, not L" in note for note in notes)


def test_transparency_survives_a_profile():
    layer = Image.new("RGBA", (40, 40), (60, 90, 200, 255))
    layer.paste((0, 0, 0, 0), (0, 0, 20, 40))
    picture, notes = open_picture(encode(layer, icc_profile=matrix_profile((GREEN, BLUE, RED))))
    assert picture.getpixel((5, 5)) == (255, 255, 255)
    assert picture.getpixel((30, 5)) != (60, 90, 200)
    assert len(notes) == 2


# ---- sound pixels in odd files -------------------------------------------------------


def test_large_texts_and_profiles_do_not_damage_a_png():
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", '{"a":1}' * 300_000, zip=True)
    info.add_itxt("more", "x" * 3_000_000, zip=True)
    picture, _ = open_picture(encode(gradient(), pnginfo=info, icc_profile=bytes(3_000_000)))
    assert picture.tobytes() == gradient().tobytes()


@pytest.mark.parametrize(("tag", "kind", "count", "value"), [
    (0x9204, 10, 1, struct.pack("<ii", -1, 0)), (0x11A, 2, 4, b"abc\0"),
    (0x132, 3, 2, b"\1\2\3\4"), (0x9286, 99, 1, b"\0\0\0\0"),
])  # fmt: skip
def test_odd_exif_leaves_the_orientation(tag, kind, count, value):
    first = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    place = value if len(value) <= 4 else struct.pack("<I", 38)
    second = struct.pack("<HHI", tag, kind, count) + place
    entries = sorted([first, second], key=lambda e: struct.unpack("<H", e[:2]))
    exif = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + bytes(4)
    exif += value if len(value) > 4 else b""
    picture, notes = open_picture(encode(gradient(), "JPEG", exif=b"Exif\0\0" + exif))
    assert picture.size == (30, 40)
    assert any("upright" in note for note in notes)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_without_its_end_is_read_and_said(options, lost):
    whole = encode(gradient(200, 150), "JPEG", **options)
    picture, notes = open_picture(whole[:-lost])
    assert picture.tobytes() == open_picture(whole)[0].tobytes()
    assert any("end marker" in note for note in notes)


@pytest.mark.parametrize("image", [gradient(200, 200), Image.new("RGB", (200, 200), "red")])
def test_a_jpeg_that_lacks_more_is_called_cut_off(image):
    whole = encode(image, "JPEG", quality=95)
    head = whole.index(b"\xff\xda")
    with pytest.raises(WsdemoError, match="rows of pixels"):
        open_picture(whole[: head + (len(whole) - head) // 2])


def test_avif_and_heic_are_read_and_a_damaged_heic_is_named():
    pytest.importorskip("pillow_heif").register_heif_opener()
    for kind in ("AVIF", "HEIF"):
        picture, _ = open_picture(encode(Image.new("RGB", (64, 64), "red"), kind))
        assert np.abs(np.subtract(picture.getpixel((9, 9)), (255, 0, 0))).max() < 12
    with pytest.raises(WsdemoError, match="HEIC"):
        open_picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(2000))


def test_a_zoom_into_a_large_jpeg_sees_all_of_its_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    large = np.full((2048, 2048, 3), 128, np.uint8)
    large[512:640, 512:640] = noise.repeat(4, 0).repeat(4, 1)
    data = encode(Image.fromarray(large), "JPEG", quality=97, subsampling=0)
    crop = Crop(512 / 1920, 512 / 1920, 16)
    found = to_square(open_picture(data)[0], crop, 64).double()
    wanted = to_square(Image.fromarray(large), crop, 64).double()
    assert float((found - wanted).square().mean()) < 20


@pytest.mark.parametrize(("start", "word"), [
    (b"8BPS", "PSD"), (b"\xff\x0a", "JPEG XL"), (b"<!DOCTYPE html>", "web page"),
    (b"version https://git-lfs", "Git LFS"),
    (b"RIFF\0\0\0\0AVI ", "video"), (b"qoif", "QOI"),
    (b"\0\0\0\x18ftypisom", "video"), (b"%PDF-1", "PDF"),
])  # fmt: skip
def test_strangers_are_named(start, word):
    with pytest.raises(WsdemoError, match=word):
        open_picture(start + bytes(200))


@pytest.mark.parametrize("tags", [{50706: b"\1\4\0\0"}, {254: 1, 330: (8,)}], ids=["DNG", "NEF"])
def test_a_raw_photo_is_not_taken_for_its_small_preview(tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
    with pytest.raises(WsdemoError, match="raw photo"):
        open_picture(encode(gradient(), "TIFF", tiffinfo=info))
