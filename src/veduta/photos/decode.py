"""Bytes to pixels: one decoder for each format. The result is upright RGB or a `PhotoError`."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import BrokenPhoto, PhotoError, PhotoTooLarge, UnsupportedFormat
from veduta.photos import jpeg
from veduta.photos.exif import Exif, read_exif
from veduta.photos.formats import describe_bytes, sniff
from veduta.photos.heif import check_items
from veduta.photos.pillow_warnings import logged_warnings
from veduta.photos.to_rgb import to_rgb

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["MAX_PIXELS", "Photo", "decode", "open_with_pillow"]

MAX_PIXELS = 250_000_000
"""The default cap on width × height: more than any phone's camera has, less than fills memory."""

_PILLOW_CLASSES = {
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pi_heif.as_plugin", "HeifImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
}

_TIFF_SUBFILE_TYPE, _TIFF_SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323

_REDUCIBLE_MODES = frozenset({"L", "RGB", "LA", "RGBA", "CMYK"})


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
    """

    pixels: NDArray[np.uint8]
    format: str
    width: int
    height: int
    taken: datetime | None


def decode(
    data: bytes,
    *,
    path: str | bytes | os.PathLike[str],
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Photo:
    """Decode the bytes of a photo.

    The first picture of an animation or of a file with several pages is decoded. Transparent parts
    become white. Colour profiles are ignored.

    Args:
        data: the content of the file.
        path: the file, for messages only.
        at_least: allows a faster, smaller decode: the long side of `pixels` then has at least so
            many pixels, or those of the original if it is smaller. >= 1. `veduta.photos.jpeg` has
            the rule for JPEG.
        max_pixels: cap on width × height, checked in the header.

    Raises:
        UnsupportedFormat: the bytes are of no format on the allow-list.
        BrokenPhoto: they do not decode.
        PhotoTooLarge: the photo has more than `max_pixels`.
        ValueError: `at_least` is below 1.
    """
    if at_least is not None and at_least < 1:
        raise ValueError(f"at_least must be 1 or more, not {at_least}")
    name = os.fsdecode(path)
    if not data:
        raise BrokenPhoto(name, "the file is empty (0 bytes)")
    kind = sniff(data)
    if kind is None:
        raise UnsupportedFormat(
            name,
            f"not a photo in a supported format but {describe_bytes(data)} "
            "(supported: JPEG, PNG, WebP, AVIF, HEIC, TIFF, GIF, BMP)",
        )
    try:
        if kind == "JPEG":
            return _decode_jpeg(data, name, at_least, max_pixels)
        with logged_warnings(name):
            return _decode_with_pillow(data, kind, name, at_least, max_pixels)
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoTooLarge(name, "not enough memory to decode it") from error
    except Exception as error:
        # A decoder raises anything on bytes that strangers wrote. It means that they do not decode.
        if type(error).__name__ == "DecompressionBombError":
            raise PhotoTooLarge(name, f"too many pixels for the {kind} decoder") from error
        raise BrokenPhoto(name, _reason(kind, error)) from error


def open_with_pillow(data: bytes, kind: str) -> Image.Image:
    """Read the header of a photo with the Pillow class of its format.

    `PIL.Image.open` would try its own list of formats and apply its own pixel cap, which belongs to
    the whole process.

    Args:
        data: the content of the file.
        kind: its format, one of `FORMATS` but not JPEG.

    Returns:
        The image. Its pixels are not decoded yet.

    Raises:
        Exception: anything that a decoder raises on bytes that do not parse.
    """
    if kind == "HEIF":
        check_items(data)
    module, name = _PILLOW_CLASSES[kind]
    image: Image.Image = getattr(import_module(module), name)(io.BytesIO(data))
    return image


def _reason(kind: str, error: Exception) -> str:
    detail = " ".join(str(error).split())[:120]
    if "truncated" in detail.lower() or isinstance(error, EOFError):
        return f"the {kind} data are cut short"
    return f"the {kind} data are damaged ({detail})" if detail else f"the {kind} data are damaged"


def _check_pixels(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PhotoTooLarge(
            name,
            f"{width} × {height} pixels are more than the cap of {max_pixels / 1e6:g} megapixels",
        )


def _decode_jpeg(data: bytes, name: str, at_least: int | None, max_pixels: int) -> Photo:
    header = jpeg.read_header(data)
    _check_pixels(name, header.width, header.height, max_pixels)
    if header.several_scans:
        jpeg.check_scans(data)
    pixels = jpeg.decode_fast(data, header, at_least)
    if pixels is None:
        with logged_warnings(name):
            pixels = to_rgb(jpeg.load_with_pillow(data, header, at_least))
    exif = read_exif(header.exif)
    return _photo(pixels, "JPEG", header.width, header.height, exif)


def _decode_with_pillow(
    data: bytes, kind: str, name: str, at_least: int | None, max_pixels: int
) -> Photo:
    image = open_with_pillow(data, kind)
    _check_pixels(name, *image.size, max_pixels)
    if kind == "TIFF":
        _check_tiff(image, name, max_pixels)
    image.load()
    width, height = image.size
    _check_pixels(name, width, height, max_pixels)  # A GIF's first frame can exceed its screen.
    exif = read_exif(data if kind == "TIFF" else image.info.get("exif", b""))
    if kind in ("TIFF", "HEIF"):
        # Pillow turns a TIFF upright as it loads it, and libheif a HEIF.
        exif = Exif(taken=exif.taken)
    if at_least is not None and image.mode in _REDUCIBLE_MODES and "transparency" not in image.info:
        factor = max(width, height) // at_least
        if factor >= 2:
            image = image.reduce(factor)
    return _photo(to_rgb(image), kind, width, height, exif)


def _check_tiff(image: Image.Image, name: str, max_pixels: int) -> None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    reduced = tags.get(_TIFF_SUBFILE_TYPE, 0)
    if _DNG_VERSION in tags or (reduced == 1 and _TIFF_SUB_DIRECTORIES in tags):
        raise UnsupportedFormat(name, "a camera raw file: export it as JPEG or TIFF")
    # A tile is decoded whole, even if only a corner of it is inside the picture.
    tile = tags.get(_TIFF_TILE_WIDTH, 0), tags.get(_TIFF_TILE_HEIGHT, 0)
    _check_pixels(name, *tile, max_pixels)


def _photo(pixels: NDArray[np.uint8], kind: str, width: int, height: int, exif: Exif) -> Photo:
    upright = np.ascontiguousarray(_upright(pixels, exif.orientation))
    if exif.orientation >= 5:
        width, height = height, width
    return Photo(upright, kind, width, height, exif.taken)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels upright: 1 to 8 as in the Exif standard (CIPA DC-008, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
