"""Cache the keypoints of an evaluation's photos in the user's cache folder.

Each set of photos has one file. Its name follows from the paths, sizes and times of the photos and
from the identity of the extractor. It is an Arrow file that is mapped into memory, so only the
keypoints that are being matched take memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta import photos
from veduta.errors import CollectionError, PhotoError, PhotoUnreadable, StorageFull, readable
from veduta.files import atomic_file, is_disk_full
from veduta.keypoints import Extractor, Keypoints
from veduta.ordered_threads import map_in_order
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CachedKeypoints", "cached_keypoints"]

_BATCH_ROWS = 256


class CachedKeypoints:
    """The keypoints of some photos, read one at a time. Several threads may use it."""

    def __init__(self, files: Sequence[str], table: pa.Table) -> None:
        self._row_of = {file: row for row, file in enumerate(files)}
        self._table = table

    @property
    def problems(self) -> dict[str, str]:
        """File → reason, for the photos that do not decode."""
        reasons = self._table["problem"].to_pylist()
        return {file: reasons[row] for file, row in self._row_of.items() if reasons[row]}

    def read(self, file: str) -> Keypoints:
        """Return the keypoints of a photo that has no problem."""
        return _keypoints(self._table, self._row_of[file])


def cached_keypoints(
    files: Iterable[str],
    extractor: Extractor,
    folder: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> CachedKeypoints:
    """Return the keypoints of photos, from the cache if it has them.

    A photo that does not decode is among the `problems`, and is not read again until it changes. If
    a photo could not be read for another reason, the next call reads all of them again.

    Args:
        files: absolute paths of photos; one that is named twice is read once.
        extractor: finds the keypoints.
        folder: of the cache; it is made if it is missing.
        on_progress: called with (done, total) while photos are read.

    Returns:
        The keypoints.

    Raises:
        CollectionError: the cache cannot be written.
        StorageFull: the disk is full.
    """
    files = list(dict.fromkeys(files))
    path = folder / f"{_key(files, extractor)}.keypoints"
    table = _read(path, len(files))
    if table is None:
        try:
            _write(path, files, extractor, on_progress)
            table = _mapped(path)
        except OSError as error:
            kind = StorageFull if is_disk_full(error) else CollectionError
            raise kind(
                f"{readable(folder)}: keypoints cannot be written ({error.strerror or error}); the "
                "cache folder of the user must be writable and have free space"
            ) from error
    return CachedKeypoints(files, table)


def _key(files: Sequence[str], extractor: Extractor) -> str:
    lines = [extractor.identity.encode()]
    for file in files:
        try:
            status = os.stat(file)
            size, time = status.st_size, status.st_mtime_ns
        except OSError:  # the error is reported when the photo is read
            size, time = -1, 0
        lines.append(b"%d %d %s" % (size, time, os.fsencode(file)))
    return photos.content_hash(b"\0".join(lines)).hex()[:20]


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "width": pa.int32(),
            "height": pa.int32(),
            "packed": pa.binary(),
            "problem": pa.string(),
            "read_again": pa.bool_(),
        }
    )


def _extracted(file: str, extractor: Extractor) -> dict[str, Any]:
    try:
        photo = photos.load(file, at_least=extractor.long_side)
    except PhotoError as error:
        return {
            "width": 0,
            "height": 0,
            "packed": b"",
            "problem": error.reason,
            "read_again": isinstance(error, PhotoUnreadable),
        }
    keypoints = extractor.extract(photo.pixels, photo.width, photo.height)
    packed = keypoints.pack()
    return {
        "width": photo.width,
        "height": photo.height,
        "packed": packed,
        "problem": None,
        "read_again": False,
    }


def _write(
    path: Path,
    files: Sequence[str],
    extractor: Extractor,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Extract all keypoints and write them; the file appears complete or not at all."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as draft,
        draft.open("wb") as out,
        pa.ipc.new_file(out, _schema()) as writer,
    ):
        rows: list[dict[str, Any]] = []
        extracted = map_in_order(files, lambda file: _extracted(file, extractor), processor_cores())
        for done, row in enumerate(extracted, 1):
            rows.append(row)
            if len(rows) == _BATCH_ROWS or done == len(files):
                writer.write(pa.RecordBatch.from_pylist(rows, _schema()))
                rows = []
            if on_progress is not None:
                on_progress(done, len(files))


def _mapped(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(os.fspath(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


def _read(path: Path, number: int) -> pa.Table | None:
    """Return the table of a number of photos from the cache; None if it must be made (again)."""
    import pyarrow as pa

    try:
        table = _mapped(path)
        complete = table.schema == _schema() and len(table) == number
        complete = complete and not any(table["read_again"].to_pylist())
        for row in range(number if complete else 0):
            if table["problem"][row].as_py() is None:
                _keypoints(table, row)
    except (OSError, ValueError, pa.ArrowException):
        return None
    return table if complete else None


def _keypoints(table: pa.Table, row: int) -> Keypoints:
    width, height, packed = (table[name][row].as_py() for name in ("width", "height", "packed"))
    return Keypoints.unpack(packed, width, height)
