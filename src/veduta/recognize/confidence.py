"""What an answer is worth: from the evidence for a label to the probability that it is right.

A logistic model, fitted on questions whose answer is known, and for each precision that one may
want the confidence from which on answers reached it. What stays below is answered "unknown".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STEPS = 50  # of Newton's method, which needs about ten
_SHRINK = 1e-4  # weight of the prior on standardised features, against one a candidate
PRECISIONS = tuple(round(0.5 + 0.01 * step, 2) for step in range(50))


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
            precise; above 1 where they never were.
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
        """Return the confidence from which on a share `precision`, in [0, 1], is right."""
        at = int(np.searchsorted(PRECISIONS, min(precision, PRECISIONS[-1]) - 1e-9))
        return self.thresholds[at]


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
    """Return for each of `PRECISIONS` the lowest confidence with that precision above it."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    precision = np.cumsum((weight * right)[order]) / np.cumsum(weight[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal confidences stand or fall together
    found = []
    for wanted in PRECISIONS:
        reached = np.flatnonzero((precision >= wanted) & last)
        found.append(float(ranked[reached[-1]]) if len(reached) else 2.0)
    return tuple(np.maximum.accumulate(found).tolist())
