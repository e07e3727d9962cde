"""The rows of an index on disk: one Lance table, versioned, with one writer at a time.

Lance keeps every commit as a version of its own, so a process that dies during a write leaves the
last version as it was. If the newest version does not open (a hard stop can leave its manifest
empty), `open_table` opens the last one that does, and says so.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.errors import CollectionError, IndexDamaged, IndexLocked, readable
from veduta.files import remove_drafts, remove_path, system_failure
from veduta.index.checksums import CHECKSUMS_FILE, Checksums
from veduta.index.columns import schema
from veduta.index.pending import settle
from veduta.index.storage_errors import (
    index_errors,
    not_an_index,
    repair_command,
    storage_error,
    system_errors,
)
from veduta.index.table_files import (
    HINT_FILE,
    VERSIONS,
    files_of_version,
    hinted_versions,
    seal_table,
    sealed_versions,
    version_number,
)
from veduta.photos import content_hash
from veduta.validation import InvalidValue, read_whole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

TABLE_FOLDER = "photos.lance"
LOCK_FILE = "writer.lock"

MERGED_FRAGMENT_ROWS = 16_384
_MAX_FRAGMENTS = 64
_VERSIONS_KEPT = 8
_READ_AHEAD_BYTES = 32 * 2**20
"""What a scan holds in memory. Lance's default is 2 GiB."""
_IDS_PER_DELETE = 10_000
_DRAFT_SECONDS = 3600.0
"""A draft of which no part was written for so long is not finished any more."""
_NOT_FOR_LANCE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LOCK_PATIENCE_SECONDS = 0.2
"""`is_locked` of another process holds the lock for an instant. A writer waits that long."""


@dataclass(frozen=True, slots=True)
class Version:
    """What distinguishes one state of the table from another without opening it.

    A copy of an index has the same versions. An index that is deleted and made anew in the same
    place has others, since a manifest names the time and random names of files.

    Attributes:
        number: of the version.
        digest: the content hash of its manifest, in hexadecimal; empty if that cannot be read.
    """

    number: int
    digest: str


def newest_version(index: Path) -> Version | None:
    """Return the newest version by the files of the table, None if there is no table.

    This lists one folder, reads one small file and does not load Lance. A search checks its
    snapshot with it.

    Args:
        index: the folder of the index.

    Raises:
        CollectionError: the manifest of the newest version cannot be read.
    """
    with index_errors(index, "read"):
        number, name = max(_version_manifests(index), default=(0, ""))
        if not name:
            return None
        try:
            data = read_whole(index / TABLE_FOLDER / name)
        except (OSError, InvalidValue) as error:
            if system_failure(error) is not None:
                raise
            return Version(number, "")  # It does not open, and `lost_version` knows the right one.
        return Version(number, content_hash(data).hex())


def lost_version(index: Path) -> Version | None:
    """Return the newest version that was sealed, if its manifest is damaged or gone.

    Args:
        index: the folder of the index.

    Returns:
        None if no version is known to be lost.

    Raises:
        CollectionError: files of the table cannot be read.
    """
    folder = index / TABLE_FOLDER
    with index_errors(index, "read"):
        try:
            sealed = Checksums.read(folder)
        except InvalidValue:
            return None
        versions = sealed_versions(sealed) if sealed else {}
        newest = max(versions, default=0)
        if sealed is None or newest < max((n for n, _ in _version_manifests(index)), default=1):
            return None
        name = versions[newest]
        return Version(newest, sealed.digests[name]) if sealed.damaged([name]) else None


