"""Is every row what it says, and what to do when it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veduta import photos
from veduta.errors import IndexDamaged, NotAnIndex, PhotoError, PhotoUnreadable, readable
from veduta.index import keypoint_files
from veduta.index.describing import checksum
from veduta.index.graph import FOLDER as GRAPH_FOLDER
from veduta.index.graph import build_graph
from veduta.index.keypoint_files import KeypointReader, Place
from veduta.index.manifest import MANIFEST_FILE, Manifest
from veduta.index.snapshot import SNAPSHOT_FOLDER, build_snapshot
from veduta.index.table import TABLE_FOLDER, Table, open_table, remove_versions_after, writer_lock

_COLUMNS = (
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
DAMAGED = "descriptor damaged"
KEYPOINTS_DAMAGED = "keypoints damaged"
MISSING = "photo missing"
CHANGED = "photo changed"
UNREADABLE = "photo unreadable"


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """A row that is not as it should be. `kind` is one of the constants of this module."""

    id: int
    path: bytes
    kind: str
    detail: str


def check_index(
    index: Path, on_row: Callable[[int, int], None] | None = None
) -> Iterator[CheckFinding]:
    """Compare every row with its photo (content hash), descriptor and keypoints with checksums.

    Args:
        index: the index; it is not changed.
        on_row: called with (rows done, rows in all).

    Raises:
        NotAnIndex, IndexDamaged: the index does not open, or only at an older version.
    """
    Manifest.read(index)
    table = open_table(index)
    if table.notice:
        raise IndexDamaged(table.notice)
    reader = KeypointReader(index)
    total, done = table.count(), 0
    for batch in table.batches(_COLUMNS, rows=256):
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
        yield CheckFinding(row["id"], path, DAMAGED, "its descriptor does not match its checksum")
    if not _keypoints_are_sound(row, reader):
        yield CheckFinding(row["id"], path, KEYPOINTS_DAMAGED, "its keypoints do not read back")
    try:
        same = photos.content_hash(photos.read_bytes(path)) == row["content"]
    except PhotoUnreadable as error:
        exists = Path(os.fsdecode(path)).exists()
        yield CheckFinding(row["id"], path, UNREADABLE if exists else MISSING, error.reason)
    except PhotoError as error:
        yield CheckFinding(row["id"], path, UNREADABLE, error.reason)
    else:
        if not same:
            yield CheckFinding(row["id"], path, CHANGED, "its content is not what was indexed")


def _descriptor_is_sound(row: dict[str, Any]) -> bool:
    stored = np.array(row["descriptor"], dtype=np.float16)
    length = float(np.linalg.norm(stored.astype(np.float32)))
    return checksum(stored) == row["checksum"] and bool(abs(length - 1) < 0.01)


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
    """What `repair_index` did: whether an older version came back, and how many rows went."""

    version: int
    went_back: bool
    lost_fragments: int
    removed_rows: int
    photos: int


def repair_index(index: Path) -> RepairReport:
    """Make a damaged index whole again from what is readable in it.

    Goes back to the last version that opens, drops fragments that do not read back, removes rows
    whose descriptor or keypoints do not match their checksum or whose path stands there twice, and
    builds the snapshot and the neighbour graph anew. No photo is touched; what was dropped is found
    to be new by the next `veduta index`.

    Raises:
        NotAnIndex: there is nothing to repair at that place.
        IndexDamaged: no version of the table opens, or the manifest is lost.
        IndexLocked: another process is writer_lock to it.
    """
    if not (index / MANIFEST_FILE).exists() and not (index / TABLE_FOLDER).exists():
        raise NotAnIndex(f"{readable(index)} is not an index (no {MANIFEST_FILE} in it).")
    with writer_lock(index):
        manifest = Manifest.read(index)
        shutil.rmtree(index / SNAPSHOT_FOLDER, ignore_errors=True)
        shutil.rmtree(index / GRAPH_FOLDER, ignore_errors=True)
        table = open_table(index)
        went_back = table.notice is not None
        if went_back:
            remove_versions_after(index, table.version)
            table = open_table(index)
        lost = _drop_unreadable_fragments(table)
        bad = _bad_rows(table)
        table.delete(bad)
        snapshot = build_snapshot(index, manifest, table)
        build_graph(index, manifest, snapshot)
        return RepairReport(table.version, went_back, lost, len(bad), snapshot.photos)


def _drop_unreadable_fragments(table: Table) -> int:
    lost = [fragment for fragment in table.dataset.get_fragments() if not _reads(fragment)]
    table.drop([fragment.fragment_id for fragment in lost])
    return len(lost)


def _reads(fragment: Any) -> bool:
    try:
        for _ in fragment.to_batches(batch_size=256):
            pass
    except (OSError, ValueError, RuntimeError):  # what Lance raises for bytes that do not parse
        return False
    return True


def _bad_rows(table: Table) -> list[int]:
    reader = KeypointReader(table.index)
    bad: list[int] = []
    seen: set[bytes] = set()
    for batch in table.batches(_COLUMNS, rows=256):
        for row in batch.to_pylist():
            twice = row["path"] in seen
            seen.add(row["path"])
            sound = row["problem"] is not None or (
                _descriptor_is_sound(row) and _keypoints_are_sound(row, reader)
            )
            if twice or not sound:
                bad.append(row["id"])
    return bad
