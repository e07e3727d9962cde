"""The answers to a search, on three shelves: verified, alike, and copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from veduta.pages.photo_card import PhotoCard
from veduta.photos.orientation import orientation_named
from veduta.search.verdict import SAME_PLACE

__all__ = ["SearchAnswers", "Shelf"]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Answers of one kind.

    Attributes:
        kind: "same", "alike" or "copies".
        title: of the shelf.
        note: what its photos have in common.
        cards: its photos, best first.
    """

    kind: str
    title: str
    note: str
    cards: list[PhotoCard] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SearchAnswers:
    """What the page shows of an answer.

    Attributes:
        shelves: with at least one photo each.
        turned: what was done to the query to compare it, in words; "" for nothing.
        notice: about the index; None for nothing.
    """

    shelves: list[Shelf]
    turned: str
    notice: str | None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> SearchAnswers:
        """Return what the page shows.

        Args:
            answer: as the API describes it: `SearchAnswer`.
        """
        orientation = orientation_named(answer["orientation"])
        return cls(
            _shelves(map(PhotoCard.of, answer["results"])),
            orientation.words if orientation.is_turned else "",
            answer["notice"],
        )


def _shelves(cards: Iterable[PhotoCard]) -> list[Shelf]:
    same = Shelf("same", "Same place", "Points on both photos agree.")
    alike = Shelf("alike", "Looks alike", "Similar pictures, without proof of the same place.")
    copies = Shelf("copies", "Copies", "The same picture, or one saved again.")
    for card in cards:
        if card.copy_of is not None:
            copies.cards.append(card)
        elif card.verdict == SAME_PLACE:
            same.cards.append(card)
        else:
            alike.cards.append(card)
    return [shelf for shelf in (same, alike, copies) if shelf.cards]
