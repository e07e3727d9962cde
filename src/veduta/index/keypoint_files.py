"""The keypoints of an index: files that only grow, one a run that added photos.

Some 35 kB a photo are too much to be copied into each snapshot, and a search wants those of fifty
photos at once without opening the table. So a row holds a place: the number of a file, an offset
and a size. The file is on the disk before the row is committed; a file that no row points into is
removed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from veduta.errors import IndexDamaged, readable
from veduta.files import sync
from veduta.index.table import storage_error
from veduta.keypoints import Keypoints

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index.snapshot import Snapshot

FOLDER = "keypoints"
COLUMNS = ("keypoints_file", "keypoints_at", "keypoints_size")


class Place(NamedTuple):
    """Where the keypoints of one photo are. `size` is in bytes."""

    file: int
    at: int
    size: int


class KeypointWriter:
    """Appends to a new file, which is made at the first photo."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._number = max(_numbers(index), default=-1) + 1
        self._at = 0

    def append(self, packed: Sequence[bytes]) -> list[Place]:
        """Write the keypoints of some photos; they are on the disk when this returns.

        Raises:
            StorageFull, CollectionError: the disk does not take them.
        """
        if not packed:
            return []
        path = _path(self._index, self._number)
        try:
            new = not path.exists()
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.truncate(self._at)  # what a failed commit may have left
                places = []
                for data in packed:
                    places.append(Place(self._number, self._at, len(data)))
                    file.write(data)
                    self._at += len(data)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync(path.parent)
        except OSError as error:
            raise storage_error(error, self._index, "write") from error
        return places


class KeypointReader:
    """Reads keypoints by their place. Safe to use from several threads."""

    def __init__(self, index: Path) -> None:
        self._index = index

    def read(self, place: Place, width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo of `width` × `height` pixels.

        Raises:
            IndexDamaged: they do not read back.
        """
        path = _path(self._index, place.file)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(place.at)
                data = file.read(place.size)
            return Keypoints.unpack(data, width, height)
        except (OSError, ValueError) as error:
            raise IndexDamaged(
                f"{readable(path)}: the keypoints at {place.at:,} do not read ({error}). "
                f"Mend it with: veduta repair --index {readable(self._index)}"
            ) from error


class StoredKeypoints:
    """The keypoints of the photos of a snapshot, by row. Safe to use from several threads."""

    def __init__(self, index: Path, snapshot: Snapshot) -> None:
        self._reader = KeypointReader(index)
        columns = (*COLUMNS, "width", "height")
        rows = snapshot.rows.slice(0, snapshot.photos)
        self._places = np.stack([rows[name].to_numpy() for name in columns], axis=1)

    def shared(self, row: int, others: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Return which of the rows `others` (m,) are copies of the file in `row`, (m,) bool."""
        copies: NDArray[np.bool_] = (self._places[others] == self._places[row]).all(axis=1)
        return copies

    def read(self, row: int) -> Keypoints:
        """Return the keypoints of the photo in `row`.

        Args:
            row: of the snapshot.

        Raises:
            IndexDamaged: they cannot be read.
        """
        file, at, size, width, height = self._places[row].tolist()
        return self._reader.read(Place(file, at, size), width, height)


def remove_unused(index: Path, used: set[int]) -> None:
    """Remove the files that no row points into."""
    for number in set(_numbers(index)) - used:
        _path(index, number).unlink(missing_ok=True)


def _numbers(index: Path) -> list[int]:
    folder = index / FOLDER
    if not folder.is_dir():
        return []
    return [int(file.stem) for file in folder.glob("*.bin") if file.stem.isdecimal()]


def _path(index: Path, number: int) -> Path:
    return index / FOLDER / f"{number:08}.bin"
