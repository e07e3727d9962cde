"""The nearest descriptors by Lance's approximate index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot, Table

_CELLS = 20  # k-means cells searched
_REFINED = 10  # candidates a hit that are scored again from the stored descriptors


def nearest(
    table: Table, snapshot: Snapshot, query: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return about the k rows with the highest cosine similarity, and the similarities.

    Args:
        table: an open table with an approximate index.
        snapshot: of the same version.
        query: (d,) float32, unit length.
        k: how many.

    Returns:
        rows of the snapshot and similarities (m,) float32, best first; the similarities are those
        of the stored descriptors, only the choice of rows is approximate.
    """
    found = table.nearest(query, k, ["id"], cells=_CELLS, refine=_REFINED)
    similarities = np.array([1 - row["_distance"] for row in found], np.float32)
    ids = np.array([row["id"] for row in found], np.int64)
    known = snapshot.rows["id"].to_numpy()[: snapshot.photos]
    rows = np.flatnonzero(np.isin(known, ids))
    by_id = np.argsort(ids)
    similarities = similarities[by_id[np.searchsorted(ids, known[rows], sorter=by_id)]]
    order = np.lexsort((rows, -similarities))
    return rows[order], similarities[order]
