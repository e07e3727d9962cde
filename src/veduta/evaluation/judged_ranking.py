"""Where the right photos of a query stand in a ranking: all that the figures of a query need.

Nothing here holds queries × gallery, and a gallery is not sorted as a whole: only photos that score
at least as high as the lowest right one are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["JudgedRanking", "judge_order", "judge_scores", "ranked_down_to"]

_NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRanking:
    """A ranking of which only the right photos are kept.

    Attributes:
        positions: (P,) int64 ranks of the right photos, ascending from 0. Photos that were taken
            out are not counted.
        grades: (P,) float64 their grades, in this order.
        all_grades: (N,) float64 the grades of all right photos of the gallery, N ≥ P: a ranking may
            lack some.
    """

    positions: NDArray[np.int64]
    grades: NDArray[np.float64]
    all_grades: NDArray[np.float64]

    @property
    def positives(self) -> int:
        """How many photos of the gallery are right."""
        return len(self.all_grades)


def judge_scores(
    scores: ArrayLike,
    right: NDArray[np.int64],
    grades: NDArray[np.float64],
    left_out: NDArray[np.int64] = _NO_ROWS,
) -> JudgedRanking:
    """Return where the right photos stand if the whole gallery is ranked by scores.

    Equal scores rank in the order of the gallery.

    Args:
        scores: (G,) of every gallery photo, higher is nearer; -inf ranks a photo last.
        right: (N,) int64 different positions of the right photos.
        grades: (N,) float64 of these.
        left_out: (M,) int64 positions that are taken out before ranking, right or not.

    Returns:
        The ranking.

    Raises:
        ValueError: a score is NaN.
    """
    values = _without_nan(scores)
    stays = ~np.isin(right, left_out)
    right, grades = right[stays], grades[stays]
    if not len(right):
        return JudgedRanking(_NO_ROWS, grades, grades)
    return judge_order(ranked_down_to(values, right, left_out), right, grades)


def ranked_down_to(
    scores: ArrayLike, wanted: NDArray[np.int64], left_out: NDArray[np.int64] = _NO_ROWS
) -> NDArray[np.int64]:
    """Return the ranking of a gallery down to the last of some photos.

    Equal scores rank in the order of the gallery; all photos with the lowest score are there.

    Args:
        scores: (G,) of every gallery photo; higher is nearer.
        wanted: (N,) int64 positions; without any the ranking is empty.
        left_out: (M,) int64 positions that are not ranked.

    Returns:
        (R,) int64 positions, best first.

    Raises:
        ValueError: a score is NaN.
    """
    values = _without_nan(scores)
    if not len(wanted):
        return _NO_ROWS
    is_candidate = values >= values[wanted].min()
    is_candidate[left_out] = False
    candidates = np.flatnonzero(is_candidate)
    # Twice reversed, because the negative of a whole number may be none of its type.
    ascending = np.argsort(values[candidates][::-1], kind="stable")
    return candidates[::-1][ascending][::-1]


def _without_nan(scores: ArrayLike) -> NDArray[np.generic]:
    values = np.asarray(scores)
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN")
    return values


def judge_order(
    order: ArrayLike,
    right: NDArray[np.int64],
    grades: NDArray[np.float64],
    left_out: NDArray[np.int64] = _NO_ROWS,
) -> JudgedRanking:
    """Return where the right photos stand in a ranking, which may lack some of the gallery.

    Args:
        order: (R,) int positions in the gallery, best first. A photo that is listed again counts as
            a wrong one and keeps its rank.
        right: (N,) int64 different positions of the right photos.
        grades: (N,) float64 of these.
        left_out: (M,) int64 positions that are taken out before ranking, right or not.

    Returns:
        The ranking.
    """
    ranked = np.asarray(order, dtype=np.int64)
    if len(left_out):
        stays = ~np.isin(right, left_out)
        right, grades = right[stays], grades[stays]
        ranked = ranked[~np.isin(ranked, left_out)]
    ascending = np.argsort(right, kind="stable")
    right, grades = right[ascending], grades[ascending]
    found = np.flatnonzero(np.isin(ranked, right))
    _, first = np.unique(ranked[found], return_index=True)
    positions = found[np.sort(first)]
    return JudgedRanking(
        positions.astype(np.int64), grades[np.searchsorted(right, ranked[positions])], grades
    )
