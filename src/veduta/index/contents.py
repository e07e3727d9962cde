"""What an index holds, for reading: its photos and their descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from veduta.errors import readable
from veduta.index.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Descriptors",
    "IndexedPhoto",
    "descriptors_of",
    "holds_path",
    "ids_of_copies",
    "photos_of",
    "row_of_photo",
    "rows_of_photos",
]

_COLUMNS = ("id", "path", "label", "width", "height", "taken")
_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class IndexedPhoto:
    """A photo of an index.

    Attributes:
        path: its path. A name that is not UTF-8 holds surrogate escapes, as `os.fsdecode` makes
            them.
        label: its label, or None.
        width: of the upright photo, in pixels.
        height: of the upright photo, in pixels.
        taken: when it was taken, or None if the photo does not say.
        id: number of its row, as in `Hit.id`.
    """

    path: str
    label: str | None
    width: int
    height: int
    taken: datetime | None
    id: int


class Descriptors(NamedTuple):
    r"""The descriptors of an index with the photos they belong to.

    Attributes:
        vectors: (n, d) float16, unit rows, mapped into memory and read-only. If the index has a
            projection, they are projected.
        photos: n rows in the same order. Columns: `id` (int64), `path` (string; bytes that are not
            UTF-8 are escaped as `\xNN`), `label`, `width`, `height`, `taken`.
    """

    vectors: NDArray[np.float16]
    photos: pa.Table


def photos_of(snapshot: Snapshot) -> Iterator[IndexedPhoto]:
    """Yield the photos of a snapshot in the order of its descriptors."""
    rows = snapshot.rows.select(list(_COLUMNS)).slice(0, snapshot.photos)
    for batch in rows.to_batches(max_chunksize=_BLOCK_ROWS):
        for row in batch.to_pylist():
            yield IndexedPhoto(**{**row, "path": os.fsdecode(row["path"])})


def descriptors_of(snapshot: Snapshot) -> Descriptors:
    """Return the descriptors of a snapshot with their photos."""
    import pyarrow as pa

    rows = snapshot.rows.select(list(_COLUMNS)).slice(0, snapshot.photos)
    paths = pa.array([readable(path) for path in rows["path"].to_pylist()], pa.string())
    vectors = snapshot.descriptors.view()
    vectors.flags.writeable = False
    return Descriptors(vectors, rows.set_column(1, "path", paths))


def row_of_photo(snapshot: Snapshot, photo_id: int) -> int | None:
    """Return the row of the photo with this `IndexedPhoto.id`; None if there is none."""
    rows = rows_of_photos(snapshot, [photo_id])
    return int(rows[0]) if len(rows) else None


def rows_of_photos(snapshot: Snapshot, photo_ids: Sequence[int]) -> NDArray[np.intp]:
    """Return the rows of photos that are there, in the order of their ids.

    Args:
        snapshot: of the index.
        photo_ids: m ids of rows. Those that are not there are left out.

    Returns:
        (m,) rows.
    """
    ids, order = snapshot.ids, snapshot.order_of_ids
    wanted = np.array(photo_ids, np.int64)
    places = np.searchsorted(ids, wanted, sorter=order)
    found = places < len(ids)
    rows = order[places[found]]
    return np.asarray(rows[ids[rows] == wanted[found]], np.intp)


def ids_of_copies(snapshot: Snapshot, photo_ids: Sequence[int]) -> list[int]:
    """Return the ids of photos, and of all photos whose files have the same content.

    Args:
        snapshot: of the index.
        photo_ids: ids of rows. Those that are not there are left out.
    """
    import pyarrow.compute as pc

    rows = snapshot.rows.select(["id", "content"]).slice(0, snapshot.photos)
    contents = rows["content"].take(rows_of_photos(snapshot, photo_ids)).combine_chunks()
    ids: list[int] = rows["id"].filter(pc.is_in(rows["content"], contents)).to_pylist()
    return ids


def holds_path(snapshot: Snapshot, path: str | bytes | os.PathLike[Any]) -> bool:
    """Tell whether a photo with this path can be found in a snapshot."""
    import pyarrow as pa
    import pyarrow.compute as pc

    paths = snapshot.rows["path"].slice(0, snapshot.photos)
    wanted = os.path.abspath(os.fsencode(path))
    return int(pc.index(paths, pa.scalar(wanted, pa.binary())).as_py()) >= 0
