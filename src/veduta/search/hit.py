"""One answer of a search."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from veduta.keypoints import overlap
from veduta.search.verdict import verdict_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.search.reranking import Geometry


Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a hit is a hit.

    Attributes:
        probability: that the photo shows what the query shows, in [0, 1].
        inliers: matches of keypoints that agree on one geometric model; None if the photo was not
            verified, being too far down or found without geometry.
        matches: how many matches there were to agree.
        model: "homography" or "fundamental"; None: too few agree for the same place or object.
        spread: [0, 1], how much of the photos the inliers cover.
        region: corners of what the gallery photo shows of the query, in its pixels, or None.
        query_region: the same in the query, in pixels of the whole upright photo.
    """

    probability: float
    inliers: int | None = None
    matches: int | None = None
    model: str | None = None
    spread: float | None = None
    region: Polygon | None = None
    query_region: Polygon | None = None

    @property
    def verdict(self) -> str:
        """One of "same place", "unsure" and "different", see `veduta.search.verdict`."""
        return verdict_on(self.probability, self.model, self.spread)

    def as_json(self) -> dict[str, Any]:
        """Return the evidence as JSON types."""
        fields = {"verdict": self.verdict, **asdict(self)}
        fields["probability"] = round(self.probability, 6)
        if self.spread is not None:
            fields["spread"] = round(self.spread, 3)
        return fields

    @classmethod
    def of(
        cls, probability: float, geometry: Geometry | None, corner: tuple[int, int] = (0, 0)
    ) -> Self:
        """Return the evidence of one hit.

        Args:
            probability: that the hit shows what the query shows.
            geometry: what the two agree on; None: not looked at.
            corner: x, y in the query photo of the region whose keypoints `geometry` has.
        """
        if geometry is None:
            return cls(probability)
        found = geometry.verification
        shared = overlap(geometry.query, geometry.found, found)
        return cls(
            probability=probability,
            inliers=len(found.inliers),
            matches=found.matches,
            model=found.model,
            spread=found.spread,
            query_region=polygon(shared[0], corner) if shared else None,
            region=polygon(shared[1]) if shared else None,
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """A gallery photo that answers a query.

    Attributes:
        path: of the photo; a name that is not UTF-8 holds surrogate escapes, as `os.fsdecode`
            makes them.
        score: what the ranking goes by, higher is better: the probability that the photo shows
            what the query shows, in [0, 1]; without re-ranking the cosine similarity in [-1, 1],
            or minus the distance when another distance was asked for.
        similarity: cosine similarity of the two descriptors, in [-1, 1].
        label: of the gallery photo, or None.
        width, height: of the upright photo, pixels.
        taken: when, if the photo says so.
        id: the row in the index, for its thumbnail.
        evidence: what the score rests on; None without re-ranking.
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

    def as_json(self) -> dict[str, Any]:
        """Return the hit as JSON types."""
        fields = asdict(self)
        fields["taken"] = self.taken.isoformat() if self.taken else None
        fields["score"] = round(self.score, 6)
        fields["similarity"] = round(self.similarity, 6)
        del fields["id"], fields["evidence"]
        if self.evidence is not None:
            fields.update(self.evidence.as_json())
        return fields

    @property
    def name(self) -> str:
        """The file name without its folders."""
        return os.path.basename(self.path)


def polygon(corners: NDArray[np.float32], offset: tuple[int, int] = (0, 0)) -> Polygon:
    """Return corners (p, 2), moved by (x, y) pixels, as plain numbers to a tenth of a pixel."""
    left, top = offset
    return tuple((round(float(x) + left, 1), round(float(y) + top, 1)) for x, y in corners)
