"""Verify many pairs of photos of an index by their stored keypoints, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index.keypoint_files import StoredKeypoints
from veduta.keypoints import Matching, Verification, verify_many
from veduta.processor_cores import processor_cores

__all__ = ["verify_pairs"]

_QUERIES_PER_REPORT = 64
"""How many photos are verified against others between two reports of progress."""


def verify_pairs(
    keypoints: StoredKeypoints,
    first_rows: NDArray[np.integer[Any]],
    second_rows: NDArray[np.integer[Any]],
    matching: Matching,
    on_verified: Callable[[slice, Sequence[Verification]], None],
    on_progress: Callable[[int, int], None] | None = None,
    *,
    most_keypoints: int | None = None,
) -> None:
    """Verify p pairs. The keypoints of a photo are read once if its pairs stand together.

    Args:
        keypoints: of the index.
        first_rows: (p,) rows of the snapshot. The first photo of a pair is the query.
        second_rows: (p,) rows of the other photos.
        matching: how the keypoints are matched.
        on_verified: called with the positions of some pairs and their verifications, from several
            threads.
        on_progress: called with (pairs verified, pairs).
        most_keypoints: how many of the best keypoints of a photo are used; None: all.

    Raises:
        IndexDamaged: keypoints cannot be read.
    """

    def verify_part(part: slice) -> int:
        rows = [int(first_rows[part.start]), *second_rows[part].tolist()]
        query, *others = (keypoints.read(row).best(most_keypoints) for row in rows)
        found = verify_many(query, others, matching, parallel=False)
        on_verified(part, found)
        return len(others)

    done = 0
    with ThreadPoolExecutor(processor_cores(), thread_name_prefix="veduta-link") as pool:
        for parts in _with_one_first_photo(first_rows):
            done += sum(pool.map(verify_part, parts))
            if on_progress:
                on_progress(done, len(first_rows))


def _with_one_first_photo(first_rows: NDArray[np.integer[Any]]) -> Iterator[list[slice]]:
    """Yield lists of slices; each slice holds pairs that stand together, with one first photo."""
    borders = np.flatnonzero(np.diff(first_rows, prepend=-1, append=-1)).tolist()
    slices = [slice(start, stop) for start, stop in pairwise(borders)]
    for start in range(0, len(slices), _QUERIES_PER_REPORT):
        yield slices[start : start + _QUERIES_PER_REPORT]
