"""A hit of a search, and the evidence for it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from veduta.keypoints import overlap
from veduta.photos.orientation import UPRIGHT, Box, Orientation
from veduta.search.verdict import reason_for, verdict_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.search.query import EncodedQuery
    from veduta.search.reranking import PairGeometry

__all__ = ["COPY_OF_QUERY", "Evidence", "Hit", "Polygon", "ScoreKind", "polygon"]

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels of an upright photo."""

ScoreKind = Literal["probability", "evidence", "similarity", "negative distance"]
"""What the score of a hit is.

- "probability": that the photo shows what the query shows, in [0, 1].
- "evidence": a number in [0, 1] that orders the hits and is no probability. A search that verifies
  keypoints for which no calibration was fitted has such scores.
- "similarity": the cosine similarity of the descriptors, in [-1, 1].
- "negative distance": minus the distance of the descriptors.
"""


COPY_OF_QUERY = "query"
"""`Hit.copy_of` of a photo that is a copy of the query itself."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a photo is a hit.

    Attributes:
        probability: that the photo shows what the query shows, in [0, 1]. None: it is not known,
            because no calibration was fitted for the keypoints of the index.
        inliers: how many matches of keypoints agree on one geometric model. None: the photo was not
            verified, because it is not among the nearest or the search does not use geometry.
        matches: the number of matches.
        model: "homography" or "fundamental". None: too few matches agree.
        spread: the share of the photos that the inliers cover, in [0, 1]
            (`veduta.keypoints.Verification.inlier_coverage`).
        region: corners of the region of the gallery photo that the query shows too, or None.
        query_region: the same in the query, in pixels of the whole photo as it was given, upright
            by its Exif.
        found_in: x, y, width, height in pixels of the gallery photo: the region by which it stands
            out more than as a whole. None: there is no such region, or the index has no regions.
    """

    probability: float | None
    inliers: int | None = None
    matches: int | None = None
    model: str | None = None
    spread: float | None = None
    region: Polygon | None = None
    query_region: Polygon | None = None
    found_in: Box | None = None

    @property
    def verdict(self) -> str:
        """One of "same place", "unsure" and "different", see `veduta.search.verdict`."""
        return verdict_on(self.probability, self.model, self.spread)

    @property
    def reason(self) -> str:
        """What decides the verdict, in a few words."""
        return reason_for(self.probability, self.model, self.spread)

    def as_json(self) -> dict[str, Any]:
        """Return the evidence as JSON types."""
        answer = {"verdict": self.verdict, "reason": self.reason, **_values(self)}
        if self.probability is not None:
            answer["probability"] = round(self.probability, 6)
        if self.spread is not None:
            answer["spread"] = round(self.spread, 3)
        return answer

    @classmethod
    def of(
        cls,
        probability: float | None,
        geometry: PairGeometry | None,
        query: EncodedQuery | None = None,
        found_in: Box | None = None,
    ) -> Self:
        """Return the evidence for one hit.

        Args:
            probability: that the hit shows what the query shows. None: it is not known.
            geometry: of the query and the hit. None: the hit was not verified.
            query: what was searched for. None: whole photos, not turned.
            found_in: as in `Evidence`.
        """
        if geometry is None:
            return cls(probability, found_in=found_in)
        verification = geometry.verification
        shared = overlap(geometry.query, geometry.other, verification)
        if shared and query is not None:
            shared = query.in_given_photo(shared[0], geometry.query), shared[1]
        return cls(
            probability=probability,
            inliers=len(verification.inliers),
            matches=verification.matches,
            model=verification.model,
            spread=verification.inlier_coverage,
            query_region=polygon(shared[0]) if shared else None,
            region=polygon(shared[1]) if shared else None,
            found_in=found_in,
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """A gallery photo that answers a query.

    Attributes:
        path: of the photo. A name that is not UTF-8 has surrogate escapes, as `os.fsdecode` makes
            them.
        score: by which the hits are ranked, higher is better. `score_kind` says what it is.
        similarity: cosine similarity of the two descriptors, in [-1, 1].
        label: of the gallery photo, or None.
        width: of the upright photo, in pixels.
        height: of the upright photo, in pixels.
        taken: when the photo was taken, if it has a date.
        id: of the row in the index, for its thumbnail.
        evidence: what the score is based on. None without re-ranking.
        score_kind: "probability" after re-ranking, or "evidence" if no calibration was fitted for
            the keypoints of the index; "similarity" without re-ranking; "negative distance" with
            another distance than cosine.
        copies: paths of the further hits that are copies of this one, the best first. None if
            copies are hits of their own.
        copy_of: "query" if the photo is a copy of the query, or the path of the hit before it that
            it is a copy of. None if it is no copy, or if copies are not marked.
        orientation: how the query was turned to be compared with the photo. In JSON it is the name
            of the orientation, one of `veduta.search.ORIENTATIONS`.
    """

    path: str
    score: float
    similarity: float
    label: str | None
    width: int
    height: int
    taken: datetime | None
    id: int
    evidence: Evidence | None = None
    score_kind: ScoreKind = "similarity"
    copies: tuple[str, ...] | None = None
    copy_of: str | None = None
    orientation: Orientation = UPRIGHT

    def as_json(self) -> dict[str, Any]:
        """Return the hit as JSON types."""
        answer = _values(self)
        answer["taken"] = self.taken.isoformat() if self.taken else None
        answer["score"] = round(self.score, 6)
        answer["similarity"] = round(self.similarity, 6)
        answer["orientation"] = self.orientation.name
        del answer["id"], answer["evidence"]
        if self.copies is None:
            del answer["copies"]
        if self.copy_of is None:
            del answer["copy_of"]
        if self.evidence is not None:
            answer.update(self.evidence.as_json())
        return answer

    @property
    def name(self) -> str:
        """The file name without its folders."""
        return os.path.basename(self.path)


def _values(one: Evidence | Hit) -> dict[str, Any]:
    """Return the attributes. `dataclasses.asdict` would copy each corner of each region."""
    return {field.name: getattr(one, field.name) for field in fields(one)}


def polygon(corners: NDArray[np.float32]) -> Polygon:
    """Return corners as numbers rounded to a tenth of a pixel.

    Args:
        corners: (p, 2) in pixels.
    """
    return tuple((round(float(x), 1), round(float(y), 1)) for x, y in corners)
