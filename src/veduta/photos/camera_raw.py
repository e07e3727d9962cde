"""Camera raw files: the preview that the camera has put into them.

The sensor's values are not developed. LibRaw (package rawpy) finds the preview in the files of all
makers. It belongs to the extra `veduta[formats]`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from veduta.errors import UnsupportedFormat
from veduta.photos.exif import first_directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["is_camera_raw", "read_preview"]

_SUBFILE_TYPE, _COMPRESSION, _PHOTOMETRIC = 254, 259, 262
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706
_REDUCED = 1
_SENSOR_VALUES = frozenset({32803, 34892})
"""Photometric interpretations of DNG: a colour filter array, and linear raw."""
_MAKERS_COMPRESSIONS = frozenset({32767, 32769, 32770, 34713, 65000, 65535})
"""Of Sony, Epson, Samsung, Nikon, Kodak and Pentax."""

_ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}
"""LibRaw's number of a turn → orientation as in Exif."""


def is_camera_raw(data: bytes) -> bool:
    """Return whether a TIFF is a camera raw file.

    Args:
        data: the content of the file.
    """
    tags = first_directory(data)
    return (
        _DNG_VERSION in tags
        or (tags.get(_SUBFILE_TYPE) == _REDUCED and _SUB_DIRECTORIES in tags)
        or tags.get(_PHOTOMETRIC) in _SENSOR_VALUES
        or tags.get(_COMPRESSION) in _MAKERS_COMPRESSIONS
    )


def read_preview(data: bytes, name: str) -> tuple[bytes | NDArray[np.uint8], int]:
    """Return the largest preview of a camera raw file.

    Args:
        data: the content of the file.
        name: of the photo, for messages.

    Returns:
        A JPEG, or pixels (H, W, 3) RGB; and the orientation of the preview, as in Exif. A JPEG with
        an Exif block of its own says there how it is turned.

    Raises:
        UnsupportedFormat: the extra is not installed, or LibRaw finds no preview.
        Exception: anything that LibRaw raises on bytes that do not parse.
    """
    try:
        import rawpy
    except ImportError as error:
        raise UnsupportedFormat(
            name, "a camera raw file, whose preview is read after: pip install 'veduta[formats]'"
        ) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            orientation = _ORIENTATION_OF_FLIP.get(raw.sizes.flip, 1)
            return raw.extract_thumb().data, orientation
    except (
        rawpy.LibRawNoThumbnailError,
        rawpy.LibRawUnsupportedThumbnailError,
        rawpy.LibRawFileUnsupportedError,
    ) as error:
        raise UnsupportedFormat(
            name, "a camera raw file without a preview that is read: export it as JPEG"
        ) from error
