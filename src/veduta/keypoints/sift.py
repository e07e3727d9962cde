"""SIFT keypoints, by OpenCV, with RootSIFT descriptors.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004. Arandjelović &
Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012: the product
of the square roots of two histograms (Hellinger kernel) compares them better than their distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from veduta.keypoints.features import Keypoints, quantised
from veduta.keypoints.identity import identity
from veduta.keypoints.matching import Matching, RatioMatching
from veduta.keypoints.opencv_points import no_oriented_keypoints, scales_and_directions
from veduta.keypoints.working_size import grey_photo, to_full_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sift"]

_DIMENSIONS = 128


@dataclass(frozen=True, slots=True)
class Sift:
    """RootSIFT and its settings. Descriptors are 128 × int8."""

    name: ClassVar[str] = "sift"
    long_side: ClassVar[int] = 640
    matching: ClassVar[Matching] = RatioMatching(max_ratio=0.85)
    calibration: ClassVar[str | None] = "sift"
    default_count: ClassVar[int] = 512
    stored_bits: ClassVar[int] = 8
    form: ClassVar[str] = ""

    identity: str
    count: int

    @classmethod
    def load(cls, count: int, threads: int) -> Self:
        """Return the extractor.

        Args:
            count: the largest number of keypoints of a photo.
            threads: not used. OpenCV has a setting of its own.
        """
        del threads
        settings = {"version": 1, "count": count, "long_side": cls.long_side, "root": True}
        return cls(identity("sift", **settings), count)

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo, highest contrast first.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright. It may have been decoded at a reduced size.
            width: of the upright photo at its full size, in pixels.
            height: of the upright photo at its full size, in pixels.
        """
        import cv2

        photo = grey_photo(pixels, self.long_side)
        # Each call makes a detector, because OpenCV does not promise that two threads can share
        # one.
        points, rows = cv2.SIFT_create(nfeatures=self.count).detectAndCompute(photo, None)
        if not points:
            return no_oriented_keypoints(np.empty((0, _DIMENSIONS), np.int8), width, height)
        xy = cv2.KeyPoint.convert(points)
        response = np.array([point.response for point in points])
        angle = np.array([point.angle for point in points])
        best = np.lexsort((angle, xy[:, 0], xy[:, 1], -response))[: self.count]
        return Keypoints(
            to_full_size(xy[best], photo.shape, width, height),
            quantised(np.sqrt(rows[best])),
            width,
            height,
            *scales_and_directions(points, best, photo.shape, width, height),
        )
