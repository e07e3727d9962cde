"""The thumbnails that an index keeps of its photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta.index.table import Table, Version, newest_version, open_table

__all__ = ["StoredThumbnails"]


@dataclass(frozen=True, slots=True)
class _OpenTable:
    """One version of the table.

    Attributes:
        version: changes with each commit.
        table: that is open.
        ids: (n,) of its rows, ascending.
        places: (n,) of the rows with these ids, for `Table.rows_at`.
    """

    version: Version | None
    table: Table
    ids: NDArray[np.int64]
    places: NDArray[np.int64]


class StoredThumbnails:
    """The thumbnails of an index, by the ids of its rows.

    The table stays open, and is opened again after a commit: to open it for every photo of a page
    takes longer than to read the thumbnail. Safe to use from several threads.
    """

    def __init__(self, index: Path) -> None:
        """Open nothing yet.

        Args:
            index: the folder of the index.
        """
        self._index = index
        self._opened: _OpenTable | None = None

    def read(self, ids: Sequence[int]) -> list[bytes]:
        """Return the thumbnail of each row as JPEG bytes, empty if there is no such row.

        Args:
            ids: of the rows.

        Raises:
            CollectionError: the table cannot be read.
            IndexDamaged: no version of it opens, or its data do not read.
        """
        if not len(ids):
            return []
        opened = self._newest()
        found = np.intersect1d(ids, opened.ids, return_indices=True)
        rows = opened.table.rows_at(opened.places[found[2]], ["thumbnail"])
        thumbnails = [thumbnail or b"" for thumbnail in rows["thumbnail"].to_pylist()]
        thumbnail_of = dict(zip(found[0].tolist(), thumbnails, strict=True))
        return [thumbnail_of.get(row_id, b"") for row_id in ids]

    def _newest(self) -> _OpenTable:
        version = newest_version(self._index)
        opened = self._opened
        if opened is None or opened.version != version:
            table = open_table(self._index)
            batches = [batch["id"].to_numpy() for batch in table.batches(["id"], rows=65_536)]
            ids = np.concatenate([np.empty(0, np.int64), *batches])
            places = np.argsort(ids)
            opened = self._opened = _OpenTable(version, table, ids[places], places)
        return opened
