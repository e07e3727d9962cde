"""SURF keypoints, by mahotas.

Bay et al., "Speeded-Up Robust Features (SURF)", CVIU 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from veduta.errors import EncoderUnavailable
from veduta.keypoints.features import Keypoints, quantised
from veduta.keypoints.identity import identity
from veduta.keypoints.matching import Matching, RatioMatching
from veduta.keypoints.working_size import grey_photo, lengths_at_full_size, to_full_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Surf"]

_MIN_DETERMINANT = 0.1
"""Of the Hessian matrix: the default of mahotas."""

# The columns of mahotas' points. The descriptor starts at its column and ends with the row.
_Y, _X, _SCALE, _SCORE, _ANGLE, _DESCRIPTOR = 0, 1, 2, 3, 5, 6

_FILTER_SIDE = 9 / 1.2
"""Side in pixels of the box filter at scale 1: a filter of 9 pixels has the scale 1.2 (section
3.3 of the paper). OpenCV takes it as the diameter of a keypoint too."""

_DETECTION_FACTOR = 2
"""Twice as many points are detected, because mahotas drops those that are near the border."""


@dataclass(frozen=True, slots=True)
class Surf:
    """SURF and its settings. Descriptors are 64 × int8."""

    name: ClassVar[str] = "surf"
    long_side: ClassVar[int] = 640
    matching: ClassVar[Matching] = RatioMatching(max_ratio=0.85)
    # A fit on labelled photos gave the geometry nearly no weight: wrong pairs have about as many
    # consistent matches as right pairs. So hits with these keypoints have no probability.
    calibration: ClassVar[str | None] = None
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
            threads: not used. mahotas uses one thread.

        Raises:
            EncoderUnavailable: mahotas is not installed.
        """
        del threads
        if find_spec("mahotas") is None:
            raise EncoderUnavailable("the keypoints 'surf' need mahotas: pip install mahotas")
        settings = {"count": count, "long_side": cls.long_side, "threshold": _MIN_DETERMINANT}
        return cls(identity("surf", version=1, **settings), count)

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return the keypoints of one photo, strongest blob first.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright. It may have been decoded at a reduced size.
            width: of the upright photo at its full size, in pixels.
            height: of the upright photo at its full size, in pixels.
        """
        from mahotas.features import surf

        photo = grey_photo(pixels, self.long_side)
        sums = surf.integral(photo)
        points = surf.interest_points(
            sums,
            threshold=_MIN_DETERMINANT,
            max_points=_DETECTION_FACTOR * self.count,
            is_integral=True,
        )
        # mahotas adds the step from the strongest pixel to the peak between pixels with the wrong
        # sign. With the right sign a quarter more of the matches lie within one pixel.
        points[:, :2] = 2 * np.rint(points[:, :2]) - points[:, :2]
        points = surf.descriptors(sums, points, is_integral=True)
        points = points[np.argsort(-points[:, _SCORE], kind="stable")][: self.count]
        xy = to_full_size(points[:, [_X, _Y]], photo.shape, width, height)
        diameters = _FILTER_SIDE * points[:, _SCALE]
        # mahotas counts angles anticlockwise from upwards.
        directions = (-90 - np.degrees(points[:, _ANGLE])) % 360
        return Keypoints(
            xy,
            quantised(points[:, _DESCRIPTOR:]),
            width,
            height,
            lengths_at_full_size(diameters, photo.shape, width, height),
            directions.astype(np.float32),
        )
