"""Everything that touches the bytes of a photo.

The content of a file decides its format, which must be on an allow-list (JPEG, PNG, WebP, AVIF,
HEIC, TIFF, GIF, BMP). Anything wrong with a file becomes a `veduta.errors.PhotoError` that names
the file and says why.
"""

from __future__ import annotations

import os

from veduta.errors import PhotoError
from veduta.photos.decode import MAX_PIXELS, Photo, decode
from veduta.photos.decoders import decoders
from veduta.photos.files import MAX_BYTES, Candidate, read_bytes
from veduta.photos.finding import PassedOver, find_photos
from veduta.photos.formats import FORMATS
from veduta.photos.hashes import content_hash, hamming, perceptual_hash
from veduta.photos.resizing import resize, thumbnail

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Candidate",
    "PassedOver",
    "Photo",
    "content_hash",
    "decode",
    "decoders",
    "find_photos",
    "hamming",
    "load",
    "perceptual_hash",
    "preview",
    "read_bytes",
    "resize",
    "thumbnail",
]


def load(
    path: str | bytes | os.PathLike[str],
    *,
    at_least: int | None = None,
    accept_truncated: bool = False,
) -> Photo:
    """Read and decode a photo.

    Args:
        path: the file.
        at_least: pixels of the long side, as for `decode`.
        accept_truncated: as for `decode`.

    Raises:
        PhotoError: as `read_bytes` and `decode`.
    """
    data = read_bytes(path)
    return decode(data, path=path, at_least=at_least, accept_truncated=accept_truncated)


def preview(path: str | bytes | os.PathLike[str], side: int) -> bytes | None:
    """Return a photo as a small JPEG for a page, or None if it cannot be read.

    Args:
        path: the file.
        side: long side of the JPEG, in pixels, at most.
    """
    try:
        return thumbnail(load(path, at_least=side, accept_truncated=True).pixels, side)
    except PhotoError:
        return None
