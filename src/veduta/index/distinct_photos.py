"""The different photos of a snapshot. Rows with the same content are one photo.

The photos are in the order of their content hashes. This order does not depend on rows, ids or
paths. So what is computed in it is the same, however the collection was put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.index.snapshot import Snapshot

__all__ = [
    "SAMPLE_PHOTOS",
    "DistinctPhotos",
    "content_hashes",
    "distinct_photos",
    "first_of_copies",
    "largest_hashes",
    "sample_rows",
    "smallest_hashes",
]

SAMPLE_PHOTOS = 1024
"""How many photos of a collection tell which similarity is usual."""

_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class DistinctPhotos:
    """The m different photos of n rows.

    Attributes:
        contents: (m,) S32, their content hashes, ascending.
        row_of_photo: (m,) a row of each photo.
        photo_of_row: (n,) int32, the photo of each row.
    """

    contents: NDArray[np.bytes_]
    row_of_photo: NDArray[np.intp]
    photo_of_row: NDArray[np.int32]


def content_hashes(snapshot: Snapshot) -> NDArray[np.bytes_]:
    """Return the content hash of each photo.

    Args:
        snapshot: of n photos.

    Returns:
        (n,) S32. NumPy leaves out zero bytes at the end of such a value. They compare rightly all
        the same, because all hashes have the same length.
    """
    import pyarrow as pa

    if not snapshot.photos:
        return np.empty(0, f"S{_HASH_BYTES}")
    column = snapshot.rows["content"].slice(0, snapshot.photos)
    hashes = column.cast(pa.binary(_HASH_BYTES)).combine_chunks()
    return np.frombuffer(hashes.buffers()[1], f"S{_HASH_BYTES}")[hashes.offset :][: len(hashes)]


def distinct_photos(snapshot: Snapshot) -> DistinctPhotos:
    """Return the different photos of a snapshot.

    Args:
        snapshot: of n photos.
    """
    contents, rows, photos = np.unique(
        content_hashes(snapshot), return_index=True, return_inverse=True
    )
    return DistinctPhotos(contents, rows, photos.astype(np.int32))


def first_of_copies(snapshot: Snapshot, rows: Sequence[int]) -> list[int]:
    """Return for each of some rows the first of them that has the same content.

    Args:
        snapshot: of the collection.
        rows: numbers of its rows, in any order.
    """
    import pyarrow as pa

    contents = snapshot.rows["content"].take(pa.array(rows, pa.int64())).to_pylist()
    first: dict[bytes | None, int] = {}
    return [first.setdefault(content, row) for content, row in zip(contents, rows, strict=True)]


def sample_rows(snapshot: Snapshot) -> NDArray[np.intp]:
    """Return rows that represent a collection: the photos with the smallest content hashes.

    A hash is as good as a random number, so this is a random sample (A. Broder, On the resemblance
    and containment of documents, SEQUENCES 1997). A new photo changes at most one photo of it.

    Args:
        snapshot: of the collection.

    Returns:
        One row for each of at most `SAMPLE_PHOTOS` different photos, in the order of their hashes.
    """
    return smallest_hashes(snapshot, SAMPLE_PHOTOS)


def smallest_hashes(snapshot: Snapshot, number: int) -> NDArray[np.intp]:
    """Return the photos of a collection with the smallest content hashes.

    Args:
        snapshot: of the collection.
        number: of photos.

    Returns:
        One row for each of at most `number` different photos, in the order of their hashes.
    """
    return _of_smallest(_hash_numbers(snapshot), number)


def largest_hashes(snapshot: Snapshot, number: int) -> NDArray[np.intp]:
    """Return the photos of a collection with the largest content hashes.

    They are another sample than `smallest_hashes`, as long as the collection is larger than both.

    Args:
        snapshot: of the collection.
        number: of photos.

    Returns:
        One row for each of at most `number` different photos, the largest hash first.
    """
    return _of_smallest(~_hash_numbers(snapshot), number)


def _hash_numbers(snapshot: Snapshot) -> NDArray[np.uint64]:
    """Return the first eight bytes of each hash as a number, which sorts as the hash does."""
    return content_hashes(snapshot).view(">u8")[:: _HASH_BYTES // 8].astype(np.uint64)


def _of_smallest(numbers: NDArray[np.uint64], number: int) -> NDArray[np.intp]:
    """Return one row for each of the smallest different numbers, ascending."""
    smallest = np.unique(numbers)[:number]
    if not len(smallest):
        return np.empty(0, np.intp)
    rows = np.flatnonzero(numbers <= smallest[-1])
    _, first = np.unique(numbers[rows], return_index=True)
    return rows[first]
