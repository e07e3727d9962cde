"""Confidence of a network that names classes by itself: from its logits to what they are worth.

The evidence for a class is the log-odds of its probability. What that is worth is learned from
photos that the network was not trained on, asked as a collection asks itself
(`veduta.recognize.held_out`): as they are, and with their own class hidden, when the right answer
is "unknown".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veduta.recognize.confidence import PRECISIONS, Confidence, Question, fit
from veduta.recognize.held_out import ENOUGH

__all__ = ["LIKELIEST", "fit_confidence", "log_odds"]

LIKELIEST = 5  # classes that are looked at


def log_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (n, C): log(p / (1 - p)) of the probabilities p = softmax of (n, C) logits, C >= 2.

    Never infinite: for class k it is z_k minus the log of the sum of exp(z_j) over the others.
    """
    values = np.asarray(logits, np.float64)
    rows, best = np.arange(len(values)), values.argmax(axis=1)
    shifted = values - values[rows, best][:, None]
    powers = np.exp(shifted)
    # Of all but the best, the others hold the best, whose power is 1: nothing cancels.
    powers[rows, best] = 0.0
    rest = powers.sum(axis=1, keepdims=True)
    found = shifted - np.log1p(rest - powers)
    runners = shifted.copy()
    runners[rows, best] = -np.inf
    second = runners.max(axis=1)
    found[rows, best] = -second - np.log(np.exp(runners - second[:, None]).sum(axis=1))
    return np.asarray(found, np.float64)


def fit_confidence(logits: NDArray[np.floating], codes: NDArray[np.integer]) -> Confidence:
    """Fit what the log-odds are worth on photos that the network was not trained on.

    Half of the weight lies on the photos as they are, half on the same photos with their class
    hidden; with two classes nothing is left to hide.

    Args:
        logits: (n, C).
        codes: (n,), the class of each photo.

    Returns:
        With fewer than `ENOUGH` photos, or where no answer is wrong, one with `questions` 0: the
        probabilities of the network as they are.
    """
    asked = []
    if len(codes) >= ENOUGH:
        for row, code in zip(logits, codes.tolist(), strict=True):
            asked.append(_question(row, code))
            if len(row) > 2:
                asked.append(_question(np.delete(row, code), None))
    if not any(q.right.any() for q in asked) or all(q.right.any() for q in asked):
        return Confidence((1.0, 0.0), PRECISIONS, 0)
    return fit(asked)


def _question(logits: NDArray[np.floating], code: int | None) -> Question:
    scores = log_odds(logits[None])[0]
    likely = np.argsort(-scores, kind="stable")[:LIKELIEST]
    right = likely == code if code is not None else np.zeros(len(likely), np.bool_)
    return Question(scores[likely][:, None], right, 1.0)
