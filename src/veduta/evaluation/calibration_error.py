"""Whether a confidence of 0.8 is right eight times in ten."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS", "Reliability", "brier_score", "expected_calibration_error", "reliability"]

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Answers in B bins of confidence.

    `edges`: (B + 1,) ascending; a bin holds what lies above its lower edge and not above its upper
    one, the first bin its lower edge too. `counts`: (B,) answers. `confidence`, `share_right`: (B,)
    mean confidence and share of right answers, NaN in an empty bin. `expected_error`: the
    difference of the two, weighted by the counts (ECE). `largest_error`: in the worst bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    share_right: NDArray[np.float64]
    expected_error: float
    largest_error: float

    def as_json(self) -> dict[str, object]:
        """Return the errors, and `bins`, a list of objects, for `json.dump`; NaN as null."""
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
                    "confidence": None if math.isnan(confidence) else confidence,
                    "share_right": None if math.isnan(right) else right,
                }
                for above, to, count, confidence, right in columns
            ],
        }


def reliability(
    confidences: ArrayLike, right: ArrayLike, *, bins: int = BINS, equal_counts: bool = False
) -> Reliability:
    """Return how often answers are right in each bin of confidence.

    Bins of equal width are those of Guo, Pleiss, Sun and Weinberger, "On calibration of modern
    neural networks", 2017. Few answers fall into most of them when a system is mostly sure; bins of
    equal counts (Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural
    language processing models", 2015) follow the confidences. Equal confidences always share a bin,
    so there may then be fewer bins.

    Args:
        confidences: (N,) probabilities, in [0, 1].
        right: (N,) bool.
        bins: how many.
        equal_counts: whether bins hold about as many answers each, in place of equal widths.

    Raises:
        ValueError: shapes that differ, no answer, no bin, a confidence that is no probability.
    """
    values, correct = _checked(confidences, right)
    if bins < 1:
        raise ValueError(f"{bins} bins; wanted 1 or more")
    edges = _equal_counts(values, bins) if equal_counts else np.linspace(0.0, 1.0, bins + 1)
    of = np.maximum(np.searchsorted(edges, values, side="left") - 1, 0)
    size = len(edges) - 1
    counts = np.bincount(of, minlength=size)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin is the NaN that is wanted
        confidence = np.bincount(of, weights=values, minlength=size) / counts
        share = np.bincount(of, weights=correct, minlength=size) / counts
    apart = np.abs(confidence - share)[counts > 0]
    error = float(np.sum(apart * counts[counts > 0]) / len(values))
    return Reliability(edges, counts, confidence, share, error, float(apart.max()))


def expected_calibration_error(
    confidences: ArrayLike, right: ArrayLike, *, bins: int = BINS, equal_counts: bool = False
) -> float:
    """Return the `expected_error` of `reliability`, whose arguments and errors these are."""
    return reliability(confidences, right, bins=bins, equal_counts=equal_counts).expected_error


def brier_score(confidences: ArrayLike, right: ArrayLike) -> float:
    """Return the mean squared distance of the confidence from 1 if right, from 0 if wrong.

    Brier, "Verification of forecasts expressed in terms of probability", 1950, in the form for two
    outcomes: 0 is best, always saying 0.5 gives 0.25.

    `confidences`: (N,) probabilities, in [0, 1]. `right`: (N,) bool.

    Raises `ValueError` as `reliability` does.
    """
    values, correct = _checked(confidences, right)
    return float(np.mean((values - correct) ** 2))


def _equal_counts(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the edges: the smallest value, then the largest of each bin, which may be the same."""
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
    if not ((values >= 0) & (values <= 1)).all():  # NaN is neither
        raise ValueError("the confidences are not all probabilities, from 0 to 1")
    return values, correct
