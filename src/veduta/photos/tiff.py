"""TIFF: which kinds are read, and where Pillow needs help to read them rightly.

Pillow decodes some kinds to wrong pixels without an error. The list here comes from a comparison
with another reader over bits, signs, layouts, compressions, predictors, tiles and byte orders.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, TiffImagePlugin

from veduta.errors import UnsupportedFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TiffImage", "open_tiff"]

_COMPRESSION, _PHOTOMETRIC, _BITS, _STRIP_ROWS = 259, 262, 258, 278
_ORIENTATION, _SAMPLES, _PLANAR = 274, 277, 284
_TILE_WIDTH, _TILE_HEIGHT, _SAMPLE_FORMAT = 322, 323, 339
_EXTRA_SAMPLES, _YCBCR_SUBSAMPLING = 338, 530

_NOT_COMPRESSED, _LZW = 1, 5
_MIN_IS_WHITE, _YCBCR = 0, 6
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3

_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34925, 50000})
"""None, the fax codes, LZW, JPEG old and new, Deflate old and new, PackBits, LZMA, Zstandard."""

_PICTURE_TAGS = frozenset(
    {*range(254, 267), *range(273, 282), 284, *range(290, 294), 301, *range(317, 330)}
    | {*range(332, 348), *range(512, 533), *range(32995, 32999)}
)
_XMP, _PROFILE = 700, 34675
_BYTES_TYPES = frozenset({1, 7})
_TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), start=1))

_GREY_WITH_ALPHA = frozenset({"LA", "La", "PA"})

_UNKNOWN_KIND = ("unknown pixel mode", "Windows Media Photo")
_TAGS_OF_PICTURES = range(254, 1000)

# libtiff returns values in the order of this machine, whatever that of the file is.
_NATIVE_ORDER = {"I;32BS": "I;32NS", "I;16BS": "I;16NS", "F;32BF": "F;32NF"}


class TiffImage(TiffImagePlugin.TiffImageFile):
    """Pillow's reader, without its own pixel cap, which belongs to the whole process."""

    grey_range = (0.0, 65535.0)
    """The values of black and white in 16-bit grey, which Pillow does not invert itself."""

    def load_prepare(self) -> None:
        """Allocate the picture as Pillow does, without its pixel cap."""
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]
        super().load_prepare()

    def _setup(self) -> None:
        """Let libtiff decode what Pillow would unpack wrongly itself."""
        tags = self.tag_v2
        compression = tags.get(_COMPRESSION)
        planes = tags.get(_PLANAR, 1) == 2
        if compression in (None, _NOT_COMPRESSED) and (planes or _is_subsampled(tags)):
            # Pillow gives everything that is compressed to libtiff, which reads the tag itself.
            tags[_COMPRESSION] = _LZW
            super()._setup()
            tags[_COMPRESSION] = _NOT_COMPRESSED
        else:
            super()._setup()
        if self.use_load_libtiff:
            tile = self.tile[0]
            raw_mode, *rest = tuple(tile.args or ())
            native = (_NATIVE_ORDER.get(raw_mode, raw_mode), *rest)
            self.tile = [tile._replace(args=native)]

    def tile_size(self) -> tuple[int, int]:
        """Return width and height of a tile in pixels; zeros if there are no tiles."""
        tags = self.tag_v2
        return _integer(tags.get(_TILE_WIDTH), 0), _integer(tags.get(_TILE_HEIGHT), 0)

    def buffer_bytes(self) -> int:
        """Return the size of the largest tile or strip, which is unpacked whole."""
        tags = self.tag_v2
        width, height = self._tile_size
        samples = _integer(tags.get(_SAMPLES), 1) * max(_bits(tags)) // 8 + 1
        tile_width, tile_height = self.tile_size()
        tile = tile_width * tile_height
        strip = width * min(height, _integer(tags.get(_STRIP_ROWS), height))
        return max(samples, 4) * (tile or strip)

    def is_turned(self) -> bool:
        """Return whether Pillow turns the picture, which takes a copy."""
        return bool(self.tag_v2.get(_ORIENTATION, 1) != 1)


