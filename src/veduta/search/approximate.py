"""The nearest descriptors among the photos of the nearest cells (`veduta.index.cells`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot
from veduta.index.cell_files import StoredCells
from veduta.search.best_first import best_first
from veduta.search.exact import score

__all__ = ["SEARCHED_FROM_PHOTOS", "nearest"]

SEARCHED_FROM_PHOTOS = 100_000
"""From so many photos on, a search uses the cells. docs/scale.md compares the times."""

_SCORED_PER_HIT = 4
_LEAST_SCORED_PHOTOS = 256
"""So many photos, those with the nearest codes, are scored from the stored descriptors."""


def nearest(
    snapshot: Snapshot, stored: StoredCells, query: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return about the k rows with the highest cosine similarity, and the similarities.

    Args:
        snapshot: n rows of length one and dimension d.
        stored: its cells.
        query: (d,) float32, of length one.
        k: how many rows.

    Returns:
        Rows of the snapshot (m,) and similarities (m,) float32, best first. Each similarity is
        that of the exact search. Only the choice of rows is approximate.
    """
    scored = max(_SCORED_PER_HIT * k, _LEAST_SCORED_PHOTOS)
    rows = stored.cells.candidates(query, scored, stored.compared).astype(np.intp)
    similarities = score(snapshot, query, rows)
    order = best_first(snapshot, rows, similarities)[:k]
    return rows[order], similarities[order]
