"""The order in which photos are listed: best first, and by path if they are equally good."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot

__all__ = ["best_first"]


def best_first(
    snapshot: Snapshot, rows: NDArray[np.intp], *values: NDArray[np.floating[Any]]
) -> NDArray[np.intp]:
    """Return the order of some photos.

    Rows have the order in which photos were indexed, which must not show in an answer. So photos
    with equal values are in the order of their paths.

    Args:
        snapshot: that has the photos.
        rows: (m,) of the snapshot, each once.
        *values: (m,) each, larger is better. The first decides. Where it is equal, the next does.

    Returns:
        (m,) positions in `rows`.
    """
    order: NDArray[np.intp] = np.lexsort([-value for value in reversed(values)])
    differs = np.zeros(max(len(rows) - 1, 0), np.bool_)
    for value in values:
        differs |= np.diff(value[order]) != 0
    # Equal photos are rare, and to read paths takes longer than to sort numbers.
    borders = np.flatnonzero(np.concatenate([[True], differs, [True]]))
    for start, length in zip(borders[:-1], np.diff(borders), strict=True):
        if length > 1:
            equal = order[start : start + length]
            paths = snapshot.rows_at(rows[equal], ["path"])["path"].to_pylist()
            by_path = sorted(range(length), key=paths.__getitem__)
            order[start : start + length] = equal[by_path]
    return order
