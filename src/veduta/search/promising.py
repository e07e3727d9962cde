"""Whether the full answer to a query in another orientation is worth its time."""

from __future__ import annotations

from collections.abc import Sequence

from veduta.index.distinct_photos import first_of_copies
from veduta.keypoints import MIN_INLIERS, agrees_with_any
from veduta.search.query import EncodedQuery
from veduta.search.reranking import Gallery

__all__ = ["is_promising"]


def is_promising(gallery: Gallery, query: EncodedQuery, rows: Sequence[int]) -> bool:
    """Return whether a query may have a convincing answer among its nearest photos.

    Only the better half of the keypoints is matched. It must have as many consistent matches with
    one photo as all keypoints may have by chance. `python -m benchmarks.shortcuts` counts the
    queries that are left out.

    Args:
        gallery: the collection.
        query: with keypoints.
        rows: of the photos that would be verified.

    Returns:
        Whether it may. A query that is compared with regions always may, because they find other
        photos than `rows`.
    """
    if query.in_regions is not None:
        return True
    if gallery.keypoints is None or gallery.matching is None:
        return False
    different = dict.fromkeys(first_of_copies(gallery.snapshot, rows))
    others = [gallery.keypoints.read(row) for row in different]
    others = [other.best(len(other) // 2) for other in others]
    matching, least = gallery.matching, gallery.calibration.chance_matches
    return any(
        agrees_with_any(one.best(len(one) // 2), others, matching, min_consistent=least)
        for one in query.keypoints
        if len(one) >= MIN_INLIERS
    )
