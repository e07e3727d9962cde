"""A photo of an answer, as the pages of a service show it: `templates/app/card.html` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from veduta.pages.hit import Outline

__all__ = ["PhotoCard"]


@dataclass(frozen=True, slots=True)
class PhotoCard:
    """A photo and why it is shown.

    Attributes:
        id: of the photo in the index.
        name: of its file.
        path: of its file.
        label: of the photo, or None.
        width: of the upright photo, in pixels.
        height: of the upright photo, in pixels.
        taken: when, as ISO text, or None.
        score: higher is better; None for a photo that is no answer.
        score_kind: what the score is, see `veduta.search.Hit`.
        verdict: "same place", "unsure" or "different"; None without verification.
        reason: what decides the verdict, in a few words.
        inliers: matches that agree; None where the photo was not verified.
        outline: the region of the photo that the query shows too, see `Outline.of`.
        copies: paths of copies of the photo.
        copy_of: "query", or the path of another photo, that the photo is a copy of; else None.
    """

    id: int
    name: str
    path: str
    label: str | None
    width: int
    height: int
    taken: str | None
    score: float | None = None
    score_kind: str = ""
    verdict: str | None = None
    reason: str = ""
    inliers: int | None = None
    outline: Outline | None = None
    copies: Sequence[str] = ()
    copy_of: str | None = None

    @classmethod
    def of(cls, photo: Mapping[str, Any]) -> Self:
        """Return the card of a photo.

        Args:
            photo: as the API describes one: `PhotoAnswer`, or `FoundPhoto` with its evidence.
        """
        width, height = photo["width"], photo["height"]
        return cls(
            id=photo["id"],
            name=photo["name"],
            path=photo["path"],
            label=photo["label"],
            width=width,
            height=height,
            taken=photo["taken"],
            score=photo.get("score"),
            score_kind=photo.get("score_kind") or "",
            verdict=photo.get("verdict"),
            reason=photo.get("reason") or "",
            inliers=photo.get("inliers"),
            outline=Outline.of(width, height, photo.get("region"), photo.get("found_in")),
            copies=photo.get("copies") or (),
            copy_of=photo.get("copy_of"),
        )
