"""Sound pixels in odd files: PNG with large texts, JPEG without an end; and what ends too early."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from wsdemo.limits import MAX_PROFILE_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"gAMA",
        b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs")  # fmt: skip
"""Chunks of a PNG that pixels depend on, or that are small."""
END = b"\xff\xd9"


def without_texts(data: bytes) -> tuple[bytes, bytes | None]:
    """A PNG without its texts, which may be large, and with its ICC profile taken out.

    Returns:
        The file, unchanged if it is no PNG, and the profile.
    """
    if not data.startswith(SIGNATURE):
        return data, None
    pieces, profile, place = [SIGNATURE], None, len(SIGNATURE)
    while place + 12 <= len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + size
        if name in KEPT or end > len(data):
            pieces.append(data[place:end])
        elif name == b"iCCP":
            profile = _profile(data[place + 8 : place + 8 + size])
        place = end
        if name == b"IEND":
            break
    return b"".join(pieces), profile


def _profile(chunk: bytes) -> bytes:
    """The profile of an iCCP chunk; what cannot be unpacked is no profile, and is said to be so."""
    try:
        return zlib.decompressobj().decompress(chunk.partition(b"\0")[2][1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b"damaged"


def end_jpeg(data: bytes) -> bytes:
    """A JPEG with an end marker."""
    return data.removesuffix(END[:1]) + END


FILLERS = (b"", b"\0" * 65536, b"\x55" * 65536, b"\x3a\x91\xc4\x0f" * 16384)
"""What is put where a JPEG ends: what is decoded from it differs, but not before."""


def rows_read(data: bytes) -> int:
    """How many rows of pixels, from the top, a JPEG without an end holds for certain.

    It is continued in several ways; where the decoded pictures differ, nothing of the file is left.
    """
    pictures = []
    data = data.removesuffix(END[:1])  # half of the marker
    for filler in FILLERS:
        picture = Image.open(io.BytesIO(data + filler + END), formats=("JPEG", "MPO"))
        picture.load()
        pictures.append(np.asarray(picture).reshape(picture.size[1], -1))
    differ = np.zeros(len(pictures[0]), dtype=bool)
    for other in pictures[1:]:
        differ |= (other != pictures[0]).any(1)
    return int(differ.argmax()) if differ.any() else len(differ)


def ends_early(data: bytes) -> str | None:
    """What a file promises and does not hold, for a person; None if nothing of that is known.

    By what containers say of themselves: the length of RIFF (WebP), the boxes of AVIF and HEIC, the
    last chunk of a PNG, the size of a BMP.
    """
    promised = 0
    if data[:4] == b"RIFF" and len(data) >= 8:
        promised = 8 + int(struct.unpack("<I", data[4:8])[0])
    elif data[:2] == b"BM" and len(data) >= 6:
        promised = int(struct.unpack("<I", data[2:6])[0])
    elif data[4:8] == b"ftyp":
        promised = _end_of_boxes(data)
    if promised > len(data):
        return f"{promised:,} bytes are promised, {len(data):,} are there"
    if data.startswith(SIGNATURE) and b"IEND" not in data[-4096:]:
        return "the last part of the PNG, IEND, is missing"
    return None


def _end_of_boxes(data: bytes) -> int:
    """Where the last box of an ISO container ends, as far as boxes say."""
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        if size == 1 and place + 16 <= len(data):
            size = int(struct.unpack(">Q", data[place + 8 : place + 16])[0])
        if size < 8 or not name.isalnum():  # 0: to the end
            break
        place += int(size)
    return place
