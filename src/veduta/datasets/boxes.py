"""Boxes of published protocols, fitted to their photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from veduta.datasets.judged_set import Box
from veduta.errors import DatasetError, PhotoError

__all__ = ["fitted_box", "photo_size"]

MAX_CUT_PIXELS = 1
"""A box may leave its photo by so much without a problem: rounding does that."""


def fitted_box(
    where: str, corners: Sequence[float], size: tuple[int, int] | None, problems: list[str]
) -> Box:
    """Return a box in whole pixels, cut to its photo.

    Corners are rounded as Pillow's `crop` does it: each to the nearest whole pixel, halves to the
    even one; the right and the lower edge are left out.

    Args:
        where: the file and the query, for messages.
        corners: left, top, right, bottom in pixels.
        size: width and height of the photo in pixels; None if they are not known.
        problems: takes a sentence if the box leaves the photo by more than a pixel.

    Raises:
        DatasetError: the box is empty or outside the photo.
    """
    left, top, right, bottom = (round(value) for value in corners)
    width, height = size or (max(right, 1), max(bottom, 1))
    cut = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    written = "(" + ", ".join(f"{value:g}" for value in corners) + ")"
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise DatasetError(
            f"{where}: the box {written} is empty or outside the photo of "
            f"{width} × {height} pixels; wanted x1, y1, x2, y2 in pixels"
        )
    wanted = left, top, right, bottom
    if max(abs(one - other) for one, other in zip(cut, wanted, strict=True)) > MAX_CUT_PIXELS:
        problems.append(
            f"{where}: the box {written} leaves the photo of {width} × {height} pixels, cut to it"
        )
    return cut[0], cut[1], cut[2] - cut[0], cut[3] - cut[1]


def photo_size(photo: Path) -> tuple[int, int] | None:
    """Return the width and height of a photo; None if it does not exist or does not decode.

    The encoder reports a photo that does not decode, and leaves it out.

    Args:
        photo: the file.
    """
    from veduta.photos import load

    try:
        loaded = load(photo, at_least=1)
    except PhotoError:
        return None
    return loaded.width, loaded.height
