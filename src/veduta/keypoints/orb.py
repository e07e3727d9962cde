"""ORB keypoints, by OpenCV.

Rublee et al., "ORB: an efficient alternative to SIFT or SURF", ICCV 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.keypoints.features import Keypoints
from veduta.keypoints.identity import identity
from veduta.keypoints.resizing import full_size, grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Orb", "load_orb"]

LONG_SIDE = 640
BYTES = 32
BORDER = 31  # pixels from each edge where OpenCV takes no keypoint


@dataclass(frozen=True, slots=True)
class Orb:
    """ORB and its settings. Descriptors: 256 bits."""

    identity: str
    count: int
    name: str = "orb"
    long_side: int = LONG_SIDE

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return at most `count` keypoints, strongest corner first.

        Args:
            pixels: (H, W, 3) RGB, upright, maybe scaled down at decode.
            width, height: of the upright photo at its full size, in pixels.
        """
        import cv2

        photo = grey(pixels, self.long_side)
        # OpenCV raises on a photo of few pixels, because its smallest copy would have none.
        if min(photo.shape) > 2 * BORDER:
            detector = cv2.ORB_create(nfeatures=self.count, edgeThreshold=BORDER)
            found, rows = detector.detectAndCompute(photo, None)
        else:
            found = ()
        if not found:
            none = np.empty((0, BYTES), np.uint8)
            return Keypoints(np.empty((0, 2), np.float32), none, width, height)
        xy = cv2.KeyPoint.convert(found)
        response = np.array([keypoint.response for keypoint in found])
        octave = np.array([keypoint.octave for keypoint in found])
        best = np.lexsort((octave, xy[:, 0], xy[:, 1], -response))[: self.count]
        return Keypoints(full_size(xy[best], photo.shape, width, height), rows[best], width, height)


def load_orb(count: int) -> Orb:
    """Return the extractor."""
    return Orb(identity("orb", version=1, count=count, long_side=LONG_SIDE), count)
