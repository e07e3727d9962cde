"""The result of recognition for people: the name, the confidence, and the reason for "unknown"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.recognize.confidence import Confidence
from veduta.recognize.unknown import Answer, decide, reason_for_unknown
from veduta.search import Hit

__all__ = ["MIN_SHOWN_CONFIDENCE", "Recognition", "recognition_of"]

MIN_SHOWN_CONFIDENCE = 0.01
"""People are shown no name that is less likely than this."""


_MAX_RUNNERS_UP = 4
_MAX_HITS = 5


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a photo shows.

    Attributes:
        label: its name, or None: unknown.
        guess: the likeliest name, given or not; None if no photo with a label resembles the query.
        confidence: probability in [0, 1] that `guess` is right.
        threshold: the confidence that a name needs; above 1 no name is ever given.
        reason: why the photo is unknown; None with a name.
        runners_up: the next likeliest names with their confidences, best first.
        hits: the photos that decided. With a name they are those of the name that resemble the
            photo most; for an unknown photo they are the nearest of all.
        orientation: how the photo was turned to be compared. In JSON it is the name of the
            orientation, one of `veduta.search.ORIENTATIONS`.
    """

    label: str | None
    guess: str | None
    confidence: float
    threshold: float
    reason: str | None
    runners_up: tuple[tuple[str, float], ...]
    hits: tuple[Hit, ...]
    orientation: Orientation = UPRIGHT

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
            "orientation": self.orientation.name,
            "hits": [hit.as_json() for hit in self.hits],
        }


def recognition_of(
    answer: Answer,
    confidence: Confidence,
    precision: float,
    hits: Sequence[Hit],
    *,
    orientation: Orientation = UPRIGHT,
) -> Recognition:
    """Return the name of a photo, or the reason why it is unknown.

    Args:
        answer: the labels that the photo may have.
        confidence: with the thresholds.
        precision: the share of the given names that should be right, in [0.5, 0.99].
        hits: the gallery photos that were compared, nearest first.
        orientation: how the photo was turned.

    Returns:
        The result for the user.

    Raises:
        QueryError: the precision is out of range.
    """
    decision = decide(answer, confidence.threshold(precision))
    others = zip(answer.names[1:], answer.confidences[1:].tolist(), strict=True)
    reason = None
    if decision.label is None:
        reason = reason_for_unknown(
            answer,
            decision.threshold,
            precision,
            nearest_is_labelled=not hits or hits[0].label is not None,
        )
    deciding = [hit for hit in hits if decision.label is None or hit.label == decision.label]
    return Recognition(
        decision.label,
        decision.guess,
        decision.confidence,
        decision.threshold,
        reason,
        tuple(others)[:_MAX_RUNNERS_UP],
        tuple(deciding[:_MAX_HITS]),
        orientation,
    )
