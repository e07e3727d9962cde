"""One answer of a search."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """A gallery photo that answers a query.

    Attributes:
        path: of the photo; a name that is not UTF-8 holds surrogate escapes, as `os.fsdecode`
            makes them.
        score: what the ranking goes by, higher is better: the cosine similarity in [-1, 1], or
            minus the distance when another distance was asked for.
        similarity: cosine similarity of the two descriptors, in [-1, 1].
        label: of the gallery photo, or None.
        width, height: of the upright photo, pixels.
        taken: when, if the photo says so.
        id: the row in the index, for its thumbnail.
    """

    path: str
    score: float
    similarity: float
    label: str | None
    width: int
    height: int
    taken: datetime | None
    id: int

    def as_json(self) -> dict[str, Any]:
        """Return the hit as JSON types."""
        fields = asdict(self)
        fields["taken"] = self.taken.isoformat() if self.taken else None
        fields["score"] = round(self.score, 6)
        fields["similarity"] = round(self.similarity, 6)
        del fields["id"]
        return fields

    @property
    def name(self) -> str:
        """The file name without its folders."""
        return os.path.basename(self.path)
