"""The keypoints of an index: files that only grow, one for each run that added photos.

The keypoints of a photo take about 35 kB, too much to be copied into each snapshot, and a search
reads those of fifty photos without opening the table. So a row holds a place: the number of a file,
an offset and a size. The file is on the disk before the row is committed. A file to which no row
points is removed. If the index describes regions of its photos, the codes of the regions follow the
keypoints of the photo (`veduta.index.region_codes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from veduta.errors import IndexDamaged, readable
from veduta.files import AppendOnlyFile, open_regular, remove_path, sync, system_failure
from veduta.index import region_codes
from veduta.index.storage_errors import index_errors, repair_command, storage_error
from veduta.keypoints import Extractor, Keypoints, extractor_class

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from veduta.index.manifest import Manifest
    from veduta.index.snapshot import Snapshot

FOLDER = "keypoints"
COLUMNS = ("keypoints_file", "keypoints_at", "keypoints_size")
"""The columns of a row with its place."""

_KEPT_PHOTOS = 128
"""The keypoints of so many photos are kept in memory, about 75 kB each. A search whose query is
turned verifies the same photos again."""


class Place(NamedTuple):
    """Where the keypoints of one photo are stored.

    Attributes:
        file: the number of the file.
        offset: in bytes.
        size: in bytes.
    """

    file: int
    offset: int
    size: int


def keypoint_places(rows: pa.RecordBatch) -> list[Place]:
    """Return the places of the keypoints of some photos.

    Args:
        rows: with the columns `COLUMNS`, none of them null.
    """
    columns = [rows.column(name).to_pylist() for name in COLUMNS]
    return list(map(Place, *columns))


class KeypointWriter:
    """Appends to a new file, which is made for the first photo."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._number = max(_file_numbers(index), default=-1) + 1
        self._end = 0

    def append(self, packed: Sequence[bytes], regions: Sequence[bytes] = ()) -> list[Place]:
        """Write the keypoints of some photos. They are on the disk when this returns.

        Args:
            packed: one entry for each photo, from `Keypoints.pack`.
            regions: what follows each of them, from `region_codes.pack`. Empty: nothing.

        Returns:
            The place of each photo.

        Raises:
            StorageFull: the disk has no room for them.
            CollectionError: they cannot be written.
        """
        if not packed:
            return []
        regions = regions or [b""] * len(packed)
        entries = [keypoints + codes for keypoints, codes in zip(packed, regions, strict=True)]
        path = file_path(self._index, self._number)
        try:
            is_new = not path.exists()
            path.parent.mkdir(exist_ok=True)
            # What a failed append may have left is cut off.
            file = AppendOnlyFile(path, end=self._end)
            try:
                file.append(b"".join(entries), durable=True)
            finally:
                file.close()
            if is_new:
                sync(path.parent)
        except OSError as error:
            raise storage_error(error, self._index, "write") from error
        offsets = np.cumsum([self._end, *map(len, entries)]).tolist()
        self._end = offsets.pop()
        return [
            Place(self._number, offset, len(data))
            for offset, data in zip(offsets, packed, strict=True)
        ]


class KeypointReader:
    """Reads keypoints by their place. Safe to use from several threads."""

    def __init__(self, index: Path) -> None:
        self._index = index

    def read(self, place: Place, width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo.

        Args:
            place: where they are stored.
            width: of the upright photo, in pixels.
            height: of the upright photo, in pixels.

        Raises:
            IndexDamaged: they cannot be read.
        """
        data = self._bytes(place.file, place.offset, place.size, "keypoints")
        try:
            return Keypoints.unpack(data, width, height)
        except ValueError as error:
            raise self._damaged(place.file, place.offset, "keypoints", error) from error

    def read_regions(self, place: Place, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the codes of the regions of one photo.

        Args:
            place: of its keypoints, which the codes follow.
            shape: r, b: number of regions, bytes of a code.

        Returns:
            (r, b).

        Raises:
            IndexDamaged: they cannot be read.
        """
        offset = place.offset + place.size
        data = self._bytes(place.file, offset, region_codes.packed_size(shape), "codes of regions")
        try:
            return region_codes.unpack(data, shape)
        except ValueError as error:
            raise self._damaged(place.file, offset, "codes of regions", error) from error

    def _bytes(self, number: int, offset: int, size: int, what: str) -> bytes:
        try:
            with open_regular(file_path(self._index, number)) as file:
                file.seek(offset)
                return file.read(size)
        except (OSError, ValueError) as error:
            if system_failure(error) is not None:
                raise storage_error(error, self._index, "read") from error
            raise self._damaged(number, offset, what, error) from error

    def _damaged(self, number: int, offset: int, what: str, error: Exception) -> IndexDamaged:
        return IndexDamaged(
            f"{readable(file_path(self._index, number))}: the {what} at {offset:,} cannot be read "
            f"({error}). Repair it with: {repair_command(self._index)}"
        )


class StoredKeypoints:
    """The keypoints of the photos of a snapshot, by row. Safe to use from several threads."""

    def __init__(self, index: Path, snapshot: Snapshot) -> None:
        self._reader = KeypointReader(index)
        columns = (*COLUMNS, "width", "height")
        rows = snapshot.rows.slice(0, snapshot.photos)
        self._places = np.stack([rows[name].to_numpy() for name in columns], axis=1)
        self._read_at = lru_cache(_KEPT_PHOTOS)(self._reader.read)

    def read(self, row: int) -> Keypoints:
        """Return the keypoints of one photo.

        Args:
            row: of the snapshot.

        Raises:
            IndexDamaged: they cannot be read.
        """
        file, offset, size, width, height = self._places[row].tolist()
        return self._read_at(Place(file, offset, size), width, height)


def extractor_of_index(manifest: Manifest) -> type[Extractor] | None:
    """Return the class of the extractor that made the keypoints of an index.

    Args:
        manifest: of the index.

    Returns:
        None if the index has no keypoints, or a kind that this version of Veduta does not know.
    """
    return extractor_class(manifest.keypoints["name"]) if manifest.keypoints else None


def remove_unused(index: Path, used: set[int]) -> None:
    """Remove the files to which no row points.

    Args:
        index: the folder of the index.
        used: the numbers of the files that stay.

    Raises:
        StorageError: a file cannot be removed.
    """
    with index_errors(index, "write"):
        for number in set(_file_numbers(index)) - used:
            remove_path(file_path(index, number))


def _file_numbers(index: Path) -> list[int]:
    folder = index / FOLDER
    if not folder.is_dir():
        return []
    return [int(file.stem) for file in folder.glob("*.bin") if file.stem.isdecimal()]


def file_path(index: Path, number: int) -> Path:
    """Return the path of a file of keypoints.

    Args:
        index: the folder of the index.
        number: of the file.
    """
    return index / FOLDER / f"{number:08}.bin"
