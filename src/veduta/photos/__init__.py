"""Everything that touches the bytes of a photo.

Formats are told by content and come from an allow-list (JPEG, PNG, WebP, AVIF, HEIC, TIFF, GIF,
BMP). Whatever is wrong with a file ends as a `veduta.errors.PhotoError` that names it and says why.
"""

from __future__ import annotations

import os

from veduta.errors import PhotoError
from veduta.photos.decode import MAX_PIXELS, Photo, decode
from veduta.photos.files import MAX_BYTES, Candidate, find_photos, read_bytes
from veduta.photos.formats import FORMATS
from veduta.photos.hashes import content_hash, hamming, perceptual_hash
from veduta.photos.resizing import resize, thumbnail

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Candidate",
    "Photo",
    "content_hash",
    "decode",
    "find_photos",
    "hamming",
    "load",
    "perceptual_hash",
    "preview",
    "read_bytes",
    "resize",
    "thumbnail",
]


def load(path: str | bytes | os.PathLike[str], *, at_least: int | None = None) -> Photo:
    """Read and decode a photo: `decode(read_bytes(path))`, with the errors of both."""
    return decode(read_bytes(path), path=path, at_least=at_least)


def preview(path: str | bytes | os.PathLike[str], side: int) -> bytes | None:
    """Return a photo as JPEG of at most `side` pixels; None if it is gone or does not decode.

    For pages, which say in its place that there is no picture.
    """
    try:
        return thumbnail(load(path, at_least=side).pixels, side)
    except PhotoError:
        return None
