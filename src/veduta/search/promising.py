"""Whether the full answer to a query in another orientation is worth its time."""

from __future__ import annotations

from collections.abc import Sequence

from veduta.keypoints import MIN_INLIERS, agrees_with_any
from veduta.search.query import EncodedQuery
from veduta.search.reranking import Gallery

__all__ = ["is_promising"]


def is_promising(gallery: Gallery, query: EncodedQuery, rows: Sequence[int]) -> bool:
    """Return whether a query may have a convincing answer among its nearest photos.

    It takes a photo with which the better half of the keypoints has as many consistent matches as
    all keypoints may have with any photo. `python -m benchmarks.shortcuts` counts the queries that
    this leaves out.

    Args:
        gallery: the collection.
        query: with keypoints.
        rows: of the photos that would be verified.

    Returns:
        True too if the query is compared with regions, which may find other photos.
    """
    if query.in_regions is not None:
        return True
    if gallery.keypoints is None or gallery.matching is None:
        return False
    others = [gallery.keypoints.read(row) for row in rows]
    others = [other.best(len(other) // 2) for other in others]
    matching, least = gallery.matching, gallery.calibration.chance_matches
    return any(
        agrees_with_any(one.best(len(one) // 2), others, matching, min_consistent=least)
        for one in query.keypoints
        if len(one) >= MIN_INLIERS
    )
