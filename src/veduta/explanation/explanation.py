"""One map: how much each region of a photo adds to a similarity or to the score of a class."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A map over a photo, and what it explains.

    Attributes:
        photo: name of the photo: its path, or "the photo" for an array.
        pixels: (h, w, 3) uint8 RGB, upright: the photo, maybe smaller than its file.
        map: (H, W) float32, on the grid on which the method computes it. Position (0, 0) is at the
            top left.
        box: x, y, width, height in pixels of `pixels`: the part of the photo that the map covers.
        method: name of the method, one of `veduta.explanation.METHODS`.
        layer: where in the network the map was computed; None for a method that only changes the
            photo.
        similarity: cosine similarity of the two descriptors, in [-1, 1]; None for a class.
        class_name: the class that is explained; None for a similarity.
        score: score of the class before a softmax or sigmoid; None for a similarity.
        constant: what belongs to no region. The sum of the map and this constant are the similarity
            or the score. None: the method divides nothing up, so its map has no such sum.
        region: x, y, width, height in pixels of `pixels`: the region that was asked for. The map of
            `against` is then what answers to it. None: the whole photo.
        region_share: what the region adds to the similarity, with a share of the constant by area;
            None without a region.
        seconds: time that the map took, with the run of the network.
        notes: sentences on what the user should know.
        against: the map over the other photo of a similarity, or None.
    """

    photo: str
    pixels: NDArray[np.uint8] = field(repr=False)
    map: NDArray[np.float32] = field(repr=False)
    box: tuple[int, int, int, int]
    method: str
    layer: str | None = None
    similarity: float | None = None
    class_name: str | None = None
    score: float | None = None
    constant: float | None = None
    region: tuple[int, int, int, int] | None = None
    region_share: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    against: Explanation | None = None

    @property
    def sum(self) -> float:
        """The sum of the map, added in 64 bits."""
        return math.fsum(self.map.ravel().tolist())

    def as_json(self) -> dict[str, Any]:
        """Return everything but the pixels and the map as JSON types."""
        answer: dict[str, Any] = {"photo": self.photo, "method": self.method, "layer": self.layer}
        if self.class_name is None:
            answer["similarity"] = self.similarity
        else:
            answer |= {"class": self.class_name, "score": self.score}
        answer |= {
            "sum": self.sum,
            "constant": self.constant,
            "shape": list(self.map.shape),
            "box": list(self.box),
            "seconds": round(self.seconds, 4),
            "notes": list(self.notes),
        }
        if self.region is not None:
            answer |= {"region": list(self.region), "region_share": self.region_share}
        if self.against is not None:
            answer["against"] = self.against.as_json()
        return answer
