"""Check that every row matches its photo and its checksums, and repair a damaged index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from veduta import photos
from veduta.errors import IndexDamaged, PhotoError, PhotoUnreadable
from veduta.index import keypoint_files
from veduta.index.cell_files import FOLDER as CELLS_FOLDER
from veduta.index.columns import descriptor_is_sound
from veduta.index.creating import holds_index
from veduta.index.damage import (
    RECOGNISERS_FOLDER,
    damage_of_table,
    damaged_parts,
    remove_damaged_recognisers,
)
from veduta.index.findings import CheckFinding, Kind
from veduta.index.graph import FOLDER as GRAPH_FOLDER
from veduta.index.graph import build_graph
from veduta.index.keypoint_files import KeypointReader, Place
from veduta.index.manifest import MANIFEST_COPY, Manifest, move_to_damaged, restore_manifest
from veduta.index.projection_file import read_projection
from veduta.index.snapshot import SNAPSHOT_FOLDER, build_snapshot, copied_projection
from veduta.index.storage_errors import index_errors
from veduta.index.table import (
    TABLE_FOLDER,
    Table,
    create_table,
    forget_checksums,
    open_damaged_table,
    remove_versions_after,
    writer_lock,
)
from veduta.index.table_files import files_of_fragment, is_index_file

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
_FOLDERS = (
    TABLE_FOLDER,
    SNAPSHOT_FOLDER,
    CELLS_FOLDER,
    GRAPH_FOLDER,
    keypoint_files.FOLDER,
    RECOGNISERS_FOLDER,
)
"""What must be a folder if it is there."""
_MAX_LENGTH_ERROR = 0.01


def check_index(
    index: Path, on_row: Callable[[int, int], None] | None = None
) -> Iterator[CheckFinding]:
    """Compare every file of an index with its checksum, and every row with its photo.

    All files are hashed anew. The rows of a table with damaged files are not compared.

    Args:
        index: the folder of the index. Nothing in it is changed.
        on_row: called with (rows done, rows in all).

    Yields:
        What does not match.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: its manifest is damaged.
    """
    manifest = Manifest.read(index)
    yield from damaged_parts(index, manifest)
    try:
        table = open_damaged_table(index)
    except IndexDamaged as error:
        yield CheckFinding(None, os.fsencode(index / TABLE_FOLDER), "table damaged", str(error))
        return
    yield from damage_of_table(table)
    if table.damaged:
        return
    reader = KeypointReader(index)
    total, done = table.count(), 0
    for batch in table.batches(_CHECKED_COLUMNS):
        for row in batch.to_pylist():
            yield from _check_row(row, reader, manifest.region_shape)
            done += 1
            if on_row:
                on_row(done, total)


def _check_row(
    row: dict[str, Any], reader: KeypointReader, regions: tuple[int, int] | None
) -> Iterator[CheckFinding]:
    if row["problem"] is not None:
        return
    path = row["path"]
    if not _descriptor_is_sound(row):
        detail = "its descriptor does not match its checksum"
        yield CheckFinding(row["id"], path, "descriptor damaged", detail)
    if not _keypoints_are_sound(row, reader, regions):
        yield CheckFinding(row["id"], path, "keypoints damaged", "its keypoints do not read back")
    try:
        same = photos.content_hash(photos.read_bytes(path)) == row["content"]
    except PhotoUnreadable as error:
        kind: Kind = "photo unreadable" if Path(os.fsdecode(path)).exists() else "photo missing"
        yield CheckFinding(row["id"], path, kind, error.reason)
    except PhotoError as error:
        yield CheckFinding(row["id"], path, "photo unreadable", error.reason)
    else:
        if not same:
            detail = "its content is not what was indexed"
            yield CheckFinding(row["id"], path, "photo changed", detail)


def _descriptor_is_sound(row: dict[str, Any]) -> bool:
    if row["descriptor"] is None:
        return False
    stored = np.array(row["descriptor"], dtype=np.float16)
    length = float(np.linalg.norm(stored.astype(np.float32)))
    return descriptor_is_sound(stored, row["checksum"]) and abs(length - 1) < _MAX_LENGTH_ERROR


def _keypoints_are_sound(
    row: dict[str, Any], reader: KeypointReader, regions: tuple[int, int] | None
) -> bool:
    """Return whether keypoints, and the codes of regions that follow them, read back."""
    place = [row[name] for name in keypoint_files.COLUMNS]
    if place[0] is None:
        return True
    try:
        reader.read(Place(*place), row["width"], row["height"])
        if regions is not None:
            reader.read_regions(Place(*place), regions)
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
        lost_fragments: data files that were damaged or did not read back.
        removed_rows: rows that did not match their checksum, or whose path was there twice.
        rebuilt: what was damaged and was made again, without a loss: any of `REBUILT`.
        projection: what became of a damaged projection; None: it was not damaged, or there is none.
        photos: photos in the index after the repair.
    """

    version: int
    manifest_restored: bool
    table_lost: bool
    went_back: bool
    lost_fragments: int
    removed_rows: int
    rebuilt: tuple[str, ...]
    projection: Literal["restored", "dropped"] | None
    photos: int


