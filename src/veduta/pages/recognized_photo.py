"""What a photo shows, or that it is unknown, as the page that recognises shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from veduta.pages.photo_card import PhotoCard
from veduta.photos.orientation import orientation_named
from veduta.recognize import MIN_SHOWN_CONFIDENCE

__all__ = ["RecognizedPhoto"]


@dataclass(frozen=True, slots=True)
class RecognizedPhoto:
    """An answer of recognition.

    Attributes:
        label: the name; None: unknown.
        confidence: that the likeliest name is right, in [0, 1].
        reason: why the photo is unknown; None with a name.
        others: the next likeliest names, with their confidences.
        turned: what was done to the photo to compare it, in words; "" for nothing.
        cards: the photos that decided, or the nearest ones.
    """

    label: str | None
    confidence: float
    reason: str | None
    others: Sequence[tuple[str, float]]
    turned: str
    cards: Sequence[PhotoCard]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Return what the page shows.

        Args:
            answer: as the API describes it: `RecognizeAnswer`.
        """
        orientation = orientation_named(answer["orientation"])
        others = [(one["label"], one["confidence"]) for one in answer["runners_up"]]
        return cls(
            label=answer["label"],
            confidence=answer["confidence"],
            reason=answer["reason"],
            others=[one for one in others if one[1] >= MIN_SHOWN_CONFIDENCE],
            turned=orientation.words if orientation.is_turned else "",
            cards=[PhotoCard.of(hit) for hit in answer["hits"]],
        )
