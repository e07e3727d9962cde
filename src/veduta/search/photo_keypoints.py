"""The keypoints of one photo by themselves: how many, how large, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.keypoints import Extractor, Keypoints, draw_keypoints
from veduta.search.query import PhotoSource, read_photo

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PhotoKeypoints", "find_keypoints"]

_PICTURE_SIDE = 1200
"""Long side in pixels of the photo in a picture, and to which it is decoded for it."""


@dataclass(frozen=True, slots=True)
class PhotoKeypoints:
    """The keypoints of one photo.

    Attributes:
        kind: one of `veduta.keypoints.KINDS`.
        most: the largest number that is kept, best first.
        points: the keypoints, with positions and diameters in pixels of the upright photo at its
            full size.
    """

    kind: str
    most: int
    points: Keypoints
    _pixels: NDArray[np.uint8] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.points)

    def as_json(self) -> dict[str, Any]:
        """Return the keypoints as JSON types, best first.

        Each has `x`, `y` and `diameter` in pixels of the upright photo, and `direction` in degrees,
        clockwise from the right. Diameter and direction are None for a kind that has none.
        """
        points = self.points
        nothing = [None] * len(points)
        diameters = nothing if points.diameters is None else _rounded(points.diameters)
        directions = nothing if points.directions is None else _rounded(points.directions)
        places = zip(_rounded(points.xy[:, 0]), _rounded(points.xy[:, 1]), strict=True)
        return {
            "kind": self.kind,
            "count": len(points),
            "most": self.most,
            "width": points.width,
            "height": points.height,
            "keypoints": [
                {"x": x, "y": y, "diameter": diameter, "direction": direction}
                for (x, y), diameter, direction in zip(places, diameters, directions, strict=True)
            ],
        }

    def picture(self, width: int = _PICTURE_SIDE) -> Image.Image:
        """Draw the photo with its keypoints, see `veduta.keypoints.draw_keypoints`.

        Args:
            width: the largest width and height of the photo in the picture in pixels, at least 200.
        """
        return draw_keypoints(self._pixels, self.points, name=self.kind, width=width)


def find_keypoints(photo: PhotoSource, extractor: Extractor) -> PhotoKeypoints:
    """Return the keypoints of a photo.

    Args:
        photo: a path or an (H, W, 3) uint8 RGB array, upright.
        extractor: finds them.

    Raises:
        PhotoError: the photo cannot be read.
        QueryError: an array is not a photo.
    """
    read = read_photo(photo, max(extractor.long_side, _PICTURE_SIDE))
    points = extractor.extract(read.pixels, read.width, read.height)
    return PhotoKeypoints(extractor.name, extractor.count, points, read.pixels)


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [round(value, 2) for value in values.tolist()]
