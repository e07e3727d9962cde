"""Make searches of an index use its cells, on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from veduta.errors import CollectionError, readable
from veduta.index.cell_files import MIN_PHOTOS, update_cells
from veduta.index.manifest import Manifest
from veduta.index.snapshot import open_snapshot
from veduta.index.table import writer_lock

__all__ = ["build_approximate"]


def build_approximate(index: Path) -> None:
    """Build the cells of an index (`veduta.index.cells`). Searches use them from then on.

    A large collection has cells and uses them without being asked.

    Args:
        index: the folder of the index.

    Raises:
        CollectionError: the index has fewer than `MIN_PHOTOS` photos, or its cells find too few of
            the nearest photos.
        IndexLocked: another process is writing to it.
    """
    with writer_lock(index):
        manifest = replace(Manifest.read(index), approximate=True)
        snapshot = open_snapshot(index)
        if snapshot.photos < MIN_PHOTOS:
            raise CollectionError(
                f"{readable(index)} has {snapshot.photos:,} photos. An approximate search needs "
                f"{MIN_PHOTOS:,}; with fewer photos the exact search is faster."
            )
        update_cells(index, manifest, snapshot)
        manifest.write(index)
