"""The rows of an index on disk: one Lance table, versioned, one writer at a time.

Lance keeps every commit as a version of its own, so a process that dies in the middle of a write
leaves the last version as it was. `open_table` goes one step further: when the newest version does
not open (a hard stop can leave its manifest empty), it opens the last one that does and says so.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.errors import CollectionError, IndexDamaged, IndexLocked, StorageFull, readable

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_FOLDER = "photos.lance"
LOCK_FILE = "writer.lock"
# Lance names a version's manifest by what is left to the largest unsigned 64-bit number.
_LAST = 2**64 - 1
_SMALL_FRAGMENT = 16_384  # rows; fragments up to this size are merged
_FRAGMENTS_BEFORE_MERGE = 64
_VERSIONS_KEPT = 8
_READ_AHEAD = 32 * 2**20  # bytes a scan holds; Lance alone would take 2 GiB


def schema(dimension: int) -> pa.Schema:
    """Return the columns of the table.

    A row is one file. `descriptor` and `thumbnail` are null and `problem` says why when the photo
    could not be read; such rows keep a broken file from being tried again until it changes. The
    keypoints are kept in files of their own, see `veduta.index.keypoint_files`.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.binary(), nullable=False),
            pa.field("size", pa.int64()),
            pa.field("mtime_ns", pa.int64()),
            pa.field("content", pa.binary()),
            pa.field("label", pa.string()),
            pa.field("format", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("taken", pa.timestamp("s")),
            pa.field("perceptual_hash", pa.uint64()),
            pa.field("descriptor", pa.list_(pa.float16(), dimension)),
            pa.field("checksum", pa.uint32()),
            pa.field("thumbnail", pa.binary()),
            pa.field("keypoints_file", pa.int32()),
            pa.field("keypoints_at", pa.int64()),
            pa.field("keypoints_size", pa.int32()),
            pa.field("problem", pa.string()),
        ]
    )


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one state of the table from another without opening it."""

    number: int
    size: int
    mtime_ns: int


def newest_version(index: Path) -> Version | None:
    """Return the newest version by the names in the folder, None when there is no table.

    This is a listing of one folder: a search uses it to see whether its snapshot is still right
    without loading Lance.
    """
    found = list(_manifests(index))
    if not found:
        return None
    number, file = max(found)
    status = file.stat()
    return Version(number, status.st_size, status.st_mtime_ns)


def _manifests(index: Path) -> Iterator[tuple[int, Path]]:
    folder = index / TABLE_FOLDER / "_versions"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if match := re.fullmatch(r"(\d+)\.manifest", name):
            number = int(match[1])
            yield (_LAST - number if number > 2**63 else number), folder / name


@dataclass(slots=True)
class Table:
    """An open table. `notice` says what had to be done to open it, or is None."""

    index: Path
    dataset: Any
    notice: str | None = None

    @property
    def version(self) -> int:
        """Number of the version that is open."""
        return int(self.dataset.version)

    def count(self, where: str | None = None) -> int:
        """Number of rows, or of those that the SQL condition `where` selects."""
        return int(self.dataset.count_rows(where))

    def batches(
        self, columns: Sequence[str], where: str | None = None, rows: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """Stream `columns` in table order, at most `rows` rows at a time."""
        scanner = self.dataset.scanner(
            columns=list(columns),
            filter=where,
            batch_size=rows,
            batch_readahead=2,
            fragment_readahead=1,
            scan_in_order=True,
            io_buffer_size=_READ_AHEAD,
        )
        with _damage(self.index, "read"):
            yield from scanner.to_batches()

    def take(self, ids: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows with these ids as dictionaries; ids that are gone are absent."""
        if not ids:
            return []
        rows = self.batches(["id", *columns], where=_among(ids))
        return [row for batch in rows for row in batch.to_pylist()]

    def nearest(
        self, query: Any, k: int, columns: Sequence[str], *, cells: int, refine: int
    ) -> list[dict[str, Any]]:
        """Return about the k nearest rows by the approximate index, with `_distance` (cosine)."""
        import numpy as np

        nearest = {
            "column": "descriptor",
            "q": np.asarray(query, np.float16),
            "k": k,
            "nprobes": cells,
            "refine_factor": refine,
            "metric": "cosine",
        }
        with _damage(self.index, "read"):
            found = self.dataset.to_table(columns=[*columns, "_distance"], nearest=nearest)
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def index_descriptors(self, *, partitions: int, bytes_per_descriptor: int) -> None:
        """Build the approximate index: so many k-means cells, so many bytes a descriptor."""
        with _damage(self.index, "write"):
            self.dataset.create_index(
                "descriptor",
                "IVF_PQ",
                metric="cosine",
                replace=True,
                num_partitions=partitions,
                num_sub_vectors=bytes_per_descriptor,
            )

    def extend_indices(self) -> None:
        """Take the rows that came since into the approximate index, if there is one."""
        with _damage(self.index, "write"):
            if self.dataset.describe_indices():
                self.dataset.optimize.optimize_indices()

    def append(self, rows: pa.Table) -> None:
        """Add rows, in one commit."""
        with _damage(self.index, "write"):
            self.dataset.insert(rows)
        self._sync()

    def update(self, rows: pa.Table) -> None:
        """Replace the columns given of the rows with the same `id`, in one commit."""
        with _damage(self.index, "write"):
            self.dataset.merge_insert("id").when_matched_update_all().execute(rows)
        self._sync()

    def delete(self, ids: Sequence[int]) -> None:
        """Remove the rows with these ids."""
        for start in range(0, len(ids), 10_000):
            with _damage(self.index, "write"):
                self.dataset.delete(_among(ids[start : start + 10_000]))
        self._sync()

    def drop(self, fragments: Sequence[int]) -> None:
        """Forget whole fragments, unread, by their ids."""
        if not fragments:
            return
        import lance

        operation = lance.LanceOperation.Delete(
            updated_fragments=[], deleted_fragment_ids=list(fragments), predicate="damaged"
        )
        with _damage(self.index, "write"):
            self.dataset = lance.LanceDataset.commit(
                self.dataset, operation, read_version=self.dataset.version
            )

    def tidy(self) -> None:
        """Merge small fragments when there are many, and forget old versions.

        Each commit lists all fragments, so without this the folder would grow with the square of
        the number of commits.
        """
        if len(self.dataset.get_fragments()) < _FRAGMENTS_BEFORE_MERGE:
            return
        with _damage(self.index, "write"):
            self.dataset.optimize.compact_files(target_rows_per_fragment=_SMALL_FRAGMENT)
            self.dataset.cleanup_old_versions(
                older_than=timedelta(0), retain_versions=_VERSIONS_KEPT
            )

    def _sync(self) -> None:
        # What has been acknowledged must survive a power cut: bring the newest fragment, the
        # manifest and their folders to the disk.
        root = self.index / TABLE_FOLDER
        newest = max(_manifests(self.index))[1]
        data = [
            root / "data" / file.path
            for fragment in self.dataset.get_fragments()[-1:]
            for file in fragment.data_files()
        ]
        for path in (*data, newest, root / "data", root / "_versions"):
            sync(path)


