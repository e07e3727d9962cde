"""The colour mode of a photo, from its header."""

from __future__ import annotations

import os

from veduta.errors import BrokenPhoto
from veduta.photos import jpeg
from veduta.photos.camera_raw import is_camera_raw
from veduta.photos.formats import sniff
from veduta.photos.opening import open_photo
from veduta.photos.pillow_warnings import logged_warnings

__all__ = ["colour_mode"]

_MODE_OF_JPEG_CHANNELS = {1: "L", 3: "RGB", 4: "CMYK"}


def colour_mode(data: bytes, *, path: str | bytes | os.PathLike[str]) -> str:
    """Return the layout of a photo's pixels as they are stored, as Pillow names it.

    No pixel is decoded.

    Args:
        data: the content of the file.
        path: the file, for messages only.

    Returns:
        "RGB" for colour, "L" for grey, "P" for a palette, "RGBA" and "LA" with transparency, "CMYK"
        for print, "I;16" for 16-bit grey, "1" for black and white, and rarer ones.

    Raises:
        BrokenPhoto: the bytes have no such header. `decode` says what is wrong with them.
    """
    name = os.fsdecode(path)
    kind = sniff(data)
    try:
        if kind == "JPEG":
            channels = jpeg.read_header(data).channels
            return _MODE_OF_JPEG_CHANNELS.get(channels, f"{channels} channels")
        if kind in ("JXL", "RAW") or is_camera_raw(data):
            return "RGB"  # What they are decoded to.
        if kind is not None:
            with logged_warnings(name):
                return open_photo(data, kind, name).image.mode
    except Exception as error:  # A decoder raises anything on bytes that strangers wrote.
        raise BrokenPhoto(name, f"the {kind} header is damaged") from error
    raise BrokenPhoto(name, "no header of a photo")
