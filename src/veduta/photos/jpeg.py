"""JPEG: its header, the scale at which it is decoded, and the decoders.

libjpeg-turbo (package simplejpeg) decodes most files: Huffman-coded 8-bit grey or colour without an
error. For a 12-megapixel photo it takes 48 ms where Pillow takes 153 (the whole picture), and 29
where Pillow takes 32 (an eighth). Other threads run meanwhile. Pillow decodes everything else (four
colours, anything that libjpeg warns about), and its verdict is final: it inverts Adobe's CMYK,
accepts harmless oddities and refuses what is cut short.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL.JpegImagePlugin import JpegImageFile

__all__ = [
    "Header",
    "check_scans",
    "decode_cost",
    "decode_fast",
    "decode_what_is_there",
    "has_end",
    "load_with_pillow",
    "min_scaled_size",
    "read_header",
    "read_profile",
    "whole_picture",
]

MIN_REDUCTION = 2
"""A JPEG is decoded whole, or its sides are divided by this factor at least.

libjpeg could also decode at 5/8 to 7/8 of the size. These scales take longer than the whole picture
and look worse."""

MAX_SCANS = 500
"""libjpeg-turbo's own tools have the same limit."""
USUAL_SCANS = 20
"""Cameras and encoders write about ten."""
MAX_SCANS_TIMES_PIXELS = 400_000_000
"""A cap for more than the usual number of scans. Each scan costs a pass over the whole picture, so
that a small file could take minutes. The cap is below two seconds."""

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_DIFFERENTIAL = frozenset({0xC5, 0xC6, 0xCD, 0xCE})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_APP1, _APP2 = 0xE1, 0xE2
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_FILL = 128

_MAX_CUTS = 4
_MAX_ZEROS = 8
"""Zero bytes at the end of coded pixels. libjpeg may have read so many ahead."""

_PROFILE_TAG = b"ICC_PROFILE\0"


@dataclass(frozen=True, slots=True)
class Header:
    r"""What the segments up to the first scan say.

    Attributes:
        width: of the pixels as stored.
        height: of the pixels as stored.
        bits: of one channel.
        channels: their number.
        samples_per_pixel: of all channels together: 3 without subsampling, 1.5 with 4:2:0.
        coding: of the frame: "" for the usual ones, else "lossless" or "differential".
        several_scans: whether the decoder will continue after the first scan.
        exif: the Exif block with its "Exif\0\0"; empty if there is none.
    """

    width: int
    height: int
    bits: int
    channels: int
    samples_per_pixel: float
    coding: str
    several_scans: bool
    exif: bytes


def read_header(data: bytes) -> Header:
    """Read the segments up to the first scan.

    Args:
        data: the content of the file.

    Raises:
        ValueError: there is no scan, or a side is 0.
    """
    exif = frame = b""
    frame_marker = 0
    for marker, body, _ in _segments(data):
        if marker in _START_OF_FRAME and not frame:
            frame, frame_marker = body, marker
        elif marker == _APP1 and not exif and body.startswith(b"Exif\0\0"):
            exif = body
        elif marker == _START_OF_SCAN and len(frame) >= 6 and body:
            return _header(frame, frame_marker, body, exif)
    raise ValueError("the file ends before the picture begins")


