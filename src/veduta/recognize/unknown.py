"""The rule for "unknown": which confidence a name needs, and why a photo gets no name.

A user asks for a precision: the share of the given names that should be right. For each of
`PRECISIONS` a threshold is fitted on labelled examples. An answer gets its name if its confidence
is the threshold or more; otherwise the photo is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.search.reranking import Ranking

__all__ = [
    "NEVER",
    "PRECISIONS",
    "Answer",
    "Decision",
    "check_precision",
    "decide",
    "fit_thresholds",
    "reason_for_unknown",
    "threshold_at",
]

PRECISIONS = tuple(round(0.5 + 0.01 * step, 2) for step in range(50))
"""The precisions that a threshold is fitted for: 0.50, 0.51, … 0.99."""

NEVER = 2.0
"""A threshold that no confidence reaches."""

_MIN_RIVAL_SHARE = 0.5
"""The reason names a second label from this share of the first one's confidence on."""

_MIN_RIVAL_CONFIDENCE = 0.1
"""The reason names no second label with less confidence than this."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The labels that a photo may have.

    Attributes:
        names: labels, likeliest first; empty if no photo with a label resembles the query.
        confidences: (c,) probability in [0, 1] that each label is right, highest first.
        ranking: the gallery photos that were compared, nearest first.
    """

    names: tuple[str, ...]
    confidences: NDArray[np.float64]
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a photo gets a name.

    Attributes:
        label: the name that is given, or None for "unknown".
        guess: the likeliest label, given or not; None without any label.
        confidence: probability in [0, 1] that the guess is right; 0 without a guess.
        threshold: the confidence that a name needs; above 1 no name is ever given.
    """

    label: str | None
    guess: str | None
    confidence: float
    threshold: float


def decide(answer: Answer, threshold: float) -> Decision:
    """Give the likeliest label as the name if its confidence is `threshold` or more."""
    if not answer.names:
        return Decision(None, None, 0.0, threshold)
    guess, confidence = answer.names[0], float(answer.confidences[0])
    return Decision(guess if confidence >= threshold else None, guess, confidence, threshold)


def reason_for_unknown(
    answer: Answer, threshold: float, precision: float, *, nearest_is_labelled: bool
) -> str:
    """Return a sentence that says why a photo gets no name.

    Args:
        answer: the labels that the photo may have.
        threshold: the confidence that a name needs.
        precision: the precision that the threshold belongs to.
        nearest_is_labelled: whether the nearest gallery photo has a label.

    Returns:
        The sentence, in lower case and without a full stop.
    """
    if not answer.names:
        return "no labelled photo resembles it"
    guess, confidence = answer.names[0], float(answer.confidences[0])
    if not nearest_is_labelled:
        return f"the photo nearest to it has no label; {guess} comes next"
    if len(answer.names) > 1:
        rival, rival_confidence = answer.names[1], float(answer.confidences[1])
        if rival_confidence >= max(_MIN_RIVAL_SHARE * confidence, _MIN_RIVAL_CONFIDENCE):
            return f"it may be {guess} ({confidence:.0%}) or {rival} ({rival_confidence:.0%})"
    if threshold > 1:
        return f"no answer of this collection reaches a precision of {precision:.0%}"
    # The two are rounded apart, so that a confidence below the threshold never reads as equal.
    needed, reached = math.ceil(threshold * 100), math.floor(confidence * 100)
    return f"{guess} is the likeliest at {reached or 'under 1'}%; names are given from {needed}% on"


def check_precision(precision: float) -> None:
    """Raise `QueryError` unless `precision` is in the range of `PRECISIONS`."""
    if not PRECISIONS[0] <= precision <= PRECISIONS[-1]:
        raise QueryError(
            f"A precision of {precision:g} cannot be reached by a threshold: it is the share of "
            f"the names given that should be right, from {PRECISIONS[0]} to {PRECISIONS[-1]}."
        )


def threshold_at(thresholds: Sequence[float], precision: float) -> float:
    """Return the threshold of a precision; between two of `PRECISIONS` that of the higher one.

    Args:
        thresholds: one for each of `PRECISIONS`.
        precision: in [0.5, 0.99].

    Returns:
        The lowest confidence that gets a name; above 1 no name is given.

    Raises:
        QueryError: the precision is out of range.
    """
    check_precision(precision)
    return thresholds[int(np.searchsorted(PRECISIONS, precision - 1e-9))]


def fit_thresholds(
    confidences: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[float, ...]:
    """Return for each of `PRECISIONS` the lowest threshold with that precision.

    Only right answers are candidates for the lowest one that gets a name: below the last of them
    there is nothing to gain. The threshold lies half way between that answer and the next one
    below it, because all values in between give the same names on these examples.

    Args:
        confidences: (N,) of the likeliest label of each example.
        right: (N,) bool, whether that label is right.
        weights: (N,) of the examples, positive.

    Returns:
        One threshold for each of `PRECISIONS`; `NEVER` where no threshold is that precise.
    """
    order = np.argsort(confidences, kind="stable")
    ascending = confidences[order]
    candidates = np.unique(confidences[right])
    first = np.searchsorted(ascending, candidates)
    right_above = np.cumsum((weights * right)[order][::-1])[::-1]
    all_above = np.cumsum(weights[order][::-1])[::-1]
    precision = right_above[first] / all_above[first]
    halfway = (candidates + np.concatenate([[0.0], ascending])[first]) / 2
    thresholds = []
    for wanted in PRECISIONS:
        precise = halfway[precision >= wanted]
        thresholds.append(float(precise[0]) if len(precise) else NEVER)
    return tuple(thresholds)
