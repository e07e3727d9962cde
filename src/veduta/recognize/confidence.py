"""What an answer is worth: from the evidence for a label to the probability that it is right.

A logistic model, fitted on questions whose answer is known, and for each precision that one may
want the confidence from which on answers reached it. What stays below is answered "unknown".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError

_STEPS = 50  # of Newton's method, which needs about ten
_SHRINK = 1e-4  # weight of the prior on standardised features, against one a candidate
PRECISIONS = tuple(round(0.5 + 0.01 * step, 2) for step in range(50))
NEVER = 2.0  # a threshold that no confidence reaches


@dataclass(frozen=True, slots=True)
class Question:
    """One photo whose answer is known.

    Attributes:
        features: (c, f) of the candidates.
        right: (c,) bool, which of them is the answer; none for a photo of something else.
        weight: how much the question counts.
    """

    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    weight: float


@dataclass(frozen=True, slots=True)
class Confidence:
    """A fitted model.

    Attributes:
        weights: of the features; the constant last.
        thresholds: for each of `PRECISIONS`, the confidence from which on answers are that
            precise; `NEVER` where they never were.
        questions: how many it was fitted on.
    """

    weights: tuple[float, ...]
    thresholds: tuple[float, ...]
    questions: int

    def of(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (c,): the probability in (0, 1) that each candidate, (c, f), is right."""
        logits = features @ np.array(self.weights[:-1]) + self.weights[-1]
        confidence: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
        return confidence

    def threshold(self, precision: float) -> float:
        """Return the confidence from which on a share `precision`, in [0.5, 0.99], is right.

        Raises:
            QueryError: the precision is out of that range.
        """
        check_precision(precision)
        return self.thresholds[int(np.searchsorted(PRECISIONS, precision - 1e-9))]


def check_precision(precision: float) -> None:
    """Raise `QueryError` unless `precision` is in the range of `PRECISIONS`."""
    if not PRECISIONS[0] <= precision <= PRECISIONS[-1]:
        raise QueryError(
            f"A precision of {precision:g} cannot be asked for: wanted a share of the names given, "
            f"from {PRECISIONS[0]} to {PRECISIONS[-1]}."
        )


def fit(questions: Sequence[Question]) -> Confidence:
    """Fit the model and find its thresholds.

    Raises:
        ValueError: no question has its answer among the candidates, or every one has.
    """
    asked = [question for question in questions if len(question.features)]
    if not any(q.right.any() for q in asked) or all(q.right.any() for q in questions):
        raise ValueError("needs questions with an answer and questions without one")
    features = np.concatenate([question.features for question in asked])
    right = np.concatenate([question.right for question in asked])
    weight = np.concatenate([np.full(len(q.right), q.weight) for q in asked])
    weights = tuple(_rising(features, right, weight).tolist())
    model = Confidence(weights, (0.0,) * len(PRECISIONS), len(questions))
    best = [_best(model, question) for question in asked]
    thresholds = _thresholds(
        np.array([confidence for confidence, _ in best]),
        np.array([good for _, good in best]),
        np.array([question.weight for question in asked]),
    )
    return Confidence(weights, thresholds, len(questions))


def _best(model: Confidence, question: Question) -> tuple[float, bool]:
    confidence = model.of(question.features)
    at = int(confidence.argmax())
    return float(confidence[at]), bool(question.right[at])


def _rising(
    features: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression none of which is negative, the constant last.

    More evidence must never make a name less likely, so what would do that is left out, the worst
    first.
    """
    kept = np.arange(features.shape[1])
    while True:
        found = _logistic(features[:, kept], right, weight)
        if not len(kept) or found[:-1].min() >= 0:
            break
        kept = np.delete(kept, (found[:-1] * features[:, kept].std(axis=0)).argmin())
    weights = np.zeros(features.shape[1] + 1)
    weights[kept], weights[-1] = found[:-1], found[-1]
    return weights


def _logistic(
    features: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression, the constant last, by Newton's method."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    table = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    weight = weight * (len(weight) / weight.sum())
    prior = np.diag([_SHRINK * len(table)] * features.shape[1] + [0.0])
    beta = np.zeros(table.shape[1])
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(table @ beta, -30, 30)))
        slope = table.T @ (weight * (right - likely)) - prior @ beta
        curve = (table * (weight * likely * (1 - likely))[:, None]).T @ table + prior
        step = np.linalg.solve(curve + 1e-9 * np.eye(len(curve)), slope)
        beta += np.clip(step, -4, 4)
        if np.abs(step).max() < 1e-9:
            break
    scaled = beta[:-1] / spread
    return np.append(scaled, beta[-1] - scaled @ mean)


def _thresholds(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[float, ...]:
    """Return for each of `PRECISIONS` the lowest confidence with that precision from there on.

    The lowest right answer that is to be given decides, since below the last one there is nothing
    to gain. The threshold lies half way to the next answer below it: all in between is the same to
    these questions, and another photo may be a little less sure than the least sure of them.
    """
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    least = np.unique(confidence[right])
    first = np.searchsorted(ranked, least)
    good = np.cumsum((weight * right)[order][::-1])[::-1]
    every = np.cumsum(weight[order][::-1])[::-1]
    precision = good[first] / every[first]
    halfway = (least + np.concatenate([[0.0], ranked])[first]) / 2
    found = []
    for wanted in PRECISIONS:
        reached = halfway[precision >= wanted]
        found.append(float(reached[0]) if len(reached) else NEVER)
    return tuple(found)
