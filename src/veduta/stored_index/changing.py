"""Change an index, also one in a store: a copy on this machine is changed, and then published.

The copy is the folder `changing` in the user's cache folder. If a command is interrupted, or cannot
publish, the copy stays, and the next command that changes the index goes on with it. If somebody
else has published meanwhile, the copy becomes an ordinary index of its own, `changes-1`, which can
be merged.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from veduta.errors import CollectionError, IndexChanged, readable
from veduta.files import remove_path
from veduta.index.creating import holds_index
from veduta.index.storage_errors import system_errors
from veduta.stored_index.addresses import is_store_url
from veduta.stored_index.cache import CacheFolder, hold
from veduta.stored_index.fetching import fetch
from veduta.stored_index.listing import Pointer, digest_of_piece, read_pointer
from veduta.stored_index.names import note_copy
from veduta.stored_index.opening import open_store
from veduta.stored_index.publishing import OnBytes, Published, piece_hashes, publish
from veduta.stored_index.record import RECORD_FILE, Record
from veduta.stored_index.store import Store
from veduta.text import veduta_command

__all__ = ["Change", "changing"]


@dataclass(slots=True)
class Change:
    """An index that is being changed.

    Attributes:
        path: its folder on this machine. It may be missing if there is no index yet.
        published: what was published at the end, if the index is in a store.
    """

    path: Path
    published: Published | None = None
    _is_kept: bool = False

    def keep(self) -> None:
        """Do not publish at the end. The next change goes on from here."""
        self._is_kept = True


@contextmanager
def changing(
    index: str | os.PathLike[str],
    *,
    verify: bool = False,
    on_fetch: OnBytes | None = None,
    on_publish: OnBytes | None = None,
) -> Iterator[Change]:
    """Give the folder of an index that may be changed. One in a store is published at the end.

    If the block raises, nothing is published.

    Args:
        index: the folder of the index, or the address of a store, where an index need not be yet.
        verify: as in `local_copy`.
        on_fetch: called with the bytes of the copy that are there.
        on_publish: called with the bytes that were sent.

    Raises:
        QueryError: it is no address of a store.
        IndexLocked: another process on this machine is changing this index.
        IndexChanged: somebody else has published meanwhile. The message names the folder with the
            changes.
        StoreError: the store refuses, does not answer, or has no conditional writes.
        StorageError: the disk does not read or write.
    """
    if not is_store_url(index):
        yield Change(Path(index))
        return
    store = open_store(str(index))
    cache = CacheFolder(store.url)
    with cache.changing_lock():
        note_copy(cache.changing, store.url)
        with system_errors(cache.folder, "write"):
            _begin(store, cache, verify, on_fetch)
        change = Change(cache.changing)
        yield change
        if not change._is_kept:
            change.published = _publish(store, cache, on_publish)


def _begin(store: Store, cache: CacheFolder, verify: bool, on_fetch: OnBytes | None) -> None:
    """Make the copy, unless there is one that can still be published."""
    found = read_pointer(store)
    current = found[0] if found else None
    if cache.changing.exists():
        if Record.read(cache.changing, store.url).comes_from(current):
            return
        if _is_changed(cache.changing, store.url):
            raise _set_aside(cache, current)
        shutil.rmtree(cache.changing)
    if current is None:
        return
    version = fetch(store, cache, current, verify=verify, on_progress=on_fetch)
    draft = cache.folder / ".draft-changing"
    remove_path(draft)
    record = Record.read(version, store.url)
    for name in record.listing.files if record.listing else ():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        # A search may have made a file of the copy again, or removed it.
        if (version / name).is_file():
            _link(version / name, draft / name)
    record.write(draft)
    draft.rename(cache.changing)


def _link(old: Path, new: Path) -> None:
    """Give a file a second name. Whoever changes an index replaces its files as a whole."""
    try:
        os.link(old, new)
    except OSError:  # Not all file systems have links.
        shutil.copyfile(old, new)


def _is_changed(index: Path, url: str) -> bool:
    """Tell whether an index holds something else than the version that it comes from."""
    if not holds_index(index):
        return False
    listing = Record.read(index, url).listing
    if listing is None:
        return True
    before = {
        name: (file.size, [digest_of_piece(piece) for piece in file.pieces])
        for name, file in listing.files.items()
    }
    try:
        return piece_hashes(index) != before
    except CollectionError:  # It is damaged, which nobody has published.
        return True


def _publish(store: Store, cache: CacheFolder, on_publish: OnBytes | None) -> Published:
    """Publish the copy, and make it the version that searches on this machine use."""
    try:
        report = publish(cache.changing, store.url, on_progress=on_publish)
    except IndexChanged:
        found = read_pointer(store)
        raise _set_aside(cache, found[0] if found else None) from None
    with cache.fetching(), system_errors(cache.folder, "write"):
        pointer = Record.read(cache.changing, store.url).pointer
        if pointer is None or hold(cache.version(pointer)):
            shutil.rmtree(cache.changing)
        else:
            version = cache.version(pointer)
            cache.changing.rename(version)
            note_copy(version, store.url)
            hold(version)
            cache.remove_unused(version)
    return report


def _set_aside(cache: CacheFolder, current: Pointer | None) -> IndexChanged:
    """Move changes that cannot be published, and return the error that says where they are."""
    aside = cache.next_changes()
    with system_errors(cache.folder, "write"):
        before = Record.read(cache.changing, cache.url).pointer
        (cache.changing / RECORD_FILE).unlink(missing_ok=True)
        cache.changing.rename(aside)
    now = f"is at version {current.version}" if current else "has no index any more"
    began = f"from version {before.version}" if before else "when there was no index"
    merge = veduta_command("merge", aside, "--index", cache.url)
    return IndexChanged(
        f"{cache.url} was changed by another process: it {now}, and the changes here began "
        f"{began}. Nothing was published. The index with the changes is {readable(aside)}. Run the "
        f"same command again to begin from the current version, or add the photos to it: {merge}"
    )
