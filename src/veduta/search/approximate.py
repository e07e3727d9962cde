"""The nearest descriptors by Lance's approximate index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index import Table

_CELLS = 20  # k-means cells searched
_REFINED = 10  # candidates a hit that are scored again from the stored descriptors
COLUMNS = ("id", "path", "label", "width", "height", "taken")


def nearest(
    table: Table, query: NDArray[np.float32], k: int
) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """Return about the k rows with the highest cosine similarity, and the similarities.

    Args:
        table: an open table with an approximate index.
        query: (d,) float32, unit length.
        k: how many.

    Returns:
        rows as dictionaries of `COLUMNS`, and similarities (m,) float32, best first; the
        similarities are those of the stored descriptors, only the choice of rows is approximate.
    """
    found = table.nearest(query, k, COLUMNS, cells=_CELLS, refine=_REFINED)
    similarities = np.array([1 - row.pop("_distance") for row in found], np.float32)
    order = np.argsort(-similarities, kind="stable")
    return [found[i] for i in order], similarities[order]