def _header(frame: bytes, marker: int, scan: bytes, exif: bytes) -> Header:
    bits, height, width, channels = struct.unpack(">BHHB", frame[:6])
    if width == 0 or height == 0:
        raise ValueError(f"{width} × {height} pixels")
    factors = [(each >> 4 or 1, each & 15 or 1) for each in frame[7 : 6 + 3 * channels : 3]]
    block = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    coding = "lossless" if marker in _LOSSLESS else ""
    return Header(
        width,
        height,
        bits,
        channels,
        sum(h * v for h, v in factors) / block,
        "differential" if marker in _DIFFERENTIAL else coding,
        marker in _PROGRESSIVE or scan[0] < channels,
        exif,
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield (marker, body, position behind it), and skip stray bytes as libjpeg does.

    The coded pixels behind the start of a scan are skipped too, up to the next marker.
    """
    start = 2
    while (start := data.find(b"\xff", start)) >= 0 and start + 4 <= len(data):
        marker = data[start + 1]
        if marker == 0xFF:  # A fill byte.
            start += 1
        elif marker in _WITHOUT_LENGTH:
            start += 2
        else:
            end = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
            yield marker, data[start + 4 : end], end
            start = _end_of_scan(data, end) if marker == _START_OF_SCAN else end


def _end_of_scan(data: bytes, start: int) -> int:
    """Return the position of the next marker that does not belong to the coded pixels."""
    match = _MARKER.search(data, start)
    return match.start() if match else len(data)


def has_end(data: bytes) -> bool:
    """Return whether the end of the picture is marked.

    Args:
        data: the content of the file.
    """
    ends = (
        marker for marker, _, _ in _segments(data) if marker in (_START_OF_IMAGE, _END_OF_IMAGE)
    )
    return next(ends, None) == _END_OF_IMAGE or data.endswith(b"\xff\xd9")


def coded_bytes(data: bytes) -> int:
    """Return how many bytes the coded pixels take, without metadata and what follows the picture.

    Args:
        data: the content of the file.
    """
    total = 0
    for marker, _, end in _segments(data):
        if marker in (_START_OF_IMAGE, _END_OF_IMAGE):
            break
        if marker == _START_OF_SCAN:
            total += _end_of_scan(data, end) - end
    return total


def whole_picture(data: bytes) -> bytes | None:
    """Return a JPEG of the picture alone, with an end, if every pixel is in the file.

    The end of the picture may be missing in the file, or something else may be in its place: a
    camera's trailer, a second picture, a video, zeros. Stray bytes between segments are left out.

    Args:
        data: the content of the file.

    Returns:
        The JPEG, from which libjpeg decodes every pixel without a warning. None: pixels are
        missing or damaged.
    """
    picture, complete = _picture_alone(data)
    return _without_filling(picture) if complete else None


def decode_what_is_there(
    data: bytes, header: Header, at_least: int | None
) -> tuple[NDArray[np.uint8], float] | None:
    """Decode a JPEG that is cut short.

    Args:
        data: the content of the file.
        header: of the file.
        at_least: pixels of the long side, see `min_scaled_size`.

    Returns:
        (H, W, 3) RGB as stored, grey where the file has nothing, and the share of the rows that
        are there, in [0, 1]. None: not even a part can be decoded.
    """
    import simplejpeg

    if header.channels not in (1, 3) or header.bits != 8:
        return None
    picture, _ = _picture_alone(data)
    # A file that was not written to its end has zeros for the rest.
    picture = picture[:-2].rstrip(b"\0") + picture[-2:]
    limits = min_scaled_size(header, at_least)
    min_width, min_height = limits or (0, 0)
    factor = MIN_REDUCTION if limits else 1
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            picture, "RGB", False, False, min_height, min_width, factor, None, False
        )
    except ValueError:
        return None
    # libjpeg fills with the middle of the range.
    there = (pixels != _FILL).any(axis=(1, 2)).nonzero()[0]
    return pixels, float(there[-1] + 1) / len(pixels) if len(there) else 0.0


def _picture_alone(data: bytes) -> tuple[bytes, bool]:
    """Return a JPEG of the scans that are there, and whether they bring every coefficient."""
    parts = [b"\xff\xd8"]
    missing: dict[int, set[int]] = {}
    progressive = complete = False
    for marker, body, end in _segments(data):
        if marker in _START_OF_FRAME and len(body) >= 6:
            progressive = marker in _PROGRESSIVE
            missing = {identity: set(range(64)) for identity in body[6 : 6 + 3 * body[5] : 3]}
        elif marker in (_START_OF_IMAGE, _END_OF_IMAGE):
            break
        parts.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
        if marker == _START_OF_SCAN and missing:
            scan_end = _end_of_scan(data, end)
            parts.append(data[end:scan_end])
            _take_off(missing, body, progressive)
            complete = not any(missing.values())
            if complete:
                break
    return b"".join(parts) + b"\xff\xd9", complete


def _take_off(missing: dict[int, set[int]], scan: bytes, progressive: bool) -> None:
    """Remove from `missing` the coefficients that a scan brings to their last bit."""
    count = scan[0] if scan else 0
    if len(scan) < 4 + 2 * count:
        return
    first, last, bits = scan[1 + 2 * count : 4 + 2 * count]
    for identity in scan[1 : 1 + 2 * count : 2]:
        if not progressive:
            missing.pop(identity, None)
        elif bits & 15 == 0:
            missing.get(identity, set()).difference_update(range(first, last + 1))


def _without_filling(picture: bytes) -> bytes | None:
    """Return a JPEG without what lies between its pixels and its end; None if pixels are bad."""
    zeros = len(picture) - 2 - len(picture[:-2].rstrip(b"\0"))
    removed = 0
    # libjpeg reads some bytes ahead, and tells only how many it has not read.
    for _ in range(_MAX_CUTS):
        warning = _first_warning(picture)
        if warning is None:
            # Zeros decode to grey. A file that was not written to its end has them for pixels.
            return picture if zeros - removed <= _MAX_ZEROS else None
        filling = _EXTRANEOUS.search(warning)
        if filling is None:
            return None
        removed += int(filling[1])
        picture = picture[: -2 - int(filling[1])] + picture[-2:]
    return None


def _first_warning(picture: bytes) -> str | None:
    """Return what libjpeg complains of first, at the smallest scale; None if of nothing."""
    import simplejpeg

    colours = "CMYK" if read_header(picture).channels == 4 else "RGB"
    try:
        simplejpeg.decode_jpeg(picture, colours, min_width=1, min_factor=MIN_REDUCTION)
    except ValueError as error:
        return str(error)
    return None


def read_profile(data: bytes) -> bytes:
    """Return the ICC profile of a JPEG; empty if there is none or a part of it is missing.

    Args:
        data: the content of the file.
    """
    parts: dict[int, bytes] = {}
    total = 0
    for marker, body, _ in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker == _APP2 and body.startswith(_PROFILE_TAG) and len(body) > len(_PROFILE_TAG) + 2:
            number, total = body[len(_PROFILE_TAG) : len(_PROFILE_TAG) + 2]
            parts[number] = body[len(_PROFILE_TAG) + 2 :]
    return b"".join(parts.get(number, b"") for number in range(1, total + 1))


def check_scans(data: bytes, header: Header) -> None:
    """Refuse a JPEG whose scans would take too long.

    Args:
        data: the content of the file.
        header: of the file.

    Raises:
        ValueError: it has more than `MAX_SCANS`, or more than `USUAL_SCANS` and too many for its
            size.
    """
    if data.count(b"\xff\xda") <= USUAL_SCANS:  # Quick, and never too few.
        return
    scans = 0
    for marker, _, _ in _segments(data):
        if marker in (_START_OF_IMAGE, _END_OF_IMAGE):
            return
        scans += marker == _START_OF_SCAN
        cost = scans * header.width * header.height
        if scans > MAX_SCANS or (scans > USUAL_SCANS and cost > MAX_SCANS_TIMES_PIXELS):
            raise ValueError(
                f"at least {scans} scans of {header.width} × {header.height} pixels take too long "
                "to decode: save it again as an ordinary JPEG"
            )


def decode_cost(header: Header, at_least: int | None, *, with_pillow: bool, turned: bool) -> float:
    """Return the bytes that the decoder and its result take.

    Args:
        header: of the file.
        at_least: as for `min_scaled_size`.
        with_pillow: the decoder is Pillow's, which has a copy of its own with 4 bytes a pixel.
        turned: the result is turned upright, which takes a copy.
    """
    pixels = header.width * header.height
    eighths = 8
    if at_least is not None and min_scaled_size(header, at_least) is not None:
        long_side = max(header.width, header.height)
        scales = (1, 2, 4) if with_pillow else (1, 2, 3, 4)
        eighths = next(scale for scale in scales if -(-scale * long_side // 8) >= at_least)
    bytes_per_pixel = 3 + 3 * turned + 4 * with_pillow
    coefficients = 2 * pixels * header.samples_per_pixel if header.several_scans else 0
    return pixels * (eighths / 8) ** 2 * bytes_per_pixel + coefficients


def min_scaled_size(header: Header, at_least: int | None) -> tuple[int, int] | None:
    """Return the least size at which a JPEG is decoded scaled down: this is the scale rule.

    libjpeg can decode at 1/8, 1/4, 3/8 and 1/2 of the size (see `MIN_REDUCTION`). The smallest of
    these scales is used at which the long side has at least `at_least` pixels. If there is none,
    the picture is decoded whole.

    Args:
        header: of the JPEG.
        at_least: wanted pixels of the long side, >= 1; None for the whole picture.

    Returns:
        Least (width, height) of the decoded picture. The short side has no limit (0). None: the
        picture is to be decoded whole.
    """
    half_long_side = -(-max(header.width, header.height) // MIN_REDUCTION)
    if at_least is None or at_least > half_long_side:
        return None
    return (at_least, 0) if header.width >= header.height else (0, at_least)


def decode_fast(data: bytes, header: Header, at_least: int | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG with libjpeg-turbo.

    Args:
        data: the content of the file.
        header: of the file.
        at_least: pixels of the long side, see `min_scaled_size`.

    Returns:
        (H, W, 3) RGB as stored. None: Pillow must decode it.
    """
    import simplejpeg

    if header.channels not in (1, 3) or header.bits != 8:
        return None
    limits = min_scaled_size(header, at_least)
    min_width, min_height = limits or (0, 0)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            "RGB",
            min_width=min_width,
            min_height=min_height,
            min_factor=MIN_REDUCTION if limits else 1,
        )
    except ValueError:
        return None  # libjpeg warned or failed. Pillow says which, and why.
    return pixels


def load_with_pillow(data: bytes, header: Header, at_least: int | None) -> JpegImageFile:
    """Decode a JPEG with Pillow, which scales by 1/8, 1/4 or 1/2.

    Args:
        data: the content of the file.
        header: of the file.
        at_least: pixels of the long side; None for the whole picture.

    Returns:
        The image, with its pixels.

    Raises:
        Exception: anything that Pillow raises on bytes that do not decode.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(io.BytesIO(data))
    if at_least:
        # `draft` keeps both sides at least as large as asked. The limit of the short side is 1, so
        # that only the long side counts.
        wide = header.width >= header.height
        image.draft(None, (at_least, 1) if wide else (1, at_least))
    image.load()
    return image
