"""SIFT keypoints, by OpenCV, with RootSIFT descriptors.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004. Arandjelović &
Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012: the square
root of a descriptor that sums up to one compares histograms as they should be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.keypoints.features import Keypoints, quantised
from veduta.keypoints.identity import identity
from veduta.keypoints.resizing import full_size, grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sift", "load_sift"]

LONG_SIDE = 640
CHANNELS = 128


@dataclass(frozen=True, slots=True)
class Sift:
    """RootSIFT and its settings. Descriptors: 128 × int8."""

    identity: str
    count: int
    name: str = "sift"
    long_side: int = LONG_SIDE

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return at most `count` keypoints, highest contrast first.

        Args:
            pixels: (H, W, 3) RGB, upright, maybe scaled down at decode.
            width, height: of the upright photo at its full size, in pixels.
        """
        import cv2

        photo = grey(pixels, self.long_side)
        # A detector of its own for each call: OpenCV does not promise that one serves two threads.
        found, rows = cv2.SIFT_create(nfeatures=self.count).detectAndCompute(photo, None)
        if not found:
            none = np.empty((0, CHANNELS), np.int8)
            return Keypoints(np.empty((0, 2), np.float32), none, width, height)
        xy = cv2.KeyPoint.convert(found)
        response = np.array([keypoint.response for keypoint in found])
        angle = np.array([keypoint.angle for keypoint in found])
        best = np.lexsort((angle, xy[:, 0], xy[:, 1], -response))[: self.count]
        return Keypoints(
            full_size(xy[best], photo.shape, width, height),
            quantised(np.sqrt(rows[best])),
            width,
            height,
        )


def load_sift(count: int) -> Sift:
    """Return the extractor."""
    return Sift(identity("sift", version=1, count=count, long_side=LONG_SIDE, root=True), count)
