"""Files that are dropped as pictures and are none that are read: by name, with what to do."""

from PIL import Image

from wsdemo.errors import WsdemoError

_EXPORT = "Open it in a viewer and export it as JPEG or PNG."
_SIGNS: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "PDF", "Export the page as PNG."),
    (b"8BPS", "Photoshop's PSD", "Export it as PNG."),
    (b"%!PS", "PostScript", "Export it as PNG."),
    (b"<svg", "SVG, a drawing without pixels", "Export it as PNG."),
    (b"\xff\x0a", "JPEG XL", _EXPORT), (b"\0\0\0\x0cJXL ", "JPEG XL", _EXPORT),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", _EXPORT), (b"\xff\x4f\xff\x51", "JPEG 2000", _EXPORT),
    (b"FUJIFILMCCD-RAW", "a raw photo", "Export it as JPEG from the camera's program."),
    (b"IIRO", "a raw photo", "Export it as JPEG from the camera's program."),
    (b"IIU\0", "a raw photo", "Export it as JPEG from the camera's program."),
    (b"v/1\x01", "OpenEXR", "Export it as 16-bit PNG or as JPEG."),
    (b"#?RADIANCE", "Radiance HDR", "Export it as 16-bit PNG or as JPEG."),
    (b"II*\0\x10\0\0\0CR", "a raw photo", "Export it as JPEG from the camera's program."),
    (b"DDS ", "DDS", _EXPORT), (b"II\xbc\x01", "JPEG XR", _EXPORT),
    (b"qoif", "QOI", _EXPORT), (b"icns", "an icon of macOS", _EXPORT),
    (b"\xabKTX", "KTX", _EXPORT), (b"P6\n", "PPM", _EXPORT), (b"P5\n", "PGM", _EXPORT),
    (b"\0\0\1\0", "an icon of Windows", _EXPORT), (b"gimp xcf", "GIMP's XCF", "Export it as PNG."),
    (b"\x1aE\xdf\xa3", "a video", "Save one of its frames as a picture."),
    (b"PK\x03\x04", "a zip archive", "Unpack it first."),
    (b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    (b"<!doctype html", "a web page", "Download the picture itself."),
    (b"<html", "a web page", "Download the picture itself."),
)  # fmt: skip
_VIDEOS = (b"isom", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1", b"3gp4", b"3gp5")


def check_picture(data: bytes) -> None:
    """Refuses files that are known not to be read.

    Raises:
        WsdemoError: It begins like a format that is not read.
    """
    start = data[:512].removeprefix(b"\xef\xbb\xbf")
    text = start.lstrip().lower()
    for sign, name, advice in _SIGNS:
        if start.startswith(sign) or text.startswith(sign.lower()):
            raise _refuse(name, advice)
    if text.startswith(b"<?xml") and b"<svg" in text:
        raise _refuse("SVG, a drawing without pixels", "Export it as PNG.")
    if data[4:8] == b"ftyp" and data[8:12] in _VIDEOS:
        raise _refuse("a video", "Save one of its frames as a picture.")
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        raise _refuse("a video", "Save one of its frames as a picture.")
    if data[4:12] in (b"ftypcrx ",):
        raise _refuse("a raw photo", "Export it as JPEG from the camera's program.")


DNG_VERSION, SUBFILE, INNER_PICTURES = 50706, 254, 330


def check_tiff(picture: Image.Image) -> None:
    """Refuses a TIFF whose first picture only stands for raw data: DNG, NEF, ARW.

    Raises:
        WsdemoError: It is one.
    """
    tags = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    is_preview = bool(int(tags.get(SUBFILE, 0)) & 1) and INNER_PICTURES in tags
    if DNG_VERSION in tags or is_preview:
        raise _refuse("a raw photo", "Export it as JPEG from the camera's program.")


def _refuse(name: str, advice: str) -> WsdemoError:
    return WsdemoError(
        "Not a picture",
        f"Found {name}; expected JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIC.",
        advice,
    )
