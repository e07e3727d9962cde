"""Confidence of a network that has classes itself: from its logits to calibrated probabilities.

The evidence for a class is the log-odds of its probability. The confidence is fitted on photos that
the network was not trained on. Each is used twice: as it is, and with its own class hidden, so that
the right answer is "unknown".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veduta.recognize.confidence import Confidence, LabelledExample, fit
from veduta.recognize.held_out import MIN_NAMEABLE_PHOTOS
from veduta.recognize.unknown import PRECISIONS

__all__ = ["MAX_CANDIDATES", "fit_confidence", "log_odds"]

MAX_CANDIDATES = 5
"""Classes of the highest scores that become candidates."""


def log_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the log-odds of class probabilities, log(p / (1 - p)) with p = softmax of logits.

    For class k this is z_k minus the logarithm of the sum of exp(z_j) over the other classes, which
    is never infinite.

    Args:
        logits: (n, C) with C >= 2.

    Returns:
        (n, C) float64.
    """
    values = np.asarray(logits, np.float64)
    rows, best = np.arange(len(values)), values.argmax(axis=1)
    shifted = values - values[rows, best][:, None]
    powers = np.exp(shifted)
    # The others of each class but the best one hold the best, whose power is 1: nothing cancels.
    powers[rows, best] = 0.0
    rest = powers.sum(axis=1, keepdims=True)
    result = shifted - np.log1p(rest - powers)
    others = shifted.copy()
    others[rows, best] = -np.inf
    second = others.max(axis=1)
    result[rows, best] = -second - np.log(np.exp(others - second[:, None]).sum(axis=1))
    return np.asarray(result, np.float64)


def fit_confidence(logits: NDArray[np.floating], class_ids: NDArray[np.integer]) -> Confidence:
    """Fit the confidence of log-odds on photos that the network was not trained on.

    Half of the weight is on the photos as they are, half on the same photos with their class
    hidden. With two classes none can be hidden.

    Args:
        logits: (n, C).
        class_ids: (n,), the class of each photo.

    Returns:
        The confidence. With fewer than `MIN_NAMEABLE_PHOTOS` photos, or if no answer is wrong, it
        has 0 `examples` and gives the probabilities of the network unchanged.
    """
    examples = []
    if len(class_ids) >= MIN_NAMEABLE_PHOTOS:
        for row, class_id in zip(logits, class_ids.tolist(), strict=True):
            examples.append(_example(row, class_id))
            if len(row) > 2:
                examples.append(_example(np.delete(row, class_id), None))
    has_answer = [bool(example.right.any()) for example in examples]
    if not any(has_answer) or all(has_answer):
        return Confidence((1.0, 0.0), PRECISIONS, 0)
    return fit(examples)


def _example(logits: NDArray[np.floating], class_id: int | None) -> LabelledExample:
    scores = log_odds(logits[None])[0]
    likeliest = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    right = likeliest == class_id if class_id is not None else np.zeros(len(likeliest), np.bool_)
    return LabelledExample(scores[likeliest][:, None], right, 1.0)
