"""A region of a photo on the grid of a map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import QueryError
from veduta.search.query import check_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.encoders.descriptor_parts import DescriptorParts
    from veduta.search.query import Box, QueryPhoto

__all__ = ["covered_positions"]


def covered_positions(
    region: Box, photo: QueryPhoto, parts: DescriptorParts
) -> tuple[Box, NDArray[np.float64]]:
    """Return where a region is in the decoded photo, and which positions of the grid it covers.

    Args:
        region: x, y, width, height in pixels of the full-size photo.
        photo: the photo, decoded at any size.
        parts: of the photo. Their grid counts.

    Returns:
        The region in pixels of `photo.pixels`, at least one pixel; and the share (h, w) of the area
        of each position that it covers, in [0, 1].

    Raises:
        QueryError: the region is not within the photo, or it is outside the part of the photo that
            the network gets.
    """
    check_region(region, photo.width, photo.height)
    rows, columns = photo.pixels.shape[:2]
    left, right = _scaled(region[0], region[2], columns / photo.width)
    top, bottom = _scaled(region[1], region[3], rows / photo.height)
    box_x, box_y, box_width, box_height = parts.box
    grid_rows, grid_columns = parts.parts.shape[:2]
    covered = np.outer(
        _covered(top, bottom, box_y, box_height, grid_rows),
        _covered(left, right, box_x, box_width, grid_columns),
    )
    if not covered.any():
        x, y, width, height = region
        raise QueryError(
            f"The region {x},{y},{width},{height} is outside the part of the photo that the "
            "network gets: its centre. Choose a region nearer to the centre."
        )
    x, y = math.floor(left), math.floor(top)
    return (x, y, max(1, math.ceil(right) - x), max(1, math.ceil(bottom) - y)), covered


def _scaled(start: int, length: int, factor: float) -> tuple[float, float]:
    return start * factor, (start + length) * factor


def _covered(
    start: float, end: float, box_start: int, box_length: int, count: int
) -> NDArray[np.float64]:
    """(count,): the share of each of `count` equal parts of a box that an interval covers."""
    edges = box_start + box_length * np.arange(count + 1) / count
    common = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    return np.asarray(np.maximum(common, 0) * count / box_length)
