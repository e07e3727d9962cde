"""The keypoints of an evaluation's photos, extracted once and kept in the user's cache folder.

One file for exactly these photos as they are now: its name follows from their paths, sizes and
times and from the extractor's identity. It is an Arrow file that maps into memory, so a gallery
takes no more of it than what is being matched.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from veduta import photos
from veduta.errors import CollectionError, PhotoError, StorageFull, readable
from veduta.files import atomic_file
from veduta.keypoints import Extractor, Keypoints

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CachedKeypoints", "cached_keypoints", "in_order", "processors"]

_ROWS = 256  # photos written at a time

Given = TypeVar("Given")
Made = TypeVar("Made")


class CachedKeypoints:
    """The keypoints of some photos, read one at a time. Safe to use from several threads."""

    def __init__(self, files: Sequence[str], table: pa.Table) -> None:
        self._row = {file: row for row, file in enumerate(files)}
        self._table = table

    @property
    def problems(self) -> dict[str, str]:
        """File → why it gives no keypoints, of those that do not decode."""
        reasons = self._table["problem"].to_pylist()
        return {file: reasons[row] for file, row in self._row.items() if reasons[row]}

    def read(self, file: str) -> Keypoints:
        """Return the keypoints of a photo that has no problem."""
        return _keypoints(self._table, self._row[file])


def cached_keypoints(
    files: Iterable[str],
    extractor: Extractor,
    folder: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> CachedKeypoints:
    """Return the keypoints of photos, from the cache if they are there.

    Args:
        files: absolute paths of photos; one that is named twice is read once.
        extractor: finds the keypoints.
        folder: of the cache; made if need be.
        on_progress: called with (done, total) while photos are read.

    A photo that does not decode is among the `problems`, and is not read again until it changes.

    Raises:
        CollectionError: the cache cannot be written; StorageFull if there is no room.
    """
    files = list(dict.fromkeys(files))
    path = folder / f"{_key(files, extractor)}.keypoints"
    table = _stored(path, len(files))
    if table is None:
        try:
            _write(path, files, extractor, on_progress)
            table = _mapped(path)
        except OSError as error:
            kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else CollectionError
            raise kind(
                f"{readable(folder)}: keypoints cannot be kept there ({error.strerror or error}); "
                "the cache folder of the user must be writable and have room"
            ) from error
    return CachedKeypoints(files, table)


def in_order(items: Iterable[Given], work: Callable[[Given], Made], workers: int) -> Iterator[Made]:
    """Yield `work(item)` of each item in order, worked on by threads a few items ahead."""
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="veduta-keypoints") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def processors() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(files: Sequence[str], extractor: Extractor) -> str:
    lines = [extractor.identity.encode()]
    for file in files:
        try:
            status = os.stat(file)
            size, time = status.st_size, status.st_mtime_ns
        except OSError:  # reading it says what is the matter
            size, time = -1, 0
        lines.append(b"%d %d %s" % (size, time, os.fsencode(file)))
    return photos.content_hash(b"\0".join(lines)).hex()[:20]


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {"width": pa.int32(), "height": pa.int32(), "packed": pa.binary(), "problem": pa.string()}
    )


def _extracted(file: str, extractor: Extractor) -> dict[str, Any]:
    try:
        photo = photos.load(file, at_least=extractor.long_side)
    except PhotoError as error:
        return {"width": 0, "height": 0, "packed": b"", "problem": error.reason}
    found = extractor.extract(photo.pixels, photo.width, photo.height)
    return {"width": photo.width, "height": photo.height, "packed": found.pack(), "problem": None}


def _write(
    path: Path,
    files: Sequence[str],
    extractor: Extractor,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Extract and write everything; the file appears complete or not at all."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as draft,
        draft.open("wb") as out,
        pa.ipc.new_file(out, _schema()) as writer,
    ):
        rows: list[dict[str, Any]] = []
        extracted = in_order(files, lambda file: _extracted(file, extractor), processors())
        for done, row in enumerate(extracted, 1):
            rows.append(row)
            if len(rows) == _ROWS or done == len(files):
                writer.write(pa.RecordBatch.from_pylist(rows, _schema()))
                rows = []
            if on_progress is not None:
                on_progress(done, len(files))


def _mapped(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(os.fspath(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


def _stored(path: Path, photos_wanted: int) -> pa.Table | None:
    """Return what the cache has; None if it is not there, or does not read back as written."""
    import pyarrow as pa

    try:
        table = _mapped(path)
        whole = table.schema == _schema() and len(table) == photos_wanted
        for row in range(photos_wanted if whole else 0):
            if table["problem"][row].as_py() is None:
                _keypoints(table, row)
    except (OSError, ValueError, pa.ArrowException):  # extracting once more mends it
        return None
    return table if whole else None


def _keypoints(table: pa.Table, row: int) -> Keypoints:
    width, height, packed = (table[name][row].as_py() for name in ("width", "height", "packed"))
    return Keypoints.unpack(packed, width, height)
