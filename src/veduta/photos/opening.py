"""Headers of all formats but JPEG: the picture that Pillow will decode, and what that will take."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from veduta.errors import UnsupportedFormat
from veduta.photos.heif import check_items, unread_codec
from veduta.photos.jpeg_2000 import max_halvings
from veduta.photos.png import read_picture
from veduta.photos.webp import picture_alone

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["OpenedPhoto", "open_photo"]

_PILLOW_CLASSES = {
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pi_heif.as_plugin", "HeifImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
}

_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Of a decoded picture in Pillow's memory, by mode. Every other mode has 4."""
_CODEC_BYTES_PER_PIXEL = {"WEBP": 12, "AVIF": 12, "HEIF": 7, "JPEG2000": 20}
"""What these decoders take besides, for planes and whole copies, as measured."""


@dataclass(frozen=True, slots=True)
class OpenedPhoto:
    """A photo whose header was read.

    Attributes:
        image: of Pillow. Its pixels are not decoded yet.
        exif: the Exif block; empty if there is none.
        profile: the ICC profile; empty if there is none.
        decoder_bytes: what the decoder takes, with the decoded picture and copies of the file.
        tile_size: width and height in pixels of a tile, which is decoded whole; zeros if none.
        turned_by_decoder: whether the decoder turns the picture upright.
        grey_range: the values of black and white in 16-bit grey.
        max_halvings: how often the decoder can halve the sides. The memory goes down with them.
    """

    image: Image.Image
    exif: bytes
    profile: bytes
    decoder_bytes: int
    tile_size: tuple[int, int] = (0, 0)
    turned_by_decoder: bool = False
    grey_range: tuple[float, float] = (0.0, 65535.0)
    max_halvings: int = 0


def open_photo(data: bytes, kind: str, name: str) -> OpenedPhoto:
    """Read the header of a photo with the Pillow class of its format.

    `PIL.Image.open` would try its own list of formats and apply its own pixel cap, which belongs to
    the whole process.

    Args:
        data: the content of the file.
        kind: its format, one of those that Pillow decodes, but not JPEG.
        name: of the photo, for messages.

    Raises:
        UnsupportedFormat: it is of a kind that is not read.
        Exception: anything that a decoder raises on bytes that do not parse.
    """
    if kind == "PNG":
        return _open_png(data)
    if kind == "TIFF":
        return _open_tiff(data, name)
    if kind == "HEIF" and (codec := unread_codec(data, check_items(data))):
        raise UnsupportedFormat(name, f"a HEIF with {codec}, which is not read: save it as JPEG")
    image = _open_webp(data) if kind == "WEBP" else _open_with_pillow(io.BytesIO(data), kind)
    return OpenedPhoto(
        image,
        image.info.get("exif") or b"",  # pi_heif says None where there is none.
        image.info.get("icc_profile") or b"",
        _picture_bytes(image, kind),
        turned_by_decoder=kind == "HEIF",
        max_halvings=max_halvings(data) if kind == "JPEG2000" else 0,
    )


def _open_webp(data: bytes) -> Image.Image:
    try:
        return _open_with_pillow(io.BytesIO(data), "WEBP")
    except (SyntaxError, OSError):
        return _open_with_pillow(io.BytesIO(picture_alone(data)), "WEBP")


def _open_with_pillow(file: io.BytesIO, kind: str) -> Image.Image:
    module, name = _PILLOW_CLASSES[kind]
    image: Image.Image = getattr(import_module(module), name)(file)
    return image


def _picture_bytes(image: Image.Image, kind: str) -> int:
    bytes_per_pixel = _BYTES_PER_PIXEL.get(image.mode, 4) + _CODEC_BYTES_PER_PIXEL.get(kind, 0)
    if image.info.get("bit_depth", 8) > 8:  # pi_heif tells it. The planes take twice as much.
        bytes_per_pixel += 6
    return image.width * image.height * bytes_per_pixel


def _open_png(data: bytes) -> OpenedPhoto:
    picture = read_picture(data)
    image = _open_with_pillow(io.BytesIO(picture.file), "PNG")
    return OpenedPhoto(
        image,
        picture.exif,
        picture.profile,
        _picture_bytes(image, "PNG") + len(picture.file),
    )


def _open_tiff(data: bytes, name: str) -> OpenedPhoto:
    from veduta.photos.tiff import open_tiff

    image = open_tiff(data, name)
    picture_bytes = _picture_bytes(image, "TIFF") * (2 if image.is_turned() else 1)
    return OpenedPhoto(
        image,
        data,  # The file itself is an Exif block.
        image.info.get("icc_profile") or b"",
        picture_bytes + image.buffer_bytes() + len(data),  # The file was copied.
        image.tile_size(),
        turned_by_decoder=True,
        grey_range=image.grey_range,
    )
