"""SURF keypoints, by mahotas.

Bay et al., "Speeded-Up Robust Features (SURF)", CVIU 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import EncoderUnavailable
from veduta.keypoints.features import Keypoints, quantised
from veduta.keypoints.identity import identity
from veduta.keypoints.resizing import full_size, grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Surf", "load_surf"]

LONG_SIDE = 640
THRESHOLD = 0.1  # on the determinant of the Hessian, mahotas' default
Y, X, SCORE, DESCRIPTOR = 0, 1, 3, 6  # columns of mahotas' points; the descriptor is the rest
SPARE = 2  # so many times too many are detected: mahotas drops those too near the border


@dataclass(frozen=True, slots=True)
class Surf:
    """SURF and its settings. Descriptors: 64 × int8."""

    identity: str
    count: int
    name: str = "surf"
    long_side: int = LONG_SIDE

    def extract(self, pixels: NDArray[np.uint8], width: int, height: int) -> Keypoints:
        """Return at most `count` keypoints, strongest blob first.

        Args:
            pixels: (H, W, 3) RGB, upright, maybe scaled down at decode.
            width, height: of the upright photo at its full size, in pixels.
        """
        from mahotas.features import surf

        photo = grey(pixels, self.long_side)
        sums = surf.integral(photo)
        points = surf.interest_points(
            sums, threshold=THRESHOLD, max_points=SPARE * self.count, is_integral=True
        )
        # mahotas adds the step from the strongest pixel to the peak between pixels with the wrong
        # sign: turned round, a quarter more of the matches lie within one pixel.
        points[:, :2] = 2 * np.rint(points[:, :2]) - points[:, :2]
        points = surf.descriptors(sums, points, is_integral=True)
        points = points[np.argsort(-points[:, SCORE], kind="stable")][: self.count]
        xy = full_size(points[:, [X, Y]], photo.shape, width, height)
        return Keypoints(xy, quantised(points[:, DESCRIPTOR:]), width, height)


def load_surf(count: int) -> Surf:
    """Return the extractor.

    Raises:
        EncoderUnavailable: mahotas is not installed.
    """
    if find_spec("mahotas") is None:
        raise EncoderUnavailable("the keypoints 'surf' need mahotas: pip install mahotas")
    return Surf(
        identity("surf", version=1, count=count, long_side=LONG_SIDE, threshold=THRESHOLD), count
    )
