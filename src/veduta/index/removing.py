"""Take photos and folders out of an index, on request."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from veduta.errors import QueryError, readable
from veduta.index import keypoint_files
from veduta.index.graph import build_graph
from veduta.index.manifest import Manifest
from veduta.index.removed_photos import RemovedPhotos
from veduta.index.snapshot import build_snapshot, open_snapshot
from veduta.index.sources import folders_above, folders_with_photos
from veduta.index.table import open_table_to_write, writer_lock

__all__ = ["ForgetReport", "forget_folders", "remove_photos"]


def remove_photos(index: Path, paths: Iterable[str | os.PathLike[str]]) -> int:
    """Remove photos from an index. The files themselves stay as they are.

    Args:
        index: the folder of the index.
        paths: photos, or folders for all photos below them. A folder that is removed, and each
            folder below it, is also taken from those that an update without folders reads. A
            photo that is named itself stays out at later updates. One of a folder that is named
            and that lies in a folder that remains comes back, unless its file is gone.

    Returns:
        How many rows were removed, those of unreadable files included. Paths that the index does
        not hold are ignored.

    Raises:
        IndexLocked: another process is writing to the index.
        IndexDamaged: the index does not open, or only at an older version.
        StorageFull: the disk is full.
    """
    wanted = {os.path.abspath(os.fsencode(path)) for path in paths}

    def is_wanted(path: bytes) -> bool:
        return not wanted.isdisjoint(folders_above(path))

    with writer_lock(index):
        manifest = Manifest.read(index)
        table = open_table_to_write(index)
        rows = open_snapshot(index).rows
        pairs = zip(rows["id"].to_pylist(), rows["path"].to_pylist(), strict=True)
        gone = {path: row_id for row_id, path in pairs if is_wanted(path)}
        ids = sorted(gone.values())
        folders = tuple(one for one in manifest.folders if not is_wanted(os.fsencode(one)))
        if folders != manifest.folders:
            manifest = replace(manifest, folders=folders)
            manifest.write(index)
        RemovedPhotos(index).add(wanted.intersection(gone))
        if ids:
            table.delete(ids)
            table.tidy()
            table.drop_indices()
            snapshot = build_snapshot(index, manifest, table)
            keypoint_files.remove_unused(index, snapshot.keypoint_files)
            build_graph(index, manifest, snapshot)
    return len(ids)


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What `forget_folders` did.

    Attributes:
        removed: number of rows that were removed, those of unreadable files included.
        still_read: the folders that the index still knows and in which a forgotten folder lies. The
            next update adds the photos again that are there.
    """

    removed: int
    still_read: tuple[str, ...]


def forget_folders(index: Path, folders: Iterable[str | os.PathLike[str]]) -> ForgetReport:
    """Take folders, with all photos below them, out of an index. They need not exist any more.

    Args:
        index: the folder of the index.
        folders: folders that the index knows, or in which photos of it lie. A photo that was
            indexed singly may be named, too.

    Returns:
        What was done.

    Raises:
        QueryError: the index neither knows a folder nor has photos from it. Nothing is changed.
        IndexLocked: another process is writing to the index.
        IndexDamaged: the index does not open, or only at an older version.
        StorageFull: the disk is full.
    """
    known = Manifest.read(index).folders
    paths = open_snapshot(index).rows["path"].to_pylist()
    used = folders_with_photos(paths).union(paths)
    used.update(above for folder in known for above in folders_above(os.fsencode(folder)))
    wanted = [os.path.abspath(os.fsencode(folder)) for folder in folders]
    for folder in wanted:
        if folder not in used:
            listed = ", ".join(map(readable, known)) or "no folder"
            raise QueryError(
                f"{readable(folder)}: {readable(index)} does not know this folder and has no photo "
                f"from it. It knows: {listed}"
            )
    removed = remove_photos(index, map(os.fsdecode, wanted))
    # A photo that is named itself stays out.
    folders_only = set(wanted).difference(paths)
    above = {os.fsdecode(one) for folder in folders_only for one in folders_above(folder)}
    return ForgetReport(removed, tuple(sorted(above & set(Manifest.read(index).folders))))