REBUILT = ("checksums", "approximate index", "snapshot", "cells", "graph", "recogniser")
"""Parts of an index that can be made again. A recogniser is learned when it is needed."""


def repair_index(index: Path) -> RepairReport:
    """Make a damaged index sound again from what is readable in it.

    This makes `index.json` again from its copy if it does not read. It goes back to the last
    version that opens (if none does, the index is emptied), drops fragments that do not read, and
    removes rows whose descriptor or keypoints do not match their checksum or whose path is there
    twice. A projection is restored from its copy in the snapshot, or dropped. Then the snapshot and
    what else is derived from the rows is made again. No photo is touched. The next update finds the
    photos of dropped rows to be new.

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
        if not (index / MANIFEST_COPY).is_file():
            move_to_damaged(index, index / MANIFEST_COPY)
        for name in _FOLDERS:
            if os.path.lexists(index / name) and not (index / name).is_dir():
                move_to_damaged(index, index / name)
        damaged = {finding.kind for finding in damaged_parts(index, manifest)}
        manifest, projection = _mend_projection(index, manifest)
        manifest.write(index)
        rebuilt = [part for part in REBUILT if f"{part} damaged" in damaged]
        if forget_checksums(index):
            rebuilt.insert(0, "checksums")
        remove_damaged_recognisers(index)
        shutil.rmtree(index / SNAPSHOT_FOLDER, ignore_errors=True)
        table, table_lost = _open_or_make_again(index, manifest.dimension)
        went_back = table.notice is not None
        if went_back:
            remove_versions_after(index, table.version)
            table = open_damaged_table(index)
        lost = _drop_unreadable_fragments(table)
        damaged_ids = _damaged_ids(table, manifest.region_shape)
        table.delete(damaged_ids)
        if any(map(is_index_file, table.damaged)):
            rebuilt.append("approximate index")
            table.drop_indices()
        table.seal()
        snapshot = build_snapshot(index, manifest, table)
        build_graph(index, manifest, snapshot)
        return RepairReport(
            version=table.version,
            manifest_restored=manifest_restored,
            table_lost=table_lost,
            went_back=went_back,
            lost_fragments=lost,
            removed_rows=len(damaged_ids),
            rebuilt=tuple(rebuilt),
            projection=projection,
            photos=snapshot.photos,
        )


def _open_or_make_again(index: Path, dimension: int) -> tuple[Table, bool]:
    """Open the table; if no version opens, move it aside and make an empty one."""
    try:
        return open_damaged_table(index), False
    except IndexDamaged:
        move_to_damaged(index, index / TABLE_FOLDER)
        return create_table(index, dimension), True


def _mend_projection(
    index: Path, manifest: Manifest
) -> tuple[Manifest, Literal["restored", "dropped"] | None]:
    """Restore a damaged projection from its copy, or take it out of the manifest."""
    try:
        read_projection(index, manifest)
    except IndexDamaged:
        copy = copied_projection(index, manifest)
        if copy is not None and manifest.projection is not None:
            with index_errors(index, "write"):
                copy.save(index / manifest.projection)
            return manifest, "restored"
        return replace(manifest, projection=None), "dropped"
    return manifest, None


def _drop_unreadable_fragments(table: Table) -> int:
    damaged = set(table.damaged)
    lost = [
        fragment
        for fragment in table.dataset.get_fragments()
        if not damaged.isdisjoint(files_of_fragment(fragment)) or not _reads(fragment)
    ]
    table.drop_fragments([fragment.fragment_id for fragment in lost])
    return len(lost)


def _reads(fragment: Any) -> bool:
    try:
        for _ in fragment.to_batches(batch_size=256):
            pass
    except (OSError, ValueError, RuntimeError):  # Lance raises these for bytes that do not parse.
        return False
    return True


def _damaged_ids(table: Table, regions: tuple[int, int] | None) -> list[int]:
    """Return the ids of rows that do not match their checksums, or whose path came before."""
    reader = KeypointReader(table.index)
    damaged: list[int] = []
    paths: set[bytes] = set()
    for batch in table.batches(_CHECKED_COLUMNS):
        for row in batch.to_pylist():
            duplicate = row["path"] in paths
            paths.add(row["path"])
            sound = row["problem"] is not None or (
                _descriptor_is_sound(row) and _keypoints_are_sound(row, reader, regions)
            )
            if duplicate or not sound:
                damaged.append(row["id"])
    return damaged
