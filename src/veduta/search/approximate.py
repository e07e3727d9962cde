"""The nearest descriptors by Lance's approximate index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot, Table
from veduta.search.best_first import best_first

__all__ = ["nearest"]

_SEARCHED_CELLS = 20
"""How many of the k-means cells of the index are searched."""

_REFINE_FACTOR = 10
"""So many candidates for each hit are scored again from the stored descriptors."""


def nearest(
    table: Table, snapshot: Snapshot, query: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return about the k rows with the highest cosine similarity, and the similarities.

    Args:
        table: an open table with an approximate index.
        snapshot: of the same version.
        query: (d,) float32, of length one.
        k: how many rows.

    Returns:
        Rows of the snapshot (m,) and similarities (m,) float32, best first. The similarities are
        those of the stored descriptors. Only the choice of rows is approximate.
    """
    results = table.nearest(query, k, ["id"], cells=_SEARCHED_CELLS, refine=_REFINE_FACTOR)
    similarities = np.array([1 - row["_distance"] for row in results], np.float32)
    ids = np.array([row["id"] for row in results], np.int64)
    # Rows that were added after the snapshot are left out.
    rows = np.flatnonzero(np.isin(snapshot.ids, ids))
    by_id = np.argsort(ids)
    similarities = similarities[by_id[np.searchsorted(ids, snapshot.ids[rows], sorter=by_id)]]
    order = best_first(snapshot, rows, similarities)
    return rows[order], similarities[order]