def sync(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _among(ids: Sequence[int]) -> str:
    return f"id IN ({','.join(str(int(i)) for i in ids)})"


def create_table(index: Path, dimension: int) -> Table:
    """Create an empty table in the folder `index`."""
    import lance

    with _damage(index, "write"):
        return Table(
            index,
            lance.write_dataset(
                schema(dimension).empty_table(),
                str(index / TABLE_FOLDER),
                data_storage_version="stable",
            ),
        )


def open_table(index: Path) -> Table:
    """Open the newest version that opens; `Table.notice` says so when it is not the newest.

    Raises:
        IndexDamaged: no version opens.
    """
    import lance

    versions = sorted(_manifests(index), reverse=True)
    failure: Exception | None = None
    for number, _ in versions:
        try:
            dataset = lance.dataset(str(index / TABLE_FOLDER), version=number)
        except (ValueError, OSError) as error:  # what Lance raises for files that do not parse
            failure = failure or error
            continue
        notice = None
        if failure is not None:
            notice = (
                f"{readable(index)} is damaged: version {versions[0][0]} does not open; using the "
                f"last good version, {number}. Mend it: veduta repair --index {readable(index)}"
            )
        return Table(index, dataset, notice)
    raise IndexDamaged(
        f"{readable(index)}: no version of its table opens"
        + (f" ({failure})" if failure else " (its files are gone)")
        + f". Mend it with: veduta repair --index {readable(index)}"
    )


def read_thumbnails(index: Path, ids: Sequence[int]) -> list[bytes]:
    """Return the thumbnail (JPEG bytes) of each row, empty where the row is gone."""
    rows = open_table(index).take(ids, ["thumbnail"])
    found = {row["id"]: row["thumbnail"] or b"" for row in rows}
    return [found.get(i, b"") for i in ids]


def remove_versions_after(index: Path, last_good: int) -> None:
    """Take the manifests of the versions after `last_good` away, so that it is the newest."""
    damaged = index / "damaged"
    damaged.mkdir(exist_ok=True)
    for number, file in _manifests(index):
        if number > last_good:
            file.replace(damaged / file.name)
    (index / TABLE_FOLDER / "_versions" / "latest_version_hint.json").unlink(missing_ok=True)


@contextmanager
def writer_lock(index: Path) -> Iterator[None]:
    """Hold the writer's lock of `index`. It goes with the process, however that ends.

    Raises:
        IndexLocked: another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(index / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise IndexLocked(
            f"{readable(index)}: another process is writing to this index. "
            "Wait for it to end; searches go on meanwhile."
        ) from None
    except OSError as error:
        raise storage_error(error, index, "write") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(index: Path) -> bool:
    """Whether a process is writing to `index` now."""
    try:
        with writer_lock(index):
            return False
    except IndexLocked:
        return True


@contextmanager
def _damage(index: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except CollectionError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # Lance raises all three
        raise storage_error(error, index, doing) from error


def storage_error(error: Exception, index: Path, doing: str) -> CollectionError:
    """Return the error of ours that says what `error`, met while `doing`, means for `index`."""
    text = str(error)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in text or "os error 28" in text:
        return StorageFull(
            f"{readable(index)}: the disk is full. What was committed is kept; "
            "make room and run the same command again."
        )
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return CollectionError(f"{readable(index)}: no permission to {doing} here.")
    return IndexDamaged(
        f"{readable(index)}: its files do not {doing} ({text.splitlines()[0][:200]}). "
        f"Mend it with: veduta repair --index {readable(index)}"
    )
