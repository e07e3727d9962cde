"""Keypoints of a photo as it looks from further away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.keypoints.features import Keypoints
from veduta.keypoints.working_size import to_full_size
from veduta.photos import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.loading import Extractor

__all__ = ["extract_reduced"]

_REDUCTION = 2


def extract_reduced(
    extractor: Extractor, pixels: NDArray[np.uint8], width: int, height: int
) -> Keypoints:
    """Return the keypoints of a photo that is reduced to half its size.

    Keypoints without a scale match only if they are seen at about the same size. A thing that
    fills a small part of a photo is seen at a smaller size than on a query that it fills.

    The reduced photo is put into a corner of one of the usual size, because an extractor would
    enlarge it again. Keypoints outside it do not count.

    Args:
        extractor: finds them.
        pixels: as in `Extractor.extract`.
        width: as in `Extractor.extract`.
        height: as in `Extractor.extract`.

    Returns:
        Keypoints in pixels of the upright photo at its full size, best first.
    """
    rows, columns = pixels.shape[:2]
    high, wide = (-(-side // _REDUCTION) for side in (rows, columns))
    small = resize(pixels, wide, high)
    framed = np.pad(small, ((0, rows - high), (0, columns - wide), (0, 0)), mode="edge")
    found = extractor.extract(framed, columns, rows)
    inside = (found.xy <= (wide - 1, high - 1)).all(axis=1)
    xy = to_full_size(found.xy[inside], (high, wide), width, height)
    return Keypoints(xy, found.descriptors[inside], width, height)