def _version_manifests(index: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each version with the name of its manifest in the table's folder."""
    try:
        names = os.listdir(index / TABLE_FOLDER / VERSIONS)
    except FileNotFoundError:
        return
    for name in names:
        if (number := version_number(name)) is not None:
            yield number, f"{VERSIONS}/{name}"


@dataclass(slots=True)
class Table:
    """An open table.

    Attributes:
        index: the folder of the index.
        dataset: the open `lance.LanceDataset`.
        notice: what the user must know about the version that is open, or None.
        damaged: names of its files that do not match their checksum, relative to its folder.
    """

    index: Path
    dataset: Any
    notice: str | None = None
    damaged: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Number of the version that is open."""
        return int(self.dataset.version)

    @property
    def dimension(self) -> int:
        """Length D of a stored descriptor."""
        return int(self.dataset.schema.field("descriptor").type.list_size)

    def count(self, where: str | None = None) -> int:
        """Return the number of rows.

        Args:
            where: count only the rows of this SQL condition.
        """
        with index_errors(self.index, "read"):
            return int(self.dataset.count_rows(where))

    def batches(
        self, columns: Sequence[str], where: str | None = None, rows: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """Read columns in the order of the table.

        Args:
            columns: their names.
            where: read only the rows of this SQL condition.
            rows: most rows of a batch.

        Yields:
            The batches.

        Raises:
            IndexDamaged: the data do not read.
        """
        scanner = self.dataset.scanner(
            columns=list(columns),
            filter=where,
            batch_size=rows,
            batch_readahead=2,
            fragment_readahead=1,
            scan_in_order=True,
            io_buffer_size=_READ_AHEAD_BYTES,
        )
        with index_errors(self.index, "read"):
            yield from scanner.to_batches()

    def take(self, ids: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows as dictionaries.

        Args:
            ids: of the rows. Ids that no row has are skipped.
            columns: names of the columns. `id` comes in addition.
        """
        if not ids:
            return []
        rows = self.batches(["id", *columns], where=_id_in(ids))
        return [row for batch in rows for row in batch.to_pylist()]

    def rows_at(self, places: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Return rows by their places in the order of `batches`.

        Args:
            places: (n,).
            columns: their names.

        Raises:
            IndexDamaged: the data do not read.
        """
        with index_errors(self.index, "read"):
            rows: pa.Table = self.dataset.take(places.tolist(), columns=list(columns))
        return rows

    def drop_indices(self) -> None:
        """Remove the approximate index of an older Veduta, if there is one."""
        with index_errors(self.index, "write"):
            indices = self.dataset.describe_indices()
            for index in indices:
                self.dataset.drop_index(index.name)
        if indices:
            self.seal()

    def append(self, rows: pa.Table) -> None:
        """Add rows, in one commit."""
        with index_errors(self.index, "write"):
            self.dataset.insert(rows)
        self.seal()

    def write_rows(self, rows: pa.Table) -> list[Any]:
        """Write new rows into files that belong to no version yet, see `commit`.

        Args:
            rows: with all columns of the table.

        Returns:
            What `commit` takes.
        """
        from lance.fragment import write_fragments

        with index_errors(self.index, "write"):
            return list(write_fragments(rows, self.dataset, schema=self.dataset.schema))

    def commit(self, fragments: Sequence[Any], gone: Sequence[int]) -> None:
        """Remove rows and add others in one commit.

        Args:
            fragments: of the new rows, from `write_rows`.
            gone: ids of the rows that are removed.
        """
        import lance

        removed, updated = [], []
        with index_errors(self.index, "write"):
            for fragment in self.dataset.get_fragments() if gone else ():
                rest = fragment.delete(_id_in(gone))
                if rest is None:
                    removed.append(fragment.fragment_id)
                elif rest != fragment.metadata:
                    updated.append(rest)
            operation = lance.LanceOperation.Update(
                removed_fragment_ids=removed,
                updated_fragments=updated,
                new_fragments=list(fragments),
            )
            self.dataset = lance.LanceDataset.commit(
                self.dataset, operation, read_version=self.dataset.version
            )

    def forget_unused_files(self) -> None:
        """Remove files that belong to no version, which a killed process left, and old versions.

        The caller holds the writer's lock, so nobody is about to commit them.
        """
        with index_errors(self.index, "write"):
            self.dataset.cleanup_old_versions(
                older_than=timedelta(0), retain_versions=_VERSIONS_KEPT, delete_unverified=True
            )
        self.seal()

    def update(self, rows: pa.Table) -> None:
        """Replace the given columns of the rows with the same `id`, in one commit."""
        with index_errors(self.index, "write"):
            self.dataset.merge_insert("id").when_matched_update_all().execute(rows)
        self.seal()

    def delete(self, ids: Sequence[int]) -> None:
        """Remove the rows with these ids."""
        for start in range(0, len(ids), _IDS_PER_DELETE):
            with index_errors(self.index, "write"):
                self.dataset.delete(_id_in(ids[start : start + _IDS_PER_DELETE]))
        self.seal()

    def drop_fragments(self, fragments: Sequence[int]) -> None:
        """Remove whole fragments by their ids, without reading them."""
        if not fragments:
            return
        import lance

        operation = lance.LanceOperation.Delete(
            updated_fragments=[], deleted_fragment_ids=list(fragments), predicate="damaged"
        )
        with index_errors(self.index, "write"):
            self.dataset = lance.LanceDataset.commit(
                self.dataset, operation, read_version=self.dataset.version
            )
        self.seal()

    def tidy(self) -> None:
        """Merge small fragments when there are many, and forget old versions.

        Each commit lists all fragments. Without this, the folder would grow with the square of the
        number of commits.
        """
        if len(self.dataset.get_fragments()) < _MAX_FRAGMENTS:
            return
        with index_errors(self.index, "write"):
            self.dataset.optimize.compact_files(target_rows_per_fragment=MERGED_FRAGMENT_ROWS)
            self.dataset.cleanup_old_versions(
                older_than=timedelta(0), retain_versions=_VERSIONS_KEPT
            )
        self.seal()

    def seal(self) -> None:
        """Bring the files of the newest version to the disk, and note their checksums.

        A commit that was reported to the user must survive a power failure.
        """
        with index_errors(self.index, "write"):
            seal_table(self.index / TABLE_FOLDER)


def _id_in(ids: Sequence[int]) -> str:
    return f"id IN ({','.join(str(int(i)) for i in ids)})"


def lance_path(index: Path) -> str:
    """Return the path of the table of an index as Lance takes it.

    A relative path such as `a:b` would be an address for Lance, so it is made absolute.

    Args:
        index: the folder of the index.

    Raises:
        CollectionError: Lance takes no path with these characters.
    """
    path = os.path.abspath(index / TABLE_FOLDER)
    if _NOT_FOR_LANCE.search(path):
        raise CollectionError(
            f"{readable(index)}: the path of an index must be UTF-8 without control characters. "
            "Name another folder, or rename this one."
        )
    return path


def create_table(index: Path, dimension: int, *, places: bool = True) -> Table:
    """Create an empty table.

    Args:
        index: the folder of the index.
        dimension: length D of a descriptor.
        places: whether it stores where photos were taken.
    """
    import lance

    with index_errors(index, "write"):
        dataset = lance.write_dataset(
            schema(dimension, places=places).empty_table(),
            lance_path(index),
            data_storage_version="stable",
        )
    table = Table(index, dataset)
    table.seal()
    return table


def open_table(index: Path, *, remember: bool = True) -> Table:
    """Open the newest version that opens. If it is not the newest, `Table.notice` says so.

    Args:
        index: the folder of the index.
        remember: note in the index which of its files were hashed now.

    Raises:
        IndexDamaged: no version opens, or a file of the version is damaged.
        StorageError: the disk does not read.
    """
    table = _open(index, anew=False, remember=remember)
    if table.damaged:
        raise IndexDamaged(
            f"{readable(index / TABLE_FOLDER / table.damaged[0])} is damaged: it does not match "
            f"its checksum. Repair it with: {repair_command(index)}"
        )
    return table


def open_table_to_write(index: Path) -> Table:
    """Open the newest version, and seal what a killed process or an older Veduta left unsealed.

    Args:
        index: the folder of the index. The caller holds the writer's lock.

    Raises:
        IndexDamaged: a file of the newest version is damaged or gone.
        StorageError: the disk does not read or write.
    """
    table = open_table(index)
    if table.notice:
        raise IndexDamaged(table.notice)
    table.seal()
    return table


def open_damaged_table(index: Path) -> Table:
    """Open the newest version that opens, and note in `Table.damaged` which of its files are not.

    All files are hashed anew.

    Args:
        index: the folder of the index.

    Raises:
        IndexDamaged: no version opens, or the checksums of the table are damaged.
    """
    return _open(index, anew=True)


def forget_checksums(index: Path) -> bool:
    """Remove the checksums of the table if they are damaged themselves.

    Args:
        index: the folder of the index. The caller holds the writer's lock.

    Returns:
        Whether they were damaged.
    """
    folder = index / TABLE_FOLDER
    with index_errors(index, "write"):
        try:
            Checksums.read(folder)
        except InvalidValue:
            remove_path(folder / CHECKSUMS_FILE)
            return True
    return False


def _open(index: Path, *, anew: bool, remember: bool = True) -> Table:
    import lance

    with index_errors(index, "read"):
        found = Checksums.read(index / TABLE_FOLDER)
        sealed = found or Checksums(index / TABLE_FOLDER, {})
        known = sealed_versions(sealed) if found else hinted_versions(index / TABLE_FOLDER)
        # They are listed last, so that no version that a writer commits now seems to be gone.
        manifests = sorted(_version_manifests(index), reverse=True)
    newest = max([*known, *(number for number, _ in manifests)], default=0)
    failure: str | None = None
    for number, manifest in manifests:
        with index_errors(index, "read"):
            if sealed.damaged([manifest], anew=anew, remember=remember):
                failure = failure or f"{manifest} does not match its checksum"
                continue
        try:
            dataset = lance.dataset(lance_path(index), version=number)
        except (ValueError, OSError) as error:  # Lance raises both for files that do not parse.
            if system_failure(error) is not None:
                raise storage_error(error, index, "read") from error
            failure = failure or str(error)
            continue
        notice = None
        if number < newest:
            reason = "is gone" if newest > manifests[0][0] else "does not open"
            notice = (
                f"{readable(index)} is damaged: version {newest} {reason}; using the "
                f"last good version, {number}. Repair it with: {repair_command(index)}"
            )
        with index_errors(index, "read"):
            names = files_of_version(dataset, sealed)
            damaged = sealed.damaged(names, anew=anew, remember=remember)
        return Table(index, dataset, notice, tuple(damaged))
    raise IndexDamaged(
        f"{readable(index)}: no version of its table opens"
        + (f" ({failure})" if failure else " (its files are gone)")
        + f". Repair it with: {repair_command(index)}"
    )


def has_rows(index: Path) -> bool:
    """Tell whether the table of an index has files with rows, without opening it.

    A creation that was cut off leaves a table without such files. Nothing is lost with it.

    Args:
        index: the folder of the index.
    """
    folder = index / TABLE_FOLDER / "data"
    return folder.is_dir() and any(folder.iterdir())


def remove_versions_after(index: Path, last_good: int) -> None:
    """Move the manifests of later versions away, so that a good one is the newest.

    Args:
        index: the folder of the index.
        last_good: number of the version that becomes the newest.
    """
    damaged = index / "damaged"
    damaged.mkdir(exist_ok=True)
    for number, name in list(_version_manifests(index)):
        file = index / TABLE_FOLDER / name
        if number > last_good:
            file.replace(damaged / file.name)
    (index / TABLE_FOLDER / HINT_FILE).unlink(missing_ok=True)
    with index_errors(index, "write"):
        seal_table(index / TABLE_FOLDER)


@contextmanager
def writer_lock(index: Path) -> Iterator[None]:
    """Hold the lock of the one writer of an index. It is released however the process ends.

    What a killed merge left is brought to its end first (`veduta.index.pending`). An error of the
    operating system in the block, such as a full disk, becomes a `StorageError`.

    Args:
        index: the folder of the index.

    Raises:
        IndexLocked: another process holds it.
        NotAnIndex: there is no such folder.
        StorageError: the disk does not accept it.
    """
    from filelock import FileLock, Timeout

    if not index.is_dir():  # The lock would make the folder.
        raise not_an_index(index)
    _require_file(index / LOCK_FILE)
    lock = FileLock(index / LOCK_FILE, timeout=_LOCK_PATIENCE_SECONDS, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        raise _locked(index) from None
    except OSError as error:
        raise storage_error(error, index, "write") from error
    try:
        with system_errors(index, "write"):
            settle(index, lambda: max(_version_manifests(index), default=(0, ""))[0])
            yield
    finally:
        lock.release()


def _require_file(lock: Path) -> None:
    """Refuse what is not a file in the place of the lock. A repair needs the lock itself."""
    with index_errors(lock.parent, "read"):
        if os.path.lexists(lock) and not stat.S_ISREG(lock.lstat().st_mode):
            raise CollectionError(
                f"{readable(lock)} is not a regular file. Remove it, and run the same command "
                "again."
            )


def remove_old_drafts(index: Path) -> None:
    """Remove what killed processes left unfinished in an index.

    Args:
        index: the folder of the index. The caller holds the writer's lock, so a draft in this
            folder is nobody's. Searches may be at work on drafts in the folders below.

    Raises:
        StorageError: the disk does not accept it.
    """
    with index_errors(index, "write"):
        remove_drafts(index)
        for folder in index.iterdir():
            if folder.is_dir():
                remove_drafts(folder, older_than_seconds=_DRAFT_SECONDS)


def is_locked(index: Path) -> bool:
    """Return whether a process is writing to an index now. This needs no permission to write.

    Args:
        index: the folder of the index.

    Raises:
        StorageError: the disk does not read.
    """
    try:
        with no_writer(index):
            return False
    except IndexLocked:
        return True


@contextmanager
def no_writer(index: Path) -> Iterator[None]:
    """Keep writers out of an index while it is read. This needs no permission to write.

    Args:
        index: the folder of the index.

    Raises:
        IndexLocked: a process is writing to it.
        StorageError: the disk does not read.
    """
    if sys.platform == "win32":
        with writer_lock(index):
            yield
        return
    import fcntl

    with ExitStack() as held:
        with index_errors(index, "read"):
            try:
                descriptor = os.open(index / LOCK_FILE, os.O_RDONLY)
                held.callback(os.close, descriptor)
                # A shared lock needs no permission to write, and conflicts with that of a writer.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except FileNotFoundError:
                pass
            except BlockingIOError:
                raise _locked(index) from None
        yield


def _locked(index: Path) -> IndexLocked:
    return IndexLocked(
        f"{readable(index)}: another process is writing to this index. "
        "Wait until it ends. Searches go on meanwhile."
    )
