"""Take photos out of an index, on request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from veduta.errors import IndexDamaged
from veduta.index import keypoint_files
from veduta.index.graph import build_graph
from veduta.index.manifest import Manifest
from veduta.index.snapshot import build_snapshot, open_snapshot
from veduta.index.table import open_table, writer_lock

__all__ = ["remove_photos"]


def remove_photos(index: Path, paths: Iterable[str | os.PathLike[str]]) -> int:
    """Remove photos from an index. The files themselves stay as they are.

    Args:
        index: the folder of the index.
        paths: photos, or folders for all photos below them. A folder that is removed, and each
            folder below it, is also taken from those that an update without folders reads. A
            photo in a folder that remains comes back at the next update, unless its file is gone.

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
        return not wanted.isdisjoint(_with_folders_above(path))

    with writer_lock(index):
        manifest = Manifest.read(index)
        table = open_table(index)
        if table.notice:
            raise IndexDamaged(table.notice)
        rows = open_snapshot(index).rows
        pairs = zip(rows["id"].to_pylist(), rows["path"].to_pylist(), strict=True)
        ids = sorted(row_id for row_id, path in pairs if is_wanted(path))
        folders = tuple(one for one in manifest.folders if not is_wanted(os.fsencode(one)))
        if folders != manifest.folders:
            manifest = replace(manifest, folders=folders)
            manifest.write(index)
        if ids:
            table.delete(ids)
            table.tidy()
            table.extend_indices()
            snapshot = build_snapshot(index, manifest, table)
            keypoint_files.remove_unused(index, snapshot.keypoint_files)
            build_graph(index, manifest, snapshot)
    return len(ids)


def _with_folders_above(path: bytes) -> Iterator[bytes]:
    yield path
    while (folder := os.path.dirname(path)) != path:
        path = folder
        yield path
