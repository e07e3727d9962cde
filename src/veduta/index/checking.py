"""Check that every row matches its photo and its checksums, and repair a damaged index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veduta import photos
from veduta.errors import IndexDamaged, PhotoError, PhotoUnreadable
from veduta.index import keypoint_files
from veduta.index.columns import descriptor_is_sound
from veduta.index.creating import holds_index
from veduta.index.graph import FOLDER as GRAPH_FOLDER
from veduta.index.graph import build_graph
from veduta.index.keypoint_files import KeypointReader, Place
from veduta.index.manifest import Manifest, move_to_damaged, restore_manifest
from veduta.index.snapshot import SNAPSHOT_FOLDER, build_snapshot
from veduta.index.table import (
    TABLE_FOLDER,
    Table,
    create_table,
    open_table,
    remove_versions_after,
    writer_lock,
)

_CHECKED_COLUMNS = (
    "id",
    "path",
    "content",
    "descriptor",
    "checksum",
    "problem",
    "width",
    "height",
    *keypoint_files.COLUMNS,
)
_MAX_LENGTH_ERROR = 0.01

DESCRIPTOR_DAMAGED = "descriptor damaged"
KEYPOINTS_DAMAGED = "keypoints damaged"
PHOTO_MISSING = "photo missing"
PHOTO_CHANGED = "photo changed"
PHOTO_UNREADABLE = "photo unreadable"


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """A row that does not match.

    Attributes:
        id: of the row.
        path: of the photo.
        kind: one of the constants of this module, such as `PHOTO_CHANGED`.
        detail: what is wrong, in a few words.
    """

    id: int
    path: bytes
    kind: str
    detail: str


def check_index(
    index: Path, on_row: Callable[[int, int], None] | None = None
) -> Iterator[CheckFinding]:
    """Compare every row with its photo (content hash), and its data with their checksums.

    Args:
        index: the folder of the index. Nothing in it is changed.
        on_row: called with (rows done, rows in all).

    Yields:
        What does not match.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: the index does not open, or only at an older version.
    """
    Manifest.read(index)
    table = open_table(index)
    if table.notice:
        raise IndexDamaged(table.notice)
    reader = KeypointReader(index)
    total, done = table.count(), 0
    for batch in table.batches(_CHECKED_COLUMNS):
        for row in batch.to_pylist():
            yield from _check_row(row, reader)
            done += 1
            if on_row:
                on_row(done, total)


def _check_row(row: dict[str, Any], reader: KeypointReader) -> Iterator[CheckFinding]:
    if row["problem"] is not None:
        return
    path = row["path"]
    if not _descriptor_is_sound(row):
        detail = "its descriptor does not match its checksum"
        yield CheckFinding(row["id"], path, DESCRIPTOR_DAMAGED, detail)
    if not _keypoints_are_sound(row, reader):
        yield CheckFinding(row["id"], path, KEYPOINTS_DAMAGED, "its keypoints do not read back")
    try:
        same = photos.content_hash(photos.read_bytes(path)) == row["content"]
    except PhotoUnreadable as error:
        kind = PHOTO_UNREADABLE if Path(os.fsdecode(path)).exists() else PHOTO_MISSING
        yield CheckFinding(row["id"], path, kind, error.reason)
    except PhotoError as error:
        yield CheckFinding(row["id"], path, PHOTO_UNREADABLE, error.reason)
    else:
        if not same:
            detail = "its content is not what was indexed"
            yield CheckFinding(row["id"], path, PHOTO_CHANGED, detail)


def _descriptor_is_sound(row: dict[str, Any]) -> bool:
    if row["descriptor"] is None:
        return False
    stored = np.array(row["descriptor"], dtype=np.float16)
    length = float(np.linalg.norm(stored.astype(np.float32)))
    return descriptor_is_sound(stored, row["checksum"]) and abs(length - 1) < _MAX_LENGTH_ERROR


def _keypoints_are_sound(row: dict[str, Any], reader: KeypointReader) -> bool:
    place = [row[name] for name in keypoint_files.COLUMNS]
    if place[0] is None:
        return True
    try:
        reader.read(Place(*place), row["width"], row["height"])
    except IndexDamaged:
        return False
    return True


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair_index` did.

    Attributes:
        version: number of the version that the table has now.
        manifest_restored: whether `index.json` did not read and was made again from its copy.
        table_lost: whether no version of the table opened. The index is empty now.
        went_back: whether the newest version did not open and an older one is used.
        lost_fragments: data files that did not read back.
        removed_rows: rows that did not match their checksum, or whose path was there twice.
        photos: photos in the index after the repair.
    """

    version: int
    manifest_restored: bool
    table_lost: bool
    went_back: bool
    lost_fragments: int
    removed_rows: int
    photos: int


