"""Copies of one photo as one hit: files of the same content, or of the same picture saved again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from veduta.photos import hamming
from veduta.photos.same_picture import (
    MAX_SAME_BITS,
    MIN_CORRELATION,
    luma_correlation,
    thumbnail_grid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot
    from veduta.search.hit import Hit

__all__ = ["fold_copies"]


@dataclass(slots=True, eq=False)
class _Picture:
    """What is compared of a hit.

    Attributes:
        id: of the row.
        content: hash of the file.
        hash: perceptual hash.
    """

    id: int
    content: bytes
    hash: int


@dataclass(slots=True, eq=False)
class _Group:
    best: Hit
    pictures: list[_Picture]
    copies: list[str] = field(default_factory=list)


def fold_copies(
    hits: Sequence[Hit],
    rows: NDArray[np.intp],
    snapshot: Snapshot,
    thumbnails: Callable[[Sequence[int]], list[bytes]],
) -> list[Hit]:
    """Return the best hit of each photo, with the paths of its copies.

    Args:
        hits: best first.
        rows: (n,) rows of the snapshot that the hits are among.
        snapshot: that was searched.
        thumbnails: returns the thumbnails of rows by their ids, as JPEG.

    Returns:
        The hits that are no copy of one before them. `Hit.copies` has the paths of the others.
    """
    columns = snapshot.rows.select(["id", "content", "perceptual_hash"]).take(rows).to_pylist()
    pictures = {
        row["id"]: _Picture(row["id"], row["content"], row["perceptual_hash"]) for row in columns
    }
    grids = _Grids(thumbnails)
    groups: list[_Group] = []
    for hit in hits:
        picture = pictures[hit.id]
        group = next((group for group in groups if grids.any_same(picture, group.pictures)), None)
        if group is None:
            groups.append(_Group(hit, [picture]))
        else:
            group.pictures.append(picture)
            group.copies.append(hit.path)
    return [replace(group.best, copies=tuple(group.copies)) for group in groups]


class _Grids:
    """Compares pictures; reads a thumbnail when it is needed for the first time."""

    def __init__(self, thumbnails: Callable[[Sequence[int]], list[bytes]]) -> None:
        self._thumbnails = thumbnails
        self._grid_of: dict[int, NDArray[np.uint8] | None] = {}

    def any_same(self, picture: _Picture, others: Sequence[_Picture]) -> bool:
        """Return whether a picture is the same as one of several others."""
        return any(self._is_same(picture, other) for other in others)

    def _is_same(self, one: _Picture, other: _Picture) -> bool:
        if one.content == other.content:
            return True
        if hamming(one.hash, other.hash) > MAX_SAME_BITS:
            return False
        first, second = self._grid(one.id), self._grid(other.id)
        if first is None or second is None:
            return False
        return float(luma_correlation(first[None], second[None])[0]) >= MIN_CORRELATION

    def _grid(self, row_id: int) -> NDArray[np.uint8] | None:
        """Return the luma of a photo; None without a thumbnail or without contrast."""
        if row_id not in self._grid_of:
            self._grid_of[row_id] = thumbnail_grid(self._thumbnails([row_id])[0])
        return self._grid_of[row_id]
