"""Where a map is strongest: one region, in pixels and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["StrongestRegion", "strongest_region"]

_AREA = 0.1
"""Share of the map that the strongest cells cover, at least."""

_MAX_CELLS = 16
"""On a side. Finer maps are first added up into so many cells, since single pixels are noise."""

_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "middle", "right")


@dataclass(frozen=True, slots=True, eq=False)
class StrongestRegion:
    """The strongest tenth of a map, or the part of it that hangs together and weighs most.

    Attributes:
        cells: (R, C) bool: the region, on a grid that covers the map.
        box: x, y, width, height in pixels of the photo: around the region.
        place: where its middle lies in the photo, in words, such as "upper middle" or "centre".
        share_of_sum: its part of the sum of all positive values of the map, in (0, 1].
        share_of_photo: its part of the area of the photo, in (0, 1].
    """

    cells: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    place: str
    share_of_sum: float
    share_of_photo: float


def strongest_region(
    values: NDArray[np.float32], box: tuple[int, int, int, int], photo_size: tuple[int, int]
) -> StrongestRegion | None:
    """Return the strongest region of a map.

    Args:
        values: (H, W) float32: the map.
        box: x, y, width, height in pixels of the photo: the part that the map covers.
        photo_size: width and height of the photo in pixels.

    Returns:
        None if no region stands out: no value is positive, or all values are equal.
    """
    sums = _cell_sums(np.maximum(values, 0.0))
    means = sums / _cell_sums(np.ones_like(values))
    if np.ptp(means) <= 1e-6 * means.max():
        return None
    count = max(1, int(np.ceil(_AREA * means.size)))
    strongest = means >= max(np.sort(means, axis=None)[-count], 1e-6 * means.max())
    cells = _heaviest_part(strongest, sums)
    rows, columns = np.nonzero(cells)
    pitch = box[2] / sums.shape[1], box[3] / sums.shape[0]
    left, right = (round(box[0] + pitch[0] * edge) for edge in (columns.min(), columns.max() + 1))
    top, bottom = (round(box[1] + pitch[1] * edge) for edge in (rows.min(), rows.max() + 1))
    weights = sums[cells]
    middle = (
        box[0] + pitch[0] * (np.average(columns, weights=weights) + 0.5),
        box[1] + pitch[1] * (np.average(rows, weights=weights) + 0.5),
    )
    return StrongestRegion(
        cells=cells,
        box=(left, top, right - left, bottom - top),
        place=_place(middle[0] / photo_size[0], middle[1] / photo_size[1]),
        share_of_sum=float(weights.sum() / sums.sum()),
        share_of_photo=min(1.0, len(rows) * pitch[0] * pitch[1] / (photo_size[0] * photo_size[1])),
    )


def _cell_sums(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sums of a map in at most 16 × 16 cells that differ by a row or column at most."""
    sums = values.astype(np.float64)
    for axis in (0, 1):
        length = sums.shape[axis]
        starts = np.arange(min(length, _MAX_CELLS)) * length // min(length, _MAX_CELLS)
        sums = np.add.reduceat(sums, starts, axis=axis)
    return sums


def _heaviest_part(strongest: NDArray[np.bool_], sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the part with the largest sum, of the parts whose cells touch at a side."""
    import cv2

    parts, labels = cv2.connectedComponents(strongest.astype(np.uint8), connectivity=4)
    heaviest = max(range(1, parts), key=lambda part: float(sums[labels == part].sum()))
    return np.asarray(labels == heaviest)


def _place(x: float, y: float) -> str:
    """Return a place in words, for a position in [0, 1] of the width and of the height."""
    row, column = (_third(share) for share in (y, x))
    if row == 1:
        return ("left", "centre", "right")[column]
    return f"{_ROWS[row]} {_COLUMNS[column]}"


def _third(share: float) -> int:
    return min(2, max(0, int(3 * share)))
