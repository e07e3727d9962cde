"""An approximate index over the descriptors, for collections beyond what memory scans quickly.

Lance keeps it beside the rows: an inverted file over k-means cells with product quantisation
(Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011). The exact scan
stays the default; docs/benchmarks.md compares the two.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from veduta.errors import CollectionError, readable
from veduta.index.manifest import Manifest
from veduta.index.store import open_table, writing

AUTOMATIC_FROM = 2_000_000
"""Number of photos from which `veduta index` builds it unasked."""
LEAST = 5_000
"""Number of photos below which it cannot be trained well, nor gain anything."""
_DIMENSIONS_A_CODE = 16  # one byte stands for so many dimensions


def build_approximate(index: Path) -> None:
    """Build the approximate index of `index` anew; searches use it from then on.

    Raises:
        CollectionError: fewer than `LEAST` photos.
        IndexLocked: another process is writing to it.
    """
    with writing(index):
        manifest = Manifest.read(index)
        table = open_table(index)
        photos = table.count("problem IS NULL")
        if photos < LEAST:
            raise CollectionError(
                f"{readable(index)} has {photos:,} photos; an approximate index takes {LEAST:,}, "
                "and below that the exact search is quicker anyway."
            )
        table.index_descriptors(
            partitions=math.isqrt(photos),
            codes=max(1, manifest.dimension // _DIMENSIONS_A_CODE),
        )
        replace(manifest, approximate=True).write(index)
