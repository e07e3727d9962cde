"""Rows of small square photos with a line above each row, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.pages.contact_sheet import write_line

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["draw_photo_grid"]

# Sizes in pixels.
_MARGIN, _GAP, _LINE_HEIGHT, _FONT_SIZE = 20, 4, 24, 15
_MIN_TILE = 128
_BACKGROUND, _TEXT = "#f7f6f3", "#1c1b19"


def draw_photo_grid(rows: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image:
    """Return the rows below each other.

    Args:
        rows: a line of text, which may be empty, and (n, S, S, 3) RGB photos. Photos of less than
            128 pixels are enlarged by a whole number, so that each pixel can be seen.
    """
    from PIL import Image, ImageDraw

    side = rows[0][1].shape[1]
    tile = side * max(1, -(-_MIN_TILE // side))
    most = max(len(photos) for _, photos in rows)
    heights = [(_LINE_HEIGHT + _GAP if title else 0) + tile + _GAP for title, _ in rows]
    size = (2 * _MARGIN + most * (tile + _GAP) - _GAP, 2 * _MARGIN + sum(heights) - _GAP)
    grid = Image.new("RGB", size, _BACKGROUND)
    pen = ImageDraw.Draw(grid)
    top = _MARGIN
    for (title, photos), height in zip(rows, heights, strict=True):
        if title:
            write_line(pen, (_MARGIN, top), title, size[0] - 2 * _MARGIN, _FONT_SIZE, _TEXT)
        top += height
        for position, photo in enumerate(photos):
            enlarged = Image.fromarray(photo).resize((tile, tile), Image.Resampling.NEAREST)
            grid.paste(enlarged, (_MARGIN + position * (tile + _GAP), top - _GAP - tile))
    return grid
