"""Confidence: the probability that a label is right, from the evidence for it.

A logistic model is fitted on photos whose label is known. The thresholds between a name and
"unknown" are fitted on the same photos, see `veduta.recognize.unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from veduta.recognize.unknown import PRECISIONS, fit_thresholds, threshold_at

__all__ = ["Confidence", "LabelledExample", "StoredConfidence", "fit"]

_MAX_NEWTON_STEPS = 50
"""Newton's method needs about ten steps."""

_PRIOR_WEIGHT = 1e-4
"""Weight of the prior on the standardised features; a candidate label weighs 1."""


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """A photo whose label is known, with the candidate labels that a method found for it.

    Attributes:
        features: (c, f) float64, the evidence for each of c candidates.
        right: (c,) bool, which candidate is right; none of them if the photo is unknown.
        weight: how much the example counts.
    """

    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    weight: float


@dataclass(frozen=True, slots=True)
class Confidence:
    """A fitted logistic model with its thresholds.

    Attributes:
        weights: (f + 1,) of the features; the constant is last.
        thresholds: for each of `PRECISIONS`, the confidence that a name needs; `NEVER` where no
            threshold is that precise.
        examples: how many examples it was fitted on.
    """

    weights: tuple[float, ...]
    thresholds: tuple[float, ...]
    examples: int

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (c,): the probability in [0, 1] that each candidate, (c, f), is right."""
        logits = features @ np.array(self.weights[:-1]) + self.weights[-1]
        probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
        return probabilities

    def threshold(self, precision: float) -> float:
        """Return the confidence that a name needs, see `veduta.recognize.unknown.threshold_at`."""
        return threshold_at(self.thresholds, precision)


class StoredConfidence(msgspec.Struct, frozen=True):
    """A `Confidence` as JSON files hold it.

    Attributes:
        weights: as in `Confidence`.
        thresholds: as in `Confidence`.
        questions: its number of examples.
    """

    weights: tuple[float, ...]
    thresholds: Annotated[
        tuple[float, ...], msgspec.Meta(min_length=len(PRECISIONS), max_length=len(PRECISIONS))
    ]
    questions: int

    @classmethod
    def of(cls, confidence: Confidence) -> StoredConfidence:
        """Return the stored form of a confidence."""
        return cls(confidence.weights, confidence.thresholds, confidence.examples)

    def confidence(self) -> Confidence:
        """Return the confidence."""
        return Confidence(self.weights, self.thresholds, self.questions)


def fit(examples: Sequence[LabelledExample]) -> Confidence:
    """Fit the model and its thresholds.

    Args:
        examples: photos whose label is known. Examples without a candidate only count in
            `Confidence.examples`: they never get a name.

    Returns:
        The fitted model.

    Raises:
        ValueError: no example has its label among the candidates, or every one has.
    """
    answered = [example for example in examples if len(example.features)]
    if not any(e.right.any() for e in answered) or all(e.right.any() for e in examples):
        raise ValueError("needs examples with a right candidate and examples without one")
    weights = _non_negative_weights(
        np.concatenate([example.features for example in answered]),
        np.concatenate([example.right for example in answered]),
        np.concatenate([np.full(len(e.right), e.weight) for e in answered]),
    )
    model = Confidence(tuple(weights.tolist()), (0.0,) * len(PRECISIONS), len(examples))
    best = [_likeliest(model, example) for example in answered]
    thresholds = fit_thresholds(
        np.array([confidence for confidence, _ in best]),
        np.array([right for _, right in best]),
        np.array([example.weight for example in answered]),
    )
    return Confidence(model.weights, thresholds, model.examples)


def _likeliest(model: Confidence, example: LabelledExample) -> tuple[float, bool]:
    """Return the confidence of the likeliest candidate, and whether it is right."""
    probabilities = model.probabilities(example.features)
    row = int(probabilities.argmax())
    return float(probabilities[row]), bool(example.right[row])


def _non_negative_weights(
    features: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression, none negative; the constant is last.

    More evidence must never make a label less likely. Features with a negative weight are dropped
    one by one, the one with the largest effect first.
    """
    kept = np.arange(features.shape[1])
    while True:
        fitted = _logistic(features[:, kept], right, weights)
        if not len(kept) or fitted[:-1].min() >= 0:
            break
        kept = np.delete(kept, (fitted[:-1] * features[:, kept].std(axis=0)).argmin())
    result = np.zeros(features.shape[1] + 1)
    result[kept], result[-1] = fitted[:-1], fitted[-1]
    return result


def _logistic(
    features: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression by Newton's method; the constant is last."""
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-9
    table = np.column_stack([(features - mean) / std, np.ones(len(features))])
    weights = weights * (len(weights) / weights.sum())
    prior = np.diag([_PRIOR_WEIGHT * len(table)] * features.shape[1] + [0.0])
    beta = np.zeros(table.shape[1])
    for _ in range(_MAX_NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(table @ beta, -30, 30)))
        gradient = table.T @ (weights * (right - likely)) - prior @ beta
        curvature = (table * (weights * likely * (1 - likely))[:, None]).T @ table + prior
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(curvature)), gradient)
        beta += np.clip(step, -4, 4)
        if np.abs(step).max() < 1e-9:
            break
    slopes = beta[:-1] / std
    return np.append(slopes, beta[-1] - slopes @ mean)
