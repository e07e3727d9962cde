"""An approximate index of the descriptors, for collections that memory cannot scan quickly.

Lance keeps it beside the rows: an inverted file over k-means cells with product quantisation
(Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011). The exact scan
is the default. docs/benchmarks.md compares the two.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from veduta.errors import CollectionError, readable
from veduta.index.manifest import Manifest
from veduta.index.snapshot import open_snapshot
from veduta.index.table import Table, open_table_to_write, writer_lock

AUTOMATIC_FROM = 2_000_000
"""Number of photos from which `veduta index` builds the approximate index by itself."""
MIN_PHOTOS = 5_000
"""With fewer photos the approximate index cannot be trained well, and is no faster."""
_DIMENSIONS_PER_BYTE = 16


def outgrows_exact_search(index: Path) -> bool:
    """Tell whether an index is large enough for an approximate index and has none yet.

    Args:
        index: the folder of the index.

    Raises:
        NotAnIndex: there is no index.
        IndexDamaged: the index does not open.
    """
    return open_snapshot(index).photos >= AUTOMATIC_FROM and not Manifest.read(index).approximate


def build_approximate(index: Path) -> None:
    """Build the approximate index anew. Searches use it from then on.

    Args:
        index: the folder of the index.

    Raises:
        CollectionError: the index has fewer than `MIN_PHOTOS` photos.
        IndexLocked: another process is writing to it.
    """
    with writer_lock(index):
        manifest = Manifest.read(index)
        table = open_table_to_write(index)
        photos = table.count("problem IS NULL")
        if photos < MIN_PHOTOS:
            raise CollectionError(
                f"{readable(index)} has {photos:,} photos. An approximate index needs "
                f"{MIN_PHOTOS:,}; with fewer photos the exact search is faster."
            )
        _build(table, manifest, photos)
        replace(manifest, approximate=True).write(index)


def rebuild_approximate(index: Path, manifest: Manifest, table: Table) -> Manifest:
    """Build a damaged approximate index again, or remove it if there are too few photos now.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        manifest: of the index.
        table: its newest version.

    Returns:
        The manifest as it is now.
    """
    table.drop_indices()
    photos = table.count("problem IS NULL")
    if manifest.approximate and photos >= MIN_PHOTOS:
        _build(table, manifest, photos)
        return manifest
    manifest = replace(manifest, approximate=False)
    manifest.write(index)
    return manifest


def _build(table: Table, manifest: Manifest, photos: int) -> None:
    table.index_descriptors(
        partitions=math.isqrt(photos),
        bytes_per_descriptor=max(1, manifest.dimension // _DIMENSIONS_PER_BYTE),
    )
