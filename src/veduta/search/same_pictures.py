"""Which photos of an answer are copies: of the query, or of a photo before them.

Copies are files of the same content, or of the same picture saved again
(`veduta.photos.same_picture`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.photos import perceptual_hash
from veduta.photos.bit_counts import bit_counts
from veduta.photos.same_picture import (
    MAX_SAME_BITS,
    MIN_CONTRAST,
    MIN_CORRELATION,
    luma_correlation,
    luma_grid,
    thumbnail_grid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot

__all__ = ["Picture", "Thumbnails", "pictures_of_rows", "same_pictures"]

Thumbnails = Callable[[Sequence[int]], list[bytes]]
"""Returns the thumbnails of rows by their ids, as JPEG."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is compared of a photo. It has either an id or pixels.

    Attributes:
        hash: perceptual hash.
        content: hash of the file; None if that is not known.
        id: of the row, for its thumbnail.
        pixels: (H, W, 3) uint8 RGB.
    """

    hash: int
    content: bytes | None = None
    id: int | None = None
    pixels: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Picture:
        """Return a photo that is not in the index."""
        return cls(perceptual_hash(pixels), pixels=pixels)


def pictures_of_rows(snapshot: Snapshot, rows: NDArray[np.intp]) -> list[Picture]:
    """Return photos of an index.

    Args:
        snapshot: of the index.
        rows: (n,) of the snapshot.
    """
    columns = snapshot.rows_at(rows, ["id", "content", "perceptual_hash"]).to_pylist()
    return [Picture(row["perceptual_hash"], row["content"], row["id"]) for row in columns]


def same_pictures(pictures: Sequence[Picture], thumbnails: Thumbnails) -> list[list[int]]:
    """Return for each picture the positions of those before it that are the same.

    Args:
        pictures: n pictures.
        thumbnails: is called at most once.
    """
    hashes = np.array([picture.hash for picture in pictures], np.uint64)
    near = [
        np.flatnonzero(bit_counts(hashes[:position] ^ one) <= MAX_SAME_BITS).tolist()
        for position, one in enumerate(hashes)
    ]
    doubtful = {
        position
        for later, before in enumerate(near)
        for earlier in before
        if not _same_bytes(pictures[earlier], pictures[later])
        for position in (earlier, later)
    }
    grids = _grids({position: pictures[position] for position in sorted(doubtful)}, thumbnails)
    return [
        [
            earlier
            for earlier in before
            if _same_bytes(pictures[earlier], pictures[later])
            or _correlate(grids[earlier], grids[later])
        ]
        for later, before in enumerate(near)
    ]


def _same_bytes(one: Picture, other: Picture) -> bool:
    return one.content is not None and one.content == other.content


def _correlate(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> bool:
    if one is None or other is None:
        return False
    return float(luma_correlation(one[None], other[None])[0]) >= MIN_CORRELATION


def _grids(
    pictures: dict[int, Picture], thumbnails: Thumbnails
) -> dict[int, NDArray[np.uint8] | None]:
    """Return the luma of each picture; None without a thumbnail or without contrast."""
    ids = {position: one.id for position, one in pictures.items() if one.id is not None}
    jpegs = thumbnails(list(ids.values())) if ids else []
    grids = {position: thumbnail_grid(jpeg) for position, jpeg in zip(ids, jpegs, strict=True)}
    for position, one in pictures.items():
        if one.pixels is not None:
            grid = luma_grid(one.pixels)
            grids[position] = grid if grid.std() >= MIN_CONTRAST else None
    return grids
