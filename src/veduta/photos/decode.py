"""Bytes to pixels: one decoder for each format. The result is upright RGB or a `PhotoError`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import (
    BrokenPhoto,
    NotAPhoto,
    PhotoTooLarge,
    PhotoUnreadable,
    UnsupportedFormat,
    VedutaError,
)
from veduta.photos import jpeg, jpeg_2000, jpeg_xl
from veduta.photos.camera_raw import is_camera_raw, read_preview
from veduta.photos.colour_profile import cmyk_to_srgb, to_srgb
from veduta.photos.exif import Exif, read_exif
from veduta.photos.formats import describe_bytes, is_other_picture, sniff
from veduta.photos.memory_budget import reserved
from veduta.photos.opening import open_photo
from veduta.photos.pillow_warnings import logged_warnings
from veduta.photos.to_rgb import STRIP_BYTES_PER_PIXEL, strip_pixels, to_rgb

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["MAX_PIXELS", "Photo", "decode"]

MAX_PIXELS = 250_000_000
"""The default cap on width × height: more than any phone's camera has, less than fills memory."""


_MIN_SHARE = 0.5
"""Of the rows of a photo that is cut short, to use it all the same."""

_UNSUPPORTED = ("unsupported", "not supported", "not implemented", "unknown codec")
"""In the messages of Pillow and libheif, in lower case."""
_CUT_SHORT = ("truncated", "Truncated", "NEED_MORE_INPUT", "end of file")
"""In the messages of Pillow, libjxl and libheif."""


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One decoded photo.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright: Exif orientation is applied. It may be scaled down.
            Do not write to it: some decoders return memory that is read-only.
        format: one of `FORMATS`.
        width: of the upright original, in pixels.
        height: of the upright original, in pixels.
        taken: Exif DateTimeOriginal (else DateTimeDigitized, else DateTime): naive local time, or
            None.
        place: `Exif.place`: latitude and longitude in degrees, or None.
    """

    pixels: NDArray[np.uint8]
    format: str
    width: int
    height: int
    taken: datetime | None
    place: tuple[float, float] | None = None


def decode(
    data: bytes,
    *,
    path: str | bytes | os.PathLike[str],
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    srgb: bool = False,
    accept_truncated: bool = False,
) -> Photo:
    """Decode the bytes of a photo.

    The first picture of an animation or of a file with several pages is decoded. What else is in
    the file does not matter: a photo whose pixels are whole is read. Transparent parts become
    white; `veduta.photos.to_rgb` has the exception. All threads of a process decode within one
    budget of memory (`veduta.photos.memory_budget`), and wait for it.

    Args:
        data: the content of the file.
        path: the file, for messages only.
        at_least: allows a faster, smaller decode: the long side of `pixels` then has at least so
            many pixels, or those of the original if it is smaller. >= 1. `veduta.photos.jpeg` has
            the rule for JPEG.
        max_pixels: cap on width × height, checked in the header.
        srgb: convert the colours to sRGB by the profile in the file. Otherwise profiles are
            ignored.
        accept_truncated: decode a JPEG that is cut short if at least half of its rows are there.
            The others are grey.

    Raises:
        NotAPhoto: the bytes are of no kind of picture.
        UnsupportedFormat: they are a picture of a kind that is not read.
        BrokenPhoto: they do not decode.
        PhotoTooLarge: the photo has more than `max_pixels`, or takes more memory than the budget or
            too much time to decode.
        PhotoUnreadable: there is not enough memory now.
        QueryError: the setting of the budget of memory is no number.
        ValueError: `at_least` is below 1.
    """
    if at_least is not None and at_least < 1:
        raise ValueError(f"at_least must be 1 or more, not {at_least}")
    name = os.fsdecode(path)
    if not data:
        raise BrokenPhoto(name, "the file is empty (0 bytes)")
    kind = sniff(data)
    if kind is None:
        error_class = UnsupportedFormat if is_other_picture(data) else NotAPhoto
        raise error_class(
            name,
            f"not a photo in a supported format but {describe_bytes(data)} "
            "(supported: JPEG, PNG, WebP, AVIF, HEIC, TIFF, GIF, BMP, JPEG 2000, JPEG XL, "
            "camera raw)",
        )
    wanted = _Wanted(data, kind, name, at_least, max_pixels, srgb, accept_truncated)
    try:
        if kind == "RAW" or (kind == "TIFF" and is_camera_raw(data)):
            return _decode_camera_raw(wanted)
        if kind == "JPEG":
            return _decode_jpeg(wanted)
        if kind == "JXL":
            return _decode_jpeg_xl(wanted)
        with logged_warnings(name):
            return _decode_with_pillow(wanted)
    except VedutaError:
        raise
    except MemoryError as error:
        raise PhotoUnreadable(name, "there is not enough memory to decode it now") from error
    except Exception as error:
        # A decoder raises anything on bytes that strangers wrote. It means that they do not decode.
        if type(error).__name__ == "DecompressionBombError":
            raise PhotoTooLarge(name, f"too many pixels for the {kind} decoder") from error
        detail = " ".join(str(error).split())[:120]
        if any(words in detail.lower() for words in _UNSUPPORTED):
            raise UnsupportedFormat(
                name, f"a {kind} of a kind that is not read ({detail}): save it as JPEG or PNG"
            ) from error
        raise BrokenPhoto(name, _reason(kind, error)) from error


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The arguments of `decode`."""

    data: bytes
    kind: str
    name: str
    at_least: int | None
    max_pixels: int
    srgb: bool
    accept_truncated: bool

    def factor(self, width: int, height: int) -> int:
        """Return by how much the sides of a picture may be divided."""
        long_side = max(width, height)
        return max(1, long_side // (self.at_least or long_side))

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse a picture above the cap."""
        if width * height > self.max_pixels:
            cap = f"{self.max_pixels / 1e6:g} megapixels"
            raise PhotoTooLarge(
                self.name, f"{width} × {height} pixels are more than the cap of {cap}"
            )


def _reason(kind: str, error: Exception) -> str:
    detail = " ".join(str(error).split())[:120]
    if isinstance(error, EOFError) or any(words in detail for words in _CUT_SHORT):
        return f"the {kind} data are cut short"
    return f"the {kind} data are damaged ({detail})" if detail else f"the {kind} data are damaged"


def _decode_jpeg(wanted: _Wanted) -> Photo:
    data, name = wanted.data, wanted.name
    header = jpeg.read_header(data)
    wanted.check_pixels(header.width, header.height)
    _check_jpeg_kind(header, name)
    if header.several_scans:
        try:
            jpeg.check_scans(data, header)
        except ValueError as error:
            raise PhotoTooLarge(name, str(error)) from error
    exif = read_exif(header.exif)
    size = (header.width, header.height)
    profile = jpeg.read_profile(data) if wanted.srgb else b""

    def cost(*, with_pillow: bool) -> float:
        turned = exif.orientation != 1
        return len(data) + jpeg.decode_cost(
            header, wanted.at_least, with_pillow=with_pillow, turned=turned
        )

    with reserved(name, size, cost(with_pillow=False)):
        pixels = jpeg.decode_fast(data, header, wanted.at_least)
        if pixels is not None:
            return _photo(_in_srgb(pixels, profile), "JPEG", *size, exif)
    with reserved(name, size, len(data) + cost(with_pillow=True)), logged_warnings(name):
        try:
            image = _load_jpeg_with_pillow(data, header, wanted.at_least)
        except (OSError, ValueError) as error:
            pixels = _part_of_jpeg(wanted, header, error)
        else:
            return _photo(_pixels(image, 1, profile), "JPEG", *size, exif)
        return _photo(_in_srgb(pixels, profile), "JPEG", *size, exif)


def _check_jpeg_kind(header: jpeg.Header, name: str) -> None:
    kind = header.coding
    if header.bits != 8:
        kind = f"{header.bits}-bit"
    elif header.channels not in (1, 3, 4):
        kind = f"{header.channels}-channel"
    if kind:
        raise UnsupportedFormat(
            name, f"a {kind} JPEG, which is not read: save it as an ordinary JPEG or as PNG"
        )


def _load_jpeg_with_pillow(data: bytes, header: jpeg.Header, at_least: int | None) -> Image.Image:
    """Decode a JPEG that libjpeg complains of. Without an end, each pixel must be proven."""
    if jpeg.has_end(data):
        try:
            return jpeg.load_with_pillow(data, header, at_least)
        except OSError:
            picture = jpeg.whole_picture(data)
            if picture is None:
                raise
    else:
        picture = jpeg.whole_picture(data)
        if picture is None:
            raise ValueError("truncated")
    return jpeg.load_with_pillow(picture, header, at_least)


def _part_of_jpeg(wanted: _Wanted, header: jpeg.Header, error: Exception) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG that is cut short if that is accepted; else raise why not."""
    reason = _reason("JPEG", error)
    part = None
    if reason.endswith("cut short"):
        part = jpeg.decode_what_is_there(wanted.data, header, wanted.at_least)
    if part is None:
        raise BrokenPhoto(wanted.name, reason) from error
    pixels, share = part
    if not wanted.accept_truncated or share < _MIN_SHARE:
        there = f": {int(100 * share)} % of the rows are there" if share < 1 else ""
        raise BrokenPhoto(wanted.name, reason + there) from error
    return pixels


def _decode_with_pillow(wanted: _Wanted) -> Photo:
    opened = open_photo(wanted.data, wanted.kind, wanted.name)
    image = opened.image
    size = width, height = image.size
    wanted.check_pixels(width, height)
    wanted.check_pixels(*opened.tile_size)
    exif = read_exif(opened.exif)
    if opened.turned_by_decoder:
        exif = replace(exif, orientation=1)
    factor = wanted.factor(width, height)
    most = min(opened.max_halvings, factor.bit_length() - 1)
    halvings = jpeg_2000.halvings(width, height, most)
    if halvings:
        image.reduce = halvings  # type: ignore[method-assign, assignment]  # For this format only.
    cost = len(wanted.data) + opened.decoder_bytes // 4**halvings
    with reserved(wanted.name, size, cost + _result_bytes(*size, factor, exif)):
        image.load()
        if halvings:
            image.reduce = 0  # type: ignore[method-assign, assignment]  # Now it is a method again.
        else:
            # A GIF's first frame can exceed its screen. Some decoders learn the size at the end.
            size = width, height = image.size
            wanted.check_pixels(width, height)
        profile = opened.profile if wanted.srgb else b""
        pixels = _pixels(image, factor >> halvings, profile, opened.grey_range)
        return _photo(pixels, wanted.kind, width, height, exif)


def _decode_jpeg_xl(wanted: _Wanted) -> Photo:
    header = jpeg_xl.read_header(wanted.data)
    size = header.width, header.height
    wanted.check_pixels(*size)
    if header.extra_channels > jpeg_xl.MAX_EXTRA_CHANNELS:
        raise UnsupportedFormat(
            wanted.name, f"a JPEG XL image with {header.extra_channels} extra channels"
        )
    exif = replace(read_exif(header.exif), orientation=1)
    factor = wanted.factor(*size)
    cost = len(wanted.data) + header.width * header.height * jpeg_xl.BYTES_PER_PIXEL
    with reserved(wanted.name, size, cost + _result_bytes(*size, factor, exif)):
        image = jpeg_xl.decode(wanted.data, wanted.name)
        return _photo(_pixels(image, factor, b""), "JXL", *image.size, exif)


def _decode_camera_raw(wanted: _Wanted) -> Photo:
    name = wanted.name
    with reserved(name, (0, 0), 3 * len(wanted.data)):
        preview, orientation = read_preview(wanted.data, name)
    exif = read_exif(wanted.data)
    taken, place = exif.taken, exif.place
    if isinstance(preview, bytes):
        photo = _decode_jpeg(replace(wanted, data=preview))
        turned = Exif(
            1 if jpeg.read_header(preview).exif else orientation,
            taken or photo.taken,
            place or photo.place,
        )
        pixels = photo.pixels
    else:
        turned, pixels = Exif(orientation, taken, place), preview
        wanted.check_pixels(pixels.shape[1], pixels.shape[0])
        photo = Photo(pixels, "RAW", pixels.shape[1], pixels.shape[0], taken)
    return _photo(pixels, "RAW", photo.width, photo.height, turned)


def _result_bytes(width: int, height: int, factor: int, exif: Exif) -> int:
    """Return the bytes that the result takes, and the largest strip while it is converted."""
    copies = 1 if exif.orientation == 1 else 2
    strip = strip_pixels(width, height, factor) * STRIP_BYTES_PER_PIXEL
    return 3 * copies * -(-width // factor) * -(-height // factor) + strip


def _pixels(
    image: Image.Image,
    factor: int,
    profile: bytes,
    grey_range: tuple[float, float] = (0.0, 65535.0),
) -> NDArray[np.uint8]:
    if profile and image.mode == "CMYK":
        return np.asarray(cmyk_to_srgb(image.reduce(factor), profile))
    return _in_srgb(to_rgb(image, factor, grey_range), profile)


def _in_srgb(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    return to_srgb(pixels, profile) if profile else pixels


def _photo(pixels: NDArray[np.uint8], kind: str, width: int, height: int, exif: Exif) -> Photo:
    upright = np.ascontiguousarray(_upright(pixels, exif.orientation))
    if exif.orientation >= 5:
        width, height = height, width
    return Photo(upright, kind, width, height, exif.taken, exif.place)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels upright: 1 to 8 as in the Exif standard (CIPA DC-008, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
