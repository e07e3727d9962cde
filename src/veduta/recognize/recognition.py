"""What a photo was recognised as, for people: the name, how sure, why, or why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from veduta.recognize.confidence import Confidence
from veduta.recognize.recognizer import Answer
from veduta.search import Hit

_RUNNERS_UP = 4
_DECIDING = 5  # gallery photos that are shown
_RIVAL = 0.5  # of the likeliest's confidence: a second label that is nearly as likely


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a photo shows.

    Attributes:
        label: its name, or None: unknown.
        guess: the likeliest name, whether or not it was given; None when nothing speaks for any.
        confidence: that `guess` is right, in [0, 1].
        threshold: the confidence from which on a name is given; above 1: never.
        reason: why the photo stays unknown; None with a name.
        runners_up: the next likeliest names with their confidences, best first.
        hits: the photos that decided: those of the guess that resemble the photo most; for a photo
            that stays unknown, the nearest of all.
    """

    label: str | None
    guess: str | None
    confidence: float
    threshold: float
    reason: str | None
    runners_up: tuple[tuple[str, float], ...]
    hits: tuple[Hit, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the recognition as JSON types."""
        return {
            "label": self.label,
            "guess": self.guess,
            "confidence": round(self.confidence, 6),
            "threshold": round(self.threshold, 6) if self.threshold <= 1 else None,
            "reason": self.reason,
            "runners_up": [
                {"label": name, "confidence": round(value, 6)} for name, value in self.runners_up
            ],
            "hits": [hit.as_json() for hit in self.hits],
        }


def decide(
    answer: Answer, confidence: Confidence, precision: float, hits: Sequence[Hit]
) -> Recognition:
    """Give the likeliest name if it is sure enough, or else the reason why not.

    Args:
        answer: what the photo may show.
        confidence: with the thresholds.
        precision: the share of names given that should be right, in [0.5, 0.99].
        hits: the gallery photos that were looked at, nearest first.
    """
    threshold = confidence.threshold(precision)
    if not answer.names:
        reason = "no labelled photo resembles it"
        return Recognition(None, None, 0.0, threshold, reason, (), tuple(hits[:_DECIDING]))
    guess, sure = answer.names[0], float(answer.confidences[0])
    rest = zip(answer.names[1:], answer.confidences[1:].tolist(), strict=True)
    runners_up = tuple(rest)[:_RUNNERS_UP]
    if sure >= threshold:
        deciding = tuple(hit for hit in hits if hit.label == guess)[:_DECIDING]
        return Recognition(guess, guess, sure, threshold, None, runners_up, deciding)
    return Recognition(
        None,
        guess,
        sure,
        threshold,
        _why(answer, threshold, precision, hits),
        runners_up,
        tuple(hits[:_DECIDING]),
    )


def _why(answer: Answer, threshold: float, precision: float, hits: Sequence[Hit]) -> str:
    guess, sure = answer.names[0], float(answer.confidences[0])
    if hits and hits[0].label is None:
        return f"the photo nearest to it has no label; {guess} comes next"
    if len(answer.names) > 1 and answer.confidences[1] >= max(_RIVAL * sure, 0.1):
        rival = answer.names[1]
        return f"it may be {guess} ({sure:.0%}) or {rival} ({answer.confidences[1]:.0%})"
    if threshold > 1:
        return f"no answer of this collection reaches a precision of {precision:.0%}"
    # Rounded apart, so that what is too little never reads as enough.
    least, at = math.ceil(threshold * 100), math.floor(sure * 100)
    return f"{guess} is the likeliest at {at or 'under 1'}%; names are given from {least}% on"
