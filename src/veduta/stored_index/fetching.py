"""A copy of a stored index on this machine, brought up to date by what is new.

A reader never asks the store which objects it has. It reads the pointer, then the listing that the
pointer names, then the pieces that the listing names, and compares each with its hash.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from veduta.errors import CollectionError, NotAnIndex, StorageFull, StoreError, readable
from veduta.index.damage import RECOGNISERS_FOLDER
from veduta.index.manifest import MANIFEST_FILE, Manifest
from veduta.index.snapshot import SNAPSHOT_FOLDER
from veduta.index.storage_errors import system_errors
from veduta.index.table import TABLE_FOLDER
from veduta.index.table_files import VERSIONS
from veduta.ordered_threads import map_in_order
from veduta.stored_index.addresses import is_store_url
from veduta.stored_index.cache import CacheFolder, hold
from veduta.stored_index.listing import (
    Listing,
    Pointer,
    StoredFile,
    content_of,
    digest_of_piece,
    read_listing,
    read_pointer,
)
from veduta.stored_index.names import note_copy
from veduta.stored_index.opening import open_store
from veduta.stored_index.publishing import TRANSFERS, OnBytes
from veduta.stored_index.record import Record
from veduta.stored_index.store import ObjectMissing, Store
from veduta.text import veduta_command

__all__ = ["fetch", "local_copy", "local_index", "usable_copy"]

_MOST_STARTS = 3
"""How often a copy is begun anew because its version was removed from the store meanwhile."""
_TRIES = 2
"""How often a piece is fetched that comes with other bytes."""
_PART_SUFFIX = ".part"
_MADE_AGAIN = frozenset({SNAPSHOT_FOLDER, RECOGNISERS_FOLDER})
_SPARE_BYTES = 64 * 2**20


def local_copy(url: str, *, verify: bool = False, on_progress: OnBytes | None = None) -> Path:
    """Return the folder of the current version of a stored index on this machine.

    What is not there yet is fetched. The folder stays as it is until this process ends, also if a
    newer version is published and fetched. It lies in the user's cache folder, and several
    processes share it, so nobody may change it.

    Args:
        url: as for `open_store`.
        verify: read all files of the copy, and fetch those again that the disk has damaged.
        on_progress: called with the bytes that were fetched.

    Raises:
        QueryError: `url` is no address of a store.
        NotAnIndex: there is no index at this address.
        IndexDamaged: another version of Veduta wrote the index.
        StoreError: the store refuses, does not answer, or what it has is damaged.
        StorageError: the disk does not read or write.
    """
    store = open_store(url)
    cache = CacheFolder(store.url)
    try:
        found = read_pointer(store)
    except StoreError as error:
        raise _with_copy_at_hand(error, cache) from error
    if found is None:
        raise NotAnIndex(
            f"{store.url} holds no index. Publish one: "
            + veduta_command("publish", store.url, "--index", "INDEX")
        )
    return fetch(store, cache, found[0], verify=verify, on_progress=on_progress)


def local_index(index: str | os.PathLike[str], *, on_progress: OnBytes | None = None) -> Path:
    """Return the folder of an index that is named by its folder or by an address.

    Args:
        index: the folder, or an address as for `local_copy`, which says what it raises.
        on_progress: called with the bytes that were fetched.
    """
    return local_copy(index, on_progress=on_progress) if is_store_url(index) else Path(index)


def usable_copy(index: str | os.PathLike[str]) -> tuple[Path, StoreError | None]:
    """Return the folder of an index as `local_index`, also if its store is away.

    Args:
        index: the folder, or an address as for `local_copy`.

    Returns:
        The folder, and why it may not be the current version.

    Raises:
        CollectionError: as `local_copy` raises it, if there is no copy on this machine.
    """
    try:
        return local_index(index), None
    except StoreError as error:
        url = open_store(str(index)).url
        newest = CacheFolder(url).newest()
        if newest is None or not hold(newest) or not _is_whole(newest, url):
            raise
        note_copy(newest, url)
        return newest, error


def fetch(
    store: Store,
    cache: CacheFolder,
    pointer: Pointer,
    *,
    verify: bool = False,
    on_progress: OnBytes | None = None,
) -> Path:
    """Return the folder of a version, and hold it; raises as `local_copy` does.

    Args:
        store: with the index.
        cache: the folder of its copies.
        pointer: to the version. If it is removed from the store meanwhile, a newer one is fetched.
        verify: as in `local_copy`.
        on_progress: called with the bytes that were fetched.
    """
    for start in range(1, _MOST_STARTS + 1):
        version = cache.version(pointer)
        note_copy(version, store.url)
        if verify:
            _drop_damaged(version, store.url)
        if hold(version) and _is_whole(version, store.url):
            return version
        with cache.fetching(), system_errors(cache.folder, "write"):
            # Another process may have fetched it while this one waited.
            if hold(version) and _is_whole(version, store.url):
                return version
            try:
                _fetch(store, cache, pointer, on_progress, links=not verify)
            except ObjectMissing as error:
                found = read_pointer(store)
                if found is None or found[0] == pointer or start == _MOST_STARTS:
                    raise _lacking(store, error) from error
                pointer = found[0]
                continue
            hold(version)
            cache.remove_unused(version)
            return version
    raise AssertionError("the last start returns or raises")


def _is_whole(version: Path, url: str) -> bool:
    """Tell whether all files of a version are there in their sizes.

    Those that a search makes again by itself, maybe in another form, do not count.
    """
    listing = Record.read(version, url).listing
    return listing is not None and all(
        _has_size(version / name, file.size)
        for name, file in listing.files.items()
        if name.partition("/")[0] not in _MADE_AGAIN
    )


def _drop_damaged(version: Path, url: str) -> None:
    """Remove the files of a version that have other bytes than were published."""
    listing = Record.read(version, url).listing
    for name, file in listing.files.items() if listing else ():
        try:
            with (version / name).open("rb") as stream:
                sound = listing is not None and all(
                    content_of(stream.read(size)) == digest_of_piece(piece)
                    for piece, _, size in listing.ranges(file)
                )
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not sound:
            (version / name).unlink()


def _fetch(
    store: Store,
    cache: CacheFolder,
    pointer: Pointer,
    on_progress: OnBytes | None,
    *,
    links: bool,
) -> None:
    """Fetch a version. What an earlier attempt has fetched is kept. The lock is held.

    With `links`, files of other versions on this machine are used as they are.
    """
    listing = read_listing(store, pointer.listing, pointer.digest)
    draft = cache.draft(pointer)
    draft.mkdir(exist_ok=True)
    Record(store.url, pointer, listing).write(draft)
    local = _local_pieces(cache, draft, store.url)
    copy = _Copy(store, draft, listing, local, links, on_progress)
    if MANIFEST_FILE in listing.files:
        copy.run([MANIFEST_FILE])
        _require_known(draft, store.url)
    copy.require_room()
    copy.run(listing.files)
    for name in filter(_is_dated, listing.files):
        os.utime(draft / name, (listing.changed, listing.changed))
    version = cache.version(pointer)
    if version.exists():  # It was damaged.
        shutil.rmtree(version)
    draft.rename(version)


def _require_known(draft: Path, url: str) -> None:
    """Refuse an index of another version of Veduta before its large files are fetched."""
    try:
        Manifest.read(draft)
    except CollectionError as error:
        raise type(error)(str(error).replace(readable(draft), url)) from None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a piece lies on this machine."""

    path: Path
    start: int
    size: int


