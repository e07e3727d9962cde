"""What the header of a photo says about how it is stored."""

from __future__ import annotations

import os

from veduta.errors import BrokenPhoto
from veduta.photos import jpeg
from veduta.photos.decode import _open
from veduta.photos.formats import sniff
from veduta.photos.pillow_warnings import logged_warnings

__all__ = ["colour_mode"]

_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


def colour_mode(data: bytes, *, path: str | bytes | os.PathLike[str]) -> str:
    """Return the layout of a photo's pixels as they are stored, in Pillow's words.

    "RGB" colour, "L" grey, "P" palette, "RGBA" and "LA" with transparency, "CMYK" for print, "I;16"
    16-bit grey, "1" black and white, and rarer ones. No pixel is decoded.

    Raises `BrokenPhoto` for bytes that have no such header; `decode` says what is wrong with them.
    """
    name = os.fsdecode(path)
    kind = sniff(data)
    try:
        if kind == "JPEG":
            channels = jpeg.read_header(data).channels
            return _JPEG_MODES.get(channels, f"{channels} channels")
        if kind is not None:
            with logged_warnings(name):
                return _open(data, kind).mode
    except Exception as error:  # whatever a decoder raises on bytes that strangers wrote
        raise BrokenPhoto(name, f"the {kind} header is damaged") from error
    raise BrokenPhoto(name, "no header of a photo")
