"""ORB keypoints, by OpenCV.

Rublee et al., "ORB: an efficient alternative to SIFT or SURF", ICCV 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from veduta.keypoints.features import Keypoints
from veduta.keypoints.identity import identity
from veduta.keypoints.matching import Matching, MutualMatching
from veduta.keypoints.opencv_points import no_oriented_keypoints, scales_and_directions
from veduta.keypoints.working_size import grey_photo, to_full_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Orb"]

_DESCRIPTOR_BYTES = 32
_BORDER_PIXELS = 31
"""OpenCV finds no keypoint this near to an edge."""


@dataclass(frozen=True, slots=True)
class Orb:
    """ORB and its settings. Descriptors have 256 bits."""

    name: ClassVar[str] = "orb"
    long_side: ClassVar[int] = 640
    # At most 46 of the 256 bits differ.
    matching: ClassVar[Matching] = MutualMatching(min_similarity=0.82)
    calibration: ClassVar[str | None] = "orb"
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
        return cls(identity("orb", version=1, count=count, long_side=cls.long_side), count)

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo, strongest corner first.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright. It may have been decoded at a reduced size.
            width: of the upright photo at its full size, in pixels.
            height: of the upright photo at its full size, in pixels.
        """
        import cv2

        photo = grey_photo(pixels, self.long_side)
        # OpenCV raises on a photo of few pixels, because its smallest copy would have none.
        if min(photo.shape) > 2 * _BORDER_PIXELS:
            detector = cv2.ORB_create(nfeatures=self.count, edgeThreshold=_BORDER_PIXELS)
            points, rows = detector.detectAndCompute(photo, None)
        else:
            points = ()
        if not points:
            return no_oriented_keypoints(np.empty((0, _DESCRIPTOR_BYTES), np.uint8), width, height)
        xy = cv2.KeyPoint.convert(points)
        response = np.array([point.response for point in points])
        octave = np.array([point.octave for point in points])
        best = np.lexsort((octave, xy[:, 0], xy[:, 1], -response))[: self.count]
        return Keypoints(
            to_full_size(xy[best], photo.shape, width, height),
            rows[best],
            width,
            height,
            *scales_and_directions(points, best, photo.shape, width, height),
        )
