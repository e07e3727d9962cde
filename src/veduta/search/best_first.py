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
    equal = np.ones(max(len(rows) - 1, 0), np.bool_)  # To the next one in the order.
    for value in values:
        equal &= np.diff(value[order]) == 0
    tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
    if len(tied):  # Equal photos are rare, and to read paths takes longer than to sort numbers.
        paths = snapshot.rows_at(rows[order[tied]], ["path"])["path"].to_pylist()
        group = np.cumsum(np.concatenate([[True], ~equal]))[tied].tolist()
        by_path = sorted(range(len(tied)), key=list(zip(group, paths, strict=True)).__getitem__)
        order[tied] = order[tied[by_path]]
    return order