def repair_index(index: Path) -> RepairReport:
    """Make a damaged index sound again from what is readable in it.

    This makes `index.json` again from its copy if it does not read. It goes back to the last
    version that opens (if none does, the index is emptied), drops fragments that do not read, and
    removes rows whose descriptor or keypoints do not match their checksum or whose path is there
    twice. Then it builds the snapshot and the neighbour graph again. No photo is touched. The next
    update finds the photos of dropped rows to be new.

    Args:
        index: the folder of the index.

    Returns:
        What was done.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: the manifest is lost, and so is its copy.
        StorageError: the disk does not read or write.
        IndexLocked: another process is writing to it.
    """
    if not holds_index(index):
        Manifest.read(index)  # It raises `NotAnIndex` with the remedy.
    with writer_lock(index):
        manifest_restored = restore_manifest(index)
        manifest = Manifest.read(index)
        manifest.write(index)
        shutil.rmtree(index / SNAPSHOT_FOLDER, ignore_errors=True)
        shutil.rmtree(index / GRAPH_FOLDER, ignore_errors=True)
        table, table_lost = _open_or_make_again(index, manifest.dimension)
        went_back = table.notice is not None
        if went_back:
            remove_versions_after(index, table.version)
            table = open_table(index)
        lost = _drop_unreadable_fragments(table)
        damaged_ids = _damaged_ids(table)
        table.delete(damaged_ids)
        snapshot = build_snapshot(index, manifest, table)
        build_graph(index, manifest, snapshot)
        return RepairReport(
            version=table.version,
            manifest_restored=manifest_restored,
            table_lost=table_lost,
            went_back=went_back,
            lost_fragments=lost,
            removed_rows=len(damaged_ids),
            photos=snapshot.photos,
        )


def _open_or_make_again(index: Path, dimension: int) -> tuple[Table, bool]:
    """Open the table; if no version opens, move it aside and make an empty one."""
    try:
        return open_table(index), False
    except IndexDamaged:
        move_to_damaged(index, index / TABLE_FOLDER)
        return create_table(index, dimension), True


def _drop_unreadable_fragments(table: Table) -> int:
    lost = [fragment for fragment in table.dataset.get_fragments() if not _reads(fragment)]
    table.drop_fragments([fragment.fragment_id for fragment in lost])
    return len(lost)


def _reads(fragment: Any) -> bool:
    try:
        for _ in fragment.to_batches(batch_size=256):
            pass
    except (OSError, ValueError, RuntimeError):  # Lance raises these for bytes that do not parse.
        return False
    return True


def _damaged_ids(table: Table) -> list[int]:
    """Return the ids of rows that do not match their checksums, or whose path came before."""
    reader = KeypointReader(table.index)
    damaged: list[int] = []
    paths: set[bytes] = set()
    for batch in table.batches(_CHECKED_COLUMNS):
        for row in batch.to_pylist():
            duplicate = row["path"] in paths
            paths.add(row["path"])
            sound = row["problem"] is not None or (
                _descriptor_is_sound(row) and _keypoints_are_sound(row, reader)
            )
            if duplicate or not sound:
                damaged.append(row["id"])
    return damaged
