"""Bytes to pixels: one decoder a format, upright RGB out, or a `PhotoError` that says why not."""

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
from veduta.photos.formats import looks_like, sniff
from veduta.photos.heif import check_items
from veduta.photos.modes import to_rgb
from veduta.photos.pillow_warnings import logged_warnings

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["MAX_PIXELS", "Photo", "decode"]

MAX_PIXELS = 250_000_000
"""The default cap on width × height: above any phone's camera, below what would fill the memory."""

_PLUGINS = {
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

_REDUCIBLE = frozenset({"L", "RGB", "LA", "RGBA", "CMYK"})


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One decoded photo."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, upright: Exif orientation is applied. Maybe scaled down at decode.
    Not to be written to: some decoders hand out memory that is read-only."""
    format: str
    """One of `FORMATS`."""
    width: int
    """Of the upright original, in pixels."""
    height: int
    """Of the upright original, in pixels."""
    taken: datetime | None
    """Exif DateTimeOriginal (else DateTimeDigitized, DateTime): naive local time, or None."""


def decode(
    data: bytes,
    *,
    path: str | bytes | os.PathLike[str],
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Photo:
    """Decode the bytes of a photo; `path` is only for messages.

    `at_least` allows a cheaper, smaller decode: the long side of `pixels` is then at least that
    many pixels, or the original's if that is smaller. Of animations and of files with several
    pages the first picture counts. Transparent parts become white. Colour profiles are ignored.

    Raises `UnsupportedFormat` (the bytes are of no format on the allow-list), `BrokenPhoto` (they
    do not decode) or `PhotoTooLarge` (more than `max_pixels`, told from the header).
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
            f"not a photo in a supported format but {looks_like(data)} "
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
        # Whatever a decoder raises on bytes that strangers wrote means that they do not decode.
        if type(error).__name__ == "DecompressionBombError":
            raise PhotoTooLarge(name, f"too many pixels for the {kind} decoder") from error
        raise BrokenPhoto(name, _why(kind, error)) from error


def _why(kind: str, error: Exception) -> str:
    words = " ".join(str(error).split())[:120]
    if "truncated" in words.lower() or isinstance(error, EOFError):
        return f"the {kind} data are cut short"
    return f"the {kind} data are damaged ({words})" if words else f"the {kind} data are damaged"


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
            image = jpeg.open_with_pillow(data, header, at_least)
            pixels = to_rgb(image)
    exif = read_exif(header.exif)
    return _photo(pixels, "JPEG", header.width, header.height, exif)


def _decode_with_pillow(
    data: bytes, kind: str, name: str, at_least: int | None, max_pixels: int
) -> Photo:
    image = _open(data, kind)
    _check_pixels(name, *image.size, max_pixels)
    if kind == "TIFF":
        _check_tiff(image, name, max_pixels)
    image.load()
    width, height = image.size
    _check_pixels(name, width, height, max_pixels)  # a GIF's first frame can exceed its screen
    # Pillow turns a TIFF upright as it loads it, libheif a HEIF: theirs must not be turned again.
    block = data if kind == "TIFF" else image.info.get("exif", b"")
    exif = read_exif(block)
    if kind in ("TIFF", "HEIF"):
        exif = Exif(taken=exif.taken)
    if at_least is not None and image.mode in _REDUCIBLE and "transparency" not in image.info:
        factor = max(width, height) // at_least
        if factor >= 2:
            image = image.reduce(factor)
    return _photo(to_rgb(image), kind, width, height, exif)


def _open(data: bytes, kind: str) -> Image.Image:
    """Read the header by the format's own class.

    `PIL.Image.open` would try its own list of formats and enforce its own, process-wide pixel cap.
    """
    if kind == "HEIF":
        check_items(data)
    module, plugin = _PLUGINS[kind]
    image: Image.Image = getattr(import_module(module), plugin)(io.BytesIO(data))
    return image


def _check_tiff(image: Image.Image, name: str, max_pixels: int) -> None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    reduced = tags.get(_TIFF_SUBFILE_TYPE, 0)
    if _DNG_VERSION in tags or (reduced == 1 and _TIFF_SUB_DIRECTORIES in tags):
        raise UnsupportedFormat(name, "a camera raw file: export it as JPEG or TIFF")
    # One tile is decoded whole, even where only a corner of it lies inside the picture.
    tile = tags.get(_TIFF_TILE_WIDTH, 0), tags.get(_TIFF_TILE_HEIGHT, 0)
    _check_pixels(name, *tile, max_pixels)


def _photo(pixels: NDArray[np.uint8], kind: str, width: int, height: int, exif: Exif) -> Photo:
    upright = np.ascontiguousarray(_turn(pixels, exif.orientation))
    if exif.orientation >= 5:
        width, height = height, width
    return Photo(upright, kind, width, height, exif.taken)


def _turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels upright: 1 to 8 as in the Exif standard (CIPA DC-008, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
