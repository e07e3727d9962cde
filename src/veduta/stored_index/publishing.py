"""Publish an index in a store: what is new is sent, and one small object makes it current.

Until that object is replaced, readers see the version before, also if the process is killed. It is
replaced only if nobody else has done so meanwhile, which needs a store with conditional writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from veduta.errors import CannotWrite, IndexChanged, IndexDamaged, QueryError, StoreError, readable
from veduta.index.checksums import Checksums
from veduta.index.manifest import Manifest
from veduta.index.pending import has_pending
from veduta.index.snapshot import open_snapshot
from veduta.index.status import last_commit
from veduta.index.storage_errors import index_errors, repair_command, system_errors
from veduta.index.table import no_writer, writer_lock
from veduta.ordered_threads import map_in_order
from veduta.stored_index.cache import is_shared_copy
from veduta.stored_index.index_files import files_of_index, sealed_folder_of
from veduta.stored_index.listing import (
    PIECE_BYTES,
    POINTER,
    Listing,
    Pointer,
    StoredFile,
    content_of,
    digest_of_piece,
    encoded,
    listing_name,
    piece_name,
    read_listing,
    read_pointer,
    version_of,
)
from veduta.stored_index.opening import open_store
from veduta.stored_index.record import RECORD_FILE, Record
from veduta.stored_index.store import ObjectMissing, Store, Tag, Tagged
from veduta.text import veduta_command

__all__ = ["TRANSFERS", "OnBytes", "Published", "piece_hashes", "publish"]

TRANSFERS = 8
"""How many requests are at work at the same time."""

_KEPT_BEFORE = 2
"""How many versions before the current one stay in the store, for those who read them now."""

_TRIAL = "trial-of-conditional-writes"
_WRONG_TAG = Tag('"00000000000000000000000000000000"', "0")

OnBytes = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(slots=True)
class Published:
    """What a publication did.

    Attributes:
        url: of the store.
        version: number of the version that is current now.
        is_new: whether it is a new version. The store may have held these files already.
        files: number of files of the index.
        bytes: their size.
        sent_bytes: how much of it was sent; the store had the rest.
        note: what the user should know, or None.
        seconds: duration.
    """

    url: str
    version: int
    is_new: bool
    files: int
    bytes: int
    sent_bytes: int = 0
    note: str | None = None
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def publish(
    index: str | os.PathLike[str],
    url: str,
    *,
    replace: bool = False,
    on_progress: OnBytes | None = None,
) -> Published:
    """Make an index on this machine the current version of the index at an address.

    Nothing is sent that the version before has. A publication that was killed is completed by the
    next one. Of older versions the last two stay.

    Args:
        index: the folder of the index. Its file `published.json` remembers what it came from.
        url: `s3://bucket/path`, `gs://bucket/path`, `az://container/path` or `file:///folder`.
            Credentials come from the environment.
        replace: accept that the store holds another index, or a version that this one does not
            come from, and send all files, also those that the store has.
        on_progress: called with the bytes that were sent.

    Returns:
        What was done.

    Raises:
        QueryError: `url` is no address of a store, or the folder is a copy of `local_copy`.
        NotAnIndex: there is no index in the folder.
        IndexDamaged: the index is damaged.
        IndexLocked: a process is writing to the index.
        IndexChanged: the store holds another index, or somebody has published meanwhile.
        StoreError: the store refuses, does not answer, or has no conditional writes.
        StorageError: the disk does not read.
    """
    started = time.monotonic()
    index = Path(index)
    store = open_store(url)
    if is_shared_copy(index):
        raise QueryError(
            f"{readable(index)} is a copy of a stored index, which several processes share. Name "
            "the folder of an index of your own."
        )
    _prepare(index)
    with no_writer(index), system_errors(index, "read"):
        record = Record.read(index, store.url)
        found = read_pointer(store)
        current = found[0] if found else None
        if not replace and not record.comes_from(current):
            raise _other_index(index, store.url, record, current)
        base = _base(store, record, current, replace=replace)
        version = (current.version if current else 0) + 1
        with index_errors(index, "read"):
            hashes = piece_hashes(index)
        known = {digest_of_piece(name): name for name in base.pieces} if base else {}
        listing = _listing(version, hashes, known, base, current, last_commit(index) or 0.0)
        if base is not None and current is not None and base.files == listing.files:
            return _nothing_new(index, record, current, base, started)
        _require_conditional_writes(store)
        report = Published(store.url, version, True, len(listing.files), listing.bytes)
        tried = record.attempt
        if base is not None and record.pointer != current:  # It was cut off after the last step.
            record = Record(store.url, current, base)
        data = encoded(listing)
        digest = content_of(data)
        pointer = Pointer(version, listing_name(version, digest), digest)
        _remember(index, record.trying(pointer), report)
        again = tried is not None and tried.version == version
        report.sent_bytes = _send(store, index, listing, again, on_progress)
        store.put(pointer.listing, data)
        _make_current(store, pointer, found[1] if found else None)
        _remember(index, Record(store.url, pointer, listing), report)
        _remove_old(store, listing, report)
    report.seconds = time.monotonic() - started
    return report


def _prepare(index: Path) -> None:
    """Bring an index into the state in which others can use it; raises IndexDamaged if it fails."""
    Manifest.read(index)
    if has_pending(index):  # Whoever holds the lock brings a killed merge to its end.
        with writer_lock(index):
            pass
    snapshot = open_snapshot(index)
    if snapshot.notice:  # It was about a snapshot that is made again now, or it comes again.
        snapshot = open_snapshot(index)
    if snapshot.notice:
        raise IndexDamaged(f"It was not published: {snapshot.notice}")


def _other_index(index: Path, url: str, record: Record, current: Pointer | None) -> IndexChanged:
    version = current.version if current else 0
    merge = veduta_command("merge", index, "--index", url)
    publish = veduta_command("publish", url, "--index", index, "--replace")
    if record.pointer is None:
        return IndexChanged(
            f"{url} holds an index already (version {version}), which {readable(index)} does not "
            f"come from. Add the photos to it: {merge} Or replace it: {publish}"
        )
    return IndexChanged(
        f"{url} was changed by another process: it is at version {version}, and {readable(index)} "
        f"comes from version {record.pointer.version}. Nothing was published. Add the photos to "
        f"it: {merge} Or replace it: {publish}"
    )


def _base(
    store: Store, record: Record, current: Pointer | None, *, replace: bool
) -> Listing | None:
    """Return the listing of the version in the store whose pieces need not be sent again."""
    if current is None or replace:
        return None
    if current == record.pointer and record.listing is not None:
        return record.listing
    return read_listing(store, current.listing, current.digest)


def piece_hashes(index: Path) -> dict[str, tuple[int, list[str]]]:
    """Return size and hashes of the pieces of each file of an index.

    Args:
        index: its folder. No process is writing to it.

    Raises:
        IndexDamaged: a file does not match its checksum.
        OSError: a file cannot be read.
    """
    from blake3 import blake3

    seals: dict[str, Mapping[str, str]] = {}
    hashes = {}
    for name in files_of_index(index):
        whole = blake3(max_threads=blake3.AUTO)
        size, pieces = 0, []
        with (index / name).open("rb") as stream:
            while data := stream.read(PIECE_BYTES):
                size += len(data)
                pieces.append(content_of(data))
                whole.update(data)
        folder = sealed_folder_of(name)
        if folder is not None:
            if folder not in seals:
                sealed = Checksums.read(index / folder)
                seals[folder] = sealed.digests if sealed else {}
            inside = name.removeprefix(f"{folder}/")
            if seals[folder].get(inside, whole.hexdigest()) != whole.hexdigest():
                raise IndexDamaged(
                    f"{readable(index / name)} is damaged: it does not match its checksum. Nothing "
                    f"was published. Repair it with: {repair_command(index)}"
                )
        hashes[name] = size, pieces
    return hashes


def _listing(
    version: int,
    hashes: Mapping[str, tuple[int, list[str]]],
    known: Mapping[str, str],
    base: Listing | None,
    current: Pointer | None,
    changed: float,
) -> Listing:
    files = {
        name: StoredFile(
            size, tuple(known.get(digest) or piece_name(version, digest) for digest in pieces)
        )
        for name, (size, pieces) in hashes.items()
    }
    before = (*((current.listing,) if current else ()), *(base.previous if base else ()))
    return Listing(version, files, previous=before[:_KEPT_BEFORE], changed=changed)


def _nothing_new(
    index: Path, record: Record, current: Pointer, base: Listing, started: float
) -> Published:
    """Report that the store holds these files already, and remember it."""
    report = Published(record.url, current.version, False, len(base.files), base.bytes)
    if record.pointer != current:
        _remember(index, Record(record.url, current, base), report)
    report.seconds = time.monotonic() - started
    return report


def _require_conditional_writes(store: Store) -> None:
    """Refuse a store that would let two publications overwrite each other.

    The trial object stays, so that no right to remove objects is needed.
    """
    first = store.put_if_absent(_TRIAL, b"")
    if (first and store.put_if_absent(_TRIAL, b"")) or store.put_if_unchanged(
        _TRIAL, b"", _WRONG_TAG
    ):
        raise StoreError(
            f"{store.url}: this store has no conditional writes (If-None-Match, If-Match), so two "
            "publications could overwrite each other. Nothing was published. Update the store's "
            "software, or use one that has them, such as S3, MinIO, Ceph or a shared folder "
            "(file:///…)."
        )


def _send(
    store: Store, index: Path, listing: Listing, again: bool, on_progress: OnBytes | None
) -> int:
    """Send the pieces that the version brings, and return their size.

    With `again`, a publication of this version was cut off, so pieces may be there already.
    """
    places: dict[str, tuple[Path, int, int]] = {}
    for name, file in listing.files.items():
        for piece, start, size in listing.ranges(file):
            if version_of(piece) == listing.version:
                places.setdefault(piece, (index / name, start, size))
    total = sum(size for _, _, size in places.values())

    def send(piece: str) -> tuple[int, int]:
        path, start, size = places[piece]
        if again and store.size(piece) == size:
            return size, 0
        with path.open("rb") as stream:
            stream.seek(start)
            data = stream.read(size)
        if content_of(data) != digest_of_piece(piece):
            raise IndexDamaged(
                f"{readable(path)} has changed while it was published. Run the same command again."
            )
        store.put(piece, data)
        return size, size

    done = sent = 0
    for size, new in map_in_order(places, send, TRANSFERS):
        done, sent = done + size, sent + new
        if on_progress:
            on_progress(done, total)
    return sent


def _make_current(store: Store, pointer: Pointer, before: Tagged | None) -> None:
    """Replace the pointer, unless somebody else has done so; raises IndexChanged then."""
    data = encoded(pointer)
    try:
        if before is None:
            done = store.put_if_absent(POINTER, data)
        else:
            done = store.put_if_unchanged(POINTER, data, before.tag)
    except StoreError:
        # The answer may be lost, and the pointer be written.
        if not _is_current(store, data):
            raise
        return
    if not done and not _is_current(store, data):
        raise IndexChanged(
            f"{store.url} was changed by another process while this index was published. Nothing "
            "of this index can be seen there. Run the same command again to learn what to do."
        )


def _is_current(store: Store, data: bytes) -> bool:
    found = read_pointer(store)
    return found is not None and found[1].data == data


def _remember(index: Path, record: Record, report: Published) -> None:
    """Write the record of an index. An index on a disk that is read-only has none."""
    try:
        record.write(index)
    except CannotWrite as error:
        report.note = (
            f"{readable(index / RECORD_FILE)} cannot be written ({error.strerror}), so the next "
            "publication of this index needs --replace."
        )


def _remove_old(store: Store, listing: Listing, report: Published) -> None:
    """Remove what no version needs that is kept, and what other publications left.

    Only versions up to this one are looked at. Whoever publishes the next one reuses pieces of
    this one, which are kept, and sends others under the next number.
    """
    if listing.version == 1:
        return
    kept = {*listing.pieces, *listing.previous}
    try:
        for name in listing.previous:
            with suppress(ObjectMissing, IndexDamaged):
                kept |= read_listing(store, name).pieces
        own = listing_name(listing.version, content_of(encoded(listing)))
        old = [
            name
            for folder in ("objects", "versions")
            for name in store.list(folder)
            if (version_of(name) or listing.version + 1) <= listing.version
            and name not in kept
            and name != own
        ]
        for _ in map_in_order(old, store.delete, TRANSFERS):
            pass
    except StoreError as error:
        report.note = f"Version {listing.version} is published. Old ones are not removed: {error}"