def _local_pieces(cache: CacheFolder, draft: Path, url: str) -> dict[str, _Place]:
    """Return the pieces, by their hashes, that other versions on this machine have."""
    places: dict[str, _Place] = {}
    for folder in cache.known():
        listing = Record.read(folder, url).listing if folder != draft else None
        for name, file in listing.files.items() if listing else ():
            if listing is not None and _has_size(folder / name, file.size):
                for piece, start, size in listing.ranges(file):
                    place = _Place(folder / name, start, size)
                    places.setdefault(digest_of_piece(piece), place)
    return places


def _has_size(path: Path, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except (FileNotFoundError, NotADirectoryError):
        return False


@dataclass(slots=True)
class _Copy:
    """Makes the files of a version in a folder.

    Attributes:
        store: with the pieces.
        folder: that gets the files.
        listing: of the version.
        local: pieces by their hashes that are on this machine already.
        links: give whole files of other versions a second name.
        on_progress: is told of the bytes that are there.
    """

    store: Store
    folder: Path
    listing: Listing
    local: dict[str, _Place]
    links: bool
    on_progress: OnBytes | None
    _missing: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def require_room(self) -> None:
        """Refuse to begin if the disk has less room than the files need; raises StorageFull."""
        wanted = sum(
            size
            for name, file in self.listing.files.items()
            if not _has_size(self.folder / name, file.size)
            for piece, _, size in self.listing.ranges(file)
            if digest_of_piece(piece) not in self.local
        )
        free = shutil.disk_usage(self.folder).free
        if wanted + _SPARE_BYTES > free:
            raise StorageFull(
                f"{self.store.url} needs {wanted / 1e9:,.1f} GB of disk space in "
                f"{readable(self.folder.parent)}, and {free / 1e9:,.1f} GB are free. Free some "
                "space, or set XDG_CACHE_HOME to a folder on another disk."
            )

    def run(self, names: Iterator[str] | list[str] | dict[str, StoredFile]) -> None:
        """Make those files that are not there yet."""
        total = self.listing.bytes
        wanted = [
            name
            for name in names
            if not _has_size(self.folder / name, self.listing.files[name].size)
        ]
        done = total - sum(self.listing.files[name].size for name in wanted)
        for size in map_in_order(self._work(wanted), self._make, TRANSFERS):
            done += size
            if self.on_progress:
                self.on_progress(done, total)

    def _work(self, names: list[str]) -> Iterator[tuple[str, str, int, int]]:
        """Yield what is to be done: file, piece, start and size.

        A file that needs no more work has no piece.
        """
        for name in names:
            file = self.listing.files[name]
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not file.pieces:
                path.touch()
            elif self.links and not _is_dated(name) and self._linked(path, file):
                yield name, "", 0, file.size
            else:
                part = path.with_name(path.name + _PART_SUFFIX)
                if not _has_size(part, file.size):
                    with part.open("wb") as stream:
                        stream.truncate(file.size)
                self._missing[name] = len(file.pieces)
                for piece, start, size in self.listing.ranges(file):
                    yield name, piece, start, size

    def _linked(self, path: Path, file: StoredFile) -> bool:
        """Give a file of another version a second name, if one has the same content."""
        places = [self.local.get(digest_of_piece(piece)) for piece in file.pieces]
        first = places[0]
        if first is None or not _has_size(first.path, file.size):
            return False
        same = all(
            place is not None and place.path == first.path and place.start == start
            for place, (_, start, _) in zip(places, self.listing.ranges(file), strict=True)
        )
        if same:
            try:
                os.link(first.path, path)
            except OSError:  # Not all file systems have links. The pieces are copied.
                return False
        return same

    def _make(self, work: tuple[str, str, int, int]) -> int:
        """Put a piece into its file. The last one gives the file its name."""
        name, piece, start, size = work
        if not piece:
            return size
        path = self.folder / name
        part = path.with_name(path.name + _PART_SUFFIX)
        with part.open("r+b") as stream:
            stream.seek(start)
            if content_of(stream.read(size)) != digest_of_piece(piece):
                stream.seek(start)
                stream.write(self._content(piece, size))
        with self._lock:
            self._missing[name] -= 1
            if not self._missing[name]:
                part.replace(path)
        return size

    def _content(self, piece: str, size: int) -> bytes:
        place = self.local.get(digest_of_piece(piece))
        if place is not None and place.size == size:
            with place.path.open("rb") as stream:
                stream.seek(place.start)
                data = stream.read(size)
            if content_of(data) == digest_of_piece(piece):
                return data
        for _ in range(_TRIES):
            data = self.store.get(piece, most_bytes=size)
            if len(data) == size and content_of(data) == digest_of_piece(piece):
                return data
        raise StoreError(
            f"{self.store.url}/{piece} is damaged: it has other bytes than were published. Publish "
            "the index again from a machine that has it: "
            + veduta_command("publish", self.store.url, "--index", "INDEX", "--replace")
        )


def _is_dated(name: str) -> bool:
    """Tell whether the time of a file says when the index was changed last."""
    return name.startswith(f"{TABLE_FOLDER}/{VERSIONS}/")


def _lacking(store: Store, error: ObjectMissing) -> StoreError:
    return StoreError(
        f"{error} The index there is not whole. Publish it again from a machine that has it: "
        + veduta_command("publish", store.url, "--index", "INDEX", "--replace")
    )


def _with_copy_at_hand(error: StoreError, cache: CacheFolder) -> StoreError:
    """Return an error that also names the copy that can be used without the store."""
    newest = cache.newest()
    if newest is None:
        return error
    number = newest.name.partition("-")[0]
    return StoreError(
        f"{error} Version {number} on this machine can be read without the store: --index "
        f"{readable(newest)}"
    )
