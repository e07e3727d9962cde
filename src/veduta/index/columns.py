"""The columns of an index, each declared once: its type, whose it is and how it is computed.

To add a column, add one entry to `COLUMNS`, and raise `FORMAT_VERSION` if it is not optional. The
schema of the table, the rows of a snapshot and the values that copies of a photo share are derived
from the entries.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from veduta import photos

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 2
"""Version of the layout of an index on disk. An index of another version is refused."""


@dataclass(frozen=True, slots=True)
class EncodedPhoto:
    """What a worker knows of a photo: the source of the columns that belong to a photo.

    Attributes:
        content: content hash of the file, 32 bytes.
        photo: the decoded photo.
        descriptor: (D,) float16, as it is stored.
    """

    content: bytes
    photo: photos.Photo
    descriptor: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table. A row is one file.

    Attributes:
        name: its name.
        arrow_type: name of an Arrow type, or a function that returns the type for descriptors of a
            given length.
        belongs_to: "photo" if files with the same content share the value, else "file".
        compute: the value from the `photos.Candidate` of a file or from the `EncodedPhoto`. None if
            `update_index` sets the value itself.
        in_snapshot: whether snapshots hold the column, for searches.
        nullable: whether the value may be null. Columns of a photo are null if it cannot be read.
        optional: whether an index may lack the column: one that an older Veduta made, or that was
            asked to.
        of_exif: whether it is computed from the Exif data of a photo alone.
    """

    name: str
    arrow_type: str | Callable[[int], pa.DataType]
    belongs_to: Literal["file", "photo"]
    compute: Callable[[Any], object] | None = None
    in_snapshot: bool = True
    nullable: bool = True
    optional: bool = False
    of_exif: bool = False


def descriptor_checksum(descriptor: NDArray[np.float16]) -> int:
    """Return the CRC-32 of a stored descriptor, (D,) float16, as `veduta check` compares it."""
    return zlib.crc32(descriptor.astype("<f2").tobytes())


def descriptor_is_sound(descriptor: NDArray[np.float16], checksum: int | None) -> bool:
    """Return whether a stored descriptor matches its checksum and has finite numbers.

    Args:
        descriptor: (D,) float16.
        checksum: from `descriptor_checksum`.
    """
    return descriptor_checksum(descriptor) == checksum and bool(np.isfinite(descriptor).all())


def _place(encoded: EncodedPhoto, part: int) -> float | None:
    place = encoded.photo.place
    return None if place is None else place[part]


def _descriptor_type(dimension: int) -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.float16(), dimension)


COLUMNS = (
    Column("id", "int64", "file", nullable=False),
    Column("path", "binary", "file", lambda file: file.path, nullable=False),
    Column("size", "int64", "file", lambda file: file.size),
    Column("mtime_ns", "int64", "file", lambda file: file.mtime_ns),
    Column("content", "binary", "photo", lambda encoded: encoded.content),
    Column("label", "string", "file"),
    Column("format", "string", "photo", lambda encoded: encoded.photo.format),
    Column("width", "int32", "photo", lambda encoded: encoded.photo.width),
    Column("height", "int32", "photo", lambda encoded: encoded.photo.height),
    Column("taken", "timestamp[s]", "photo", lambda encoded: encoded.photo.taken, of_exif=True),
    Column(
        "latitude",
        "float64",
        "photo",
        lambda encoded: _place(encoded, 0),
        optional=True,
        of_exif=True,
    ),
    Column(
        "longitude",
        "float64",
        "photo",
        lambda encoded: _place(encoded, 1),
        optional=True,
        of_exif=True,
    ),
    Column(
        "perceptual_hash",
        "uint64",
        "photo",
        lambda encoded: photos.perceptual_hash(encoded.photo.pixels),
    ),
    Column(
        "descriptor",
        _descriptor_type,
        "photo",
        lambda encoded: encoded.descriptor,
        in_snapshot=False,  # A snapshot has a file of its own for the descriptors.
    ),
    Column(
        "checksum",
        "uint32",
        "photo",
        lambda encoded: descriptor_checksum(encoded.descriptor),
        in_snapshot=False,
    ),
    Column(
        "thumbnail",
        "binary",
        "photo",
        lambda encoded: photos.thumbnail(encoded.photo.pixels),
        in_snapshot=False,
    ),
    # Where the keypoints are, see `veduta.index.keypoint_files`.
    Column("keypoints_file", "int32", "photo"),
    Column("keypoints_at", "int64", "photo"),
    Column("keypoints_size", "int32", "photo"),
    # Why the bytes give no photo, else null. Such a file is tried again after it changes, and with
    # other decoders.
    Column("problem", "string", "file"),
)


def schema(dimension: int, *, places: bool = True) -> pa.Schema:
    """Return the Arrow schema of the table.

    Args:
        dimension: length D of a descriptor.
        places: whether the index stores where photos were taken.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(
                column.name,
                pa.type_for_alias(column.arrow_type)
                if isinstance(column.arrow_type, str)
                else column.arrow_type(dimension),
                nullable=column.nullable,
            )
            for column in COLUMNS
            if places or not column.optional
        ]
    )


def snapshot_columns(known: Container[str]) -> list[str]:
    """Return the names of the columns that snapshots hold.

    Args:
        known: names of the columns that the table has.
    """
    return [column.name for column in _there(known) if column.in_snapshot]


def photo_columns(known: Container[str]) -> list[str]:
    """Return the names of the columns that files with the same content share.

    Args:
        known: names of the columns that the table has.
    """
    return [column.name for column in _there(known) if column.belongs_to == "photo"]


def _there(known: Container[str]) -> Iterator[Column]:
    return (column for column in COLUMNS if column.name in known or not column.optional)


def file_values(file: photos.Candidate) -> dict[str, Any]:
    """Return the values of the columns that are computed from a file."""
    return _values("file", file)


def photo_values(encoded: EncodedPhoto) -> dict[str, Any]:
    """Return the values of the columns that are computed from a photo."""
    return _values("photo", encoded)


def exif_values(photo: photos.Photo) -> dict[str, Any]:
    """Return the values of the columns that are computed from the Exif data of a photo."""
    encoded = EncodedPhoto(b"", photo, np.empty(0, np.float16))
    return {
        column.name: column.compute(encoded)
        for column in COLUMNS
        if column.of_exif and column.compute is not None
    }


def _values(kind: Literal["file", "photo"], source: object) -> dict[str, Any]:
    return {
        column.name: column.compute(source)
        for column in COLUMNS
        if column.belongs_to == kind and column.compute is not None
    }
