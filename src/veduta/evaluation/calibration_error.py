"""Calibration: whether answers of confidence 0.8 are right eight times in ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.evaluation.figures import json_value

__all__ = ["BINS", "Reliability", "brier_score", "expected_calibration_error", "reliability"]

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Answers in B bins of confidence.

    Attributes:
        edges: (B + 1,) ascending. A bin holds confidences above its lower edge and up to its upper
            edge; the first bin holds its lower edge too.
        counts: (B,) answers.
        confidence: (B,) mean confidence, NaN in an empty bin.
        share_right: (B,) share of right answers, NaN in an empty bin.
        expected_error: difference of the last two, weighted by the counts (ECE).
        largest_error: their difference in the worst bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    share_right: NDArray[np.float64]
    expected_error: float
    largest_error: float

    def as_json(self) -> dict[str, object]:
        """Return the errors and `bins`, a list of objects, as JSON types; NaN as null."""
        columns = zip(
            self.edges[:-1].tolist(),
            self.edges[1:].tolist(),
            self.counts.tolist(),
            self.confidence.tolist(),
            self.share_right.tolist(),
            strict=True,
        )
        return {
            "expected_error": self.expected_error,
            "largest_error": self.largest_error,
            "bins": [
                {
                    "above": above,
                    "to": to,
                    "count": count,
                    "confidence": json_value(confidence),
                    "share_right": json_value(right),
                }
                for above, to, count, confidence, right in columns
            ],
        }


def reliability(
    confidences: ArrayLike, right: ArrayLike, *, bins: int = BINS, equal_counts: bool = False
) -> Reliability:
    """Return how often answers are right in each bin of confidence.

    Bins of equal width are those of Guo, Pleiss, Sun and Weinberger, "On calibration of modern
    neural networks", 2017. If a system is mostly sure, few answers fall into most of them. Bins of
    equal counts (Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural
    language processing models", 2015) follow the confidences. Equal confidences always share a bin,
    so there may be fewer bins than wanted.

    Args:
        confidences: (N,) probabilities, in [0, 1].
        right: (N,) bool.
        bins: how many.
        equal_counts: whether bins hold about equal numbers of answers, instead of having equal
            widths.

    Returns:
        The bins with their errors.

    Raises:
        ValueError: shapes differ, there is no answer or no bin, or a confidence is no probability.
    """
    values, correct = _checked(confidences, right)
    if bins < 1:
        raise ValueError(f"{bins} bins; wanted 1 or more")
    edges = _equal_counts(values, bins) if equal_counts else np.linspace(0.0, 1.0, bins + 1)
    bin_of = np.maximum(np.searchsorted(edges, values, side="left") - 1, 0)
    size = len(edges) - 1
    counts = np.bincount(bin_of, minlength=size)
    with np.errstate(
        invalid="ignore"
    ):  # an empty bin divides 0 by 0 and has the NaN that is wanted
        confidence = np.bincount(bin_of, weights=values, minlength=size) / counts
        share = np.bincount(bin_of, weights=correct, minlength=size) / counts
    errors = np.abs(confidence - share)[counts > 0]
    expected = float(np.sum(errors * counts[counts > 0]) / len(values))
    return Reliability(edges, counts, confidence, share, expected, float(errors.max()))


def expected_calibration_error(
    confidences: ArrayLike, right: ArrayLike, *, bins: int = BINS, equal_counts: bool = False
) -> float:
    """Return the `expected_error` of `reliability`.

    Args:
        confidences: as in `reliability`.
        right: as in `reliability`.
        bins: as in `reliability`.
        equal_counts: as in `reliability`.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: as `reliability`.
    """
    return reliability(confidences, right, bins=bins, equal_counts=equal_counts).expected_error


def brier_score(confidences: ArrayLike, right: ArrayLike) -> float:
    """Return the mean squared distance of the confidence from 1 if right, from 0 if wrong.

    Brier, "Verification of forecasts expressed in terms of probability", 1950, in the form for two
    outcomes: 0 is best, a confidence of always 0.5 gives 0.25.

    Args:
        confidences: (N,) probabilities, in [0, 1].
        right: (N,) bool.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: as `reliability`.
    """
    values, correct = _checked(confidences, right)
    return float(np.mean((values - correct) ** 2))


def _equal_counts(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the edges: the smallest value, then the largest value of each bin without repeats."""
    ascending = np.sort(values)
    ends = np.arange(1, bins + 1) * len(ascending) // bins
    return np.concatenate([ascending[:1], np.unique(ascending[ends[ends > 0] - 1])])


def _checked(
    confidences: ArrayLike, right: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(confidences, dtype=np.float64)
    correct = np.asarray(right, dtype=np.bool_)
    if values.ndim != 1 or values.shape != correct.shape or not len(values):
        raise ValueError(f"{values.shape} confidences and {correct.shape} judgements")
    if not ((values >= 0) & (values <= 1)).all():  # NaN fails both comparisons
        raise ValueError("the confidences are not all probabilities, from 0 to 1")
    return values, correct
