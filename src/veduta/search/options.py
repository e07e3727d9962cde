"""What a search is asked to do. The command line imports this file, so it loads nothing heavy."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from veduta.errors import QueryError

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

__all__ = [
    "DISTANCES",
    "EFFORTS",
    "ORIENTATIONS",
    "RERANK_MODES",
    "RICHEST_KEYPOINTS",
    "VERIFIED_PHOTOS",
    "Moment",
    "SearchOptions",
    "check_numbers",
    "check_orientation",
    "is_whole_number",
]

VERIFIED_PHOTOS = 50
"""How many of the nearest photos of a query are verified by geometry."""

EFFORTS = {"low": 20, "normal": VERIFIED_PHOTOS, "high": 200}
"""How many of the nearest photos are verified with each effort. Geometry takes most of the time of
a query."""

RICHEST_KEYPOINTS = "xfeat:2048"
"""By which two photos alone are compared. An index has fewer, because they take room and time."""

DISTANCES = ("cosine", "euclidean", "manhattan", "chebyshev", "correlation")
"""The names of the distances, see `veduta.search.distances`."""

RERANK_MODES = ("auto", "none", "global", "geometry")
"""The names of the ways to re-rank, see `SearchOptions.rerank`."""

AUTO = "auto"

ORIENTATIONS = (
    AUTO,
    "upright",
    "90",
    "180",
    "270",
    "mirrored",
    "90-mirrored",
    "180-mirrored",
    "270-mirrored",
)
"""The names of the ways to turn a query, see `SearchOptions.orientation`. The names but the first
are those of `veduta.photos.orientation.ALL_ORIENTATIONS`, which are too slow to load for `--help`.
"""

Moment: TypeAlias = "date | str"
"""A datetime, a date, or ISO text such as "2014", "2014-05-06" or "2014-05-06T07:08:09+02:00".

One without a zone is in the local time.
"""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. A photo must meet all conditions that are given.

    Attributes:
        k: the largest number of hits, at least 1.
        labels: only photos with one of these labels.
        under: only photos in this folder or below it.
        after: only photos taken at this time or later: a datetime, a date or ISO text. Of a photo
            without a date the time of the last change of its file counts.
        before: only photos taken earlier than this.
        min_score: only hits with at least this score, see `veduta.search.Hit.score`.
        distance: one of `DISTANCES`. Only hits by cosine are re-ranked.
        exact: look at all photos, also where a large collection is searched by its cells. A search
            with conditions, or with another distance than cosine, is always exact.
        rerank: `"none"` ranks by the descriptors alone, `"global"` by the neighbour graph too,
            `"geometry"` also verifies the nearest photos, and `"auto"` is the most thorough one
            that the index has the data for.
        verify: how many of the nearest photos are verified.
        fold_copies: return copies of one photo as one hit, see `veduta.search.Hit.copies`.
        not_ids: ids of photos that are no hits, because a person has called them wrong, with all
            files of the same content. The other photos keep their order.
        mark_copies: say which hits are copies of the query or of a hit before them, see
            `veduta.search.Hit.copy_of`.
        orientation: one of `ORIENTATIONS`: how the query is turned before it is compared. `"auto"`
            tries the other orientations if nothing convincing is found for the query as it is, see
            `veduta.search.best_orientation`. `"upright"` takes the query as it is. `"90"` turns it
            by 90° clockwise, `"90-mirrored"` then swaps left and right as well.
    """

    k: int = 10
    labels: tuple[str, ...] = ()
    under: Path | None = None
    after: Moment | None = None
    before: Moment | None = None
    min_score: float | None = None
    distance: str = "cosine"
    exact: bool = False
    rerank: str = "auto"
    verify: int = VERIFIED_PHOTOS
    fold_copies: bool = False
    mark_copies: bool = False
    not_ids: tuple[int, ...] = ()
    orientation: str = "auto"


def is_whole_number(value: Any) -> bool:
    """Return whether a value is a whole number, also one of numpy. True and False are none."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def check_numbers(options: SearchOptions) -> None:
    """Check the numbers of options that Python code has set.

    Args:
        options: how to search.

    Raises:
        QueryError: `k` or `verify` is no whole number of at least 1, `min_score` is not finite, or
            `orientation` is unknown.
    """
    if not is_whole_number(options.k) or options.k < 1:
        raise QueryError(f"Ask for at least one hit, not {options.k!r}.")
    if not is_whole_number(options.verify) or options.verify < 1:
        raise QueryError(f"Verify at least one photo, not {options.verify!r}.")
    score = options.min_score
    if score is not None and not (isinstance(score, (int, float)) and math.isfinite(score)):
        raise QueryError(f"The least score is a finite number, not {score!r}.")
    check_orientation(options.orientation)


def check_orientation(name: str) -> None:
    """Raise `QueryError` unless `name` is one of `ORIENTATIONS`."""
    if name not in ORIENTATIONS:
        raise QueryError(f"There is no orientation {name!r}. Known: {', '.join(ORIENTATIONS)}.")