def open_tiff(data: bytes, name: str) -> TiffImage:
    """Read the directory of a TIFF.

    Args:
        data: the content of the file.
        name: of the photo, for messages.

    Returns:
        The image. Its pixels are not decoded yet.

    Raises:
        UnsupportedFormat: it is of a kind that is not decoded rightly.
        Exception: anything that Pillow raises on bytes that do not parse.
    """
    try:
        image = TiffImage(io.BytesIO(_without_metadata(data)))
    except SyntaxError as error:
        # The number of a compression that Pillow does not know, or of a tag that is missing.
        reason = str(error)
        if reason.isdigit() and int(reason) not in _TAGS_OF_PICTURES:
            raise _unsupported(name, f"compression {reason}") from error
        if reason.startswith(_UNKNOWN_KIND):
            raise _unsupported(name, "its layout of bits and colours") from error
        raise
    tags = image.tag_v2
    compression = tags.get(_COMPRESSION, _NOT_COMPRESSED)
    if compression not in _COMPRESSIONS:
        raise _unsupported(name, f"compression {compression}")
    _set_layout(image, name)
    return image


def _without_metadata(data: bytes) -> bytes:
    """Return a TIFF with odd metadata as one whose directory has only what the pixels need.

    Pillow stops reading a directory at the first value that lies beyond the end of the file, and
    fails on metadata of an odd type.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return data
    is_big = data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(order + "Q", data, 8)[0] if is_big else 0
    start = start or struct.unpack_from(order + "I", data, 4)[0]
    counts, entry_bytes = (order + "Q", 20) if is_big else (order + "H", 12)
    first = start + struct.calcsize(counts)
    if first > len(data):
        return data
    count = struct.unpack_from(counts, data, start)[0]
    if first + count * entry_bytes > len(data):
        return data
    layout = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
    table = data[first : first + count * entry_bytes]
    entries = [_Entry(*fields) for fields in layout.iter_unpack(table)]
    if not any(entry.is_odd(len(data), 8 if is_big else 4) for entry in entries):
        return data
    kept = [layout.pack(*entry) for entry in entries if entry.tag in _PICTURE_TAGS]
    head = struct.pack(counts, len(kept)) + b"".join(kept) + b"\0" * (8 if is_big else 4)
    return b"".join((data[:start], head, data[start + len(head) :]))


class _Entry(NamedTuple):
    """A line of a directory."""

    tag: int
    kind: int
    values: int
    place: int
    """Of the values in the file, or the values themselves if they are short."""

    def is_odd(self, file_bytes: int, inline_bytes: int) -> bool:
        """Return whether the pixels do not need this, and Pillow cannot read it."""
        if self.tag in _PICTURE_TAGS:
            return False
        if self.tag in (_XMP, _PROFILE) and self.kind not in _BYTES_TYPES:
            return True
        size = self.values * _TYPE_BYTES.get(self.kind, 0)
        return size > inline_bytes and self.place + size > file_bytes


def _set_layout(image: TiffImage, name: str) -> None:
    tags = image.tag_v2
    bits = max(_bits(tags))
    kind = _first(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))
    photometric = tags.get(_PHOTOMETRIC, _MIN_IS_WHITE)
    if kind == _SIGNED and bits == 8:
        raise _unsupported(name, "8 bits with a sign")
    if kind == _UNSIGNED and bits == 32:
        raise _unsupported(name, "32 bits without a sign")
    if kind == _FLOAT and photometric == _MIN_IS_WHITE:
        raise _unsupported(name, "floating grey whose least value is white")
    greatest = 4095.0 if bits == 12 else 65535.0
    image.grey_range = (greatest, 0.0) if photometric == _MIN_IS_WHITE else (0.0, greatest)
    extra = tags.get(_EXTRA_SAMPLES, ())
    if tags.get(_PLANAR, 1) == 2 and (
        image.mode in _GREY_WITH_ALPHA or (len(extra) > 1 and max(extra) > 0)
    ):
        raise _unsupported(name, "separate planes with alpha")


def _unsupported(name: str, kind: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        name, f"a TIFF of a kind that is not read ({kind}): export it with 8 or 16 bits"
    )


def _is_subsampled(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    return tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_YCBCR_SUBSAMPLING, (2, 2)) != (1, 1)


def _bits(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Sequence[int]:
    bits = tags.get(_BITS, (1,))
    return bits if isinstance(bits, tuple) and bits else (_integer(bits, 1),)


def _first(value: object) -> object:
    return value[0] if isinstance(value, tuple) and value else value


def _integer(value: object, default: int) -> int:
    first = _first(value)
    return first if isinstance(first, int) else default
