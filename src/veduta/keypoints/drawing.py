"""The picture of two photos with their matches: why they were verified, or why not."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from veduta.keypoints.picture_parts import (
    MIN_WIDTH,
    SUPERSAMPLING,
    Frame,
    canvas_of,
    draw_caption,
    fitted,
    on_canvas,
)
from veduta.keypoints.regions import overlap

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.verification import Verification

__all__ = ["draw_matches"]

# Pixels of the picture.
_GAP = 12
_MAX_HEIGHT = 800

# Pixels of the enlarged drawing.
_MATCH_WIDTH = 3
_END_RADIUS = 5
_OUTLINE_WIDTHS = (9, 4)
"""Of the dark line around a region and of the bright line on it."""

_UNVERIFIED_COLOUR = (255, 255, 255, 90)
_LAST_HUE = 0.83
"""Violet. The hue of red would be that of the first line again."""


def draw_matches(
    query_pixels: NDArray[np.uint8],
    other_pixels: NDArray[np.uint8],
    query: Keypoints,
    other: Keypoints,
    verification: Verification,
    *,
    matches: NDArray[np.intp],
    width: int = 1600,
    lines: int = 100,
    note: str = "",
) -> Image.Image:
    """Draw two photos with their inliers and the region that both show.

    The photos are side by side, or one above the other where that shows them larger. The colour of
    a line depends on its height in the query (on its horizontal position if the photos are one
    above the other), so that crossing lines can be told apart. If the photos are not verified, all
    matches are drawn faintly.

    Args:
        query_pixels: (H, W, 3) uint8 RGB, upright, at any size.
        other_pixels: the same of the other photo.
        query: the keypoints of the query, in pixels of its full size.
        other: the keypoints of the other photo.
        verification: the result of `verify` for the two photos.
        matches: (m, 2) the matches that were verified.
        width: the largest width of the picture in pixels, at least 200.
        lines: the largest number of matches that are drawn. Of more matches, evenly spaced ones are
            taken.
        note: is added to the line of text.

    Returns:
        The picture, RGB, with a line of text below: how many matches agree, and on what.
    """
    from PIL import ImageDraw

    frames = _frames(_size(query_pixels), _size(other_pixels), max(width, MIN_WIDTH))
    canvas = canvas_of((query_pixels, other_pixels), frames)
    pen = ImageDraw.Draw(canvas, "RGBA")
    both = ((query, frames[0]), (other, frames[1]))
    verified = verification.model is not None
    axis = 1 if frames[1].left else 0
    pairs = _evenly_spaced(verification.inliers if verified else matches, query, axis, lines)
    ends = [
        on_canvas(keypoints, keypoints.xy[pairs[:, side]], frame)
        for side, (keypoints, frame) in enumerate(both)
    ]
    # Many opaque lines would hide the photos.
    opacity = round(np.interp(len(pairs), (30, 100), (190, 120)))
    colours = [
        (*_line_colour(i, len(pairs)), opacity) if verified else _UNVERIFIED_COLOUR
        for i in range(len(pairs))
    ]
    for start, end, colour in zip(*ends, colours, strict=True):
        pen.line([*start, *end], fill=colour, width=_MATCH_WIDTH)
    for start, end, colour in zip(*ends, colours, strict=True):
        for x, y in (start, end):
            box = (x - _END_RADIUS, y - _END_RADIUS, x + _END_RADIUS, y + _END_RADIUS)
            if verified:
                pen.ellipse(box, fill=(*colour[:3], 255), outline=(0, 0, 0, 160))
            else:
                pen.ellipse(box, outline=(255, 255, 255, 160), width=2)
    if (regions := overlap(query, other, verification)) is not None:
        for region, (keypoints, frame) in zip(regions, both, strict=True):
            _draw_outline(pen, on_canvas(keypoints, region, frame))
    caption = _caption(verification, len(pairs))
    draw_caption(pen, f"{caption} · {note}" if note else caption, frames)
    return canvas.reduce(SUPERSAMPLING)


def _size(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _frames(a: tuple[int, int], b: tuple[int, int], width: int) -> tuple[Frame, Frame]:
    """Arrange two photos of the sizes (width, height) so that the smaller one is large."""
    half_width, half_height = (width - _GAP) // 2, (_MAX_HEIGHT - _GAP) // 2
    beside = [fitted(size, half_width, _MAX_HEIGHT) for size in (a, b)]
    stacked = [fitted(size, width, half_height) for size in (a, b)]
    (w, h), (v, g) = beside
    if min(w * h, v * g) >= min(x * y for x, y in stacked):
        tall = max(h, g)
        return Frame(0, (tall - h) // 2, w, h), Frame(w + _GAP, (tall - g) // 2, v, g)
    (w, h), (v, g) = stacked
    return Frame(0, 0, w, h), Frame(0, h + _GAP, v, g)


def _evenly_spaced(
    pairs: NDArray[np.intp], query: Keypoints, axis: int, maximum: int
) -> NDArray[np.intp]:
    """Order pairs along one axis of the query. Of more than `maximum` take evenly spaced ones."""
    pairs = pairs[np.argsort(query.xy[pairs[:, 0], axis], kind="stable")]
    if len(pairs) > maximum:
        pairs = pairs[np.linspace(0, len(pairs) - 1, maximum).round().astype(np.intp)]
    return pairs


def _line_colour(number: int, count: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(_LAST_HUE * number / max(count - 1, 1), 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_outline(pen: ImageDraw.ImageDraw, corners: list[tuple[float, float]]) -> None:
    ring = [*corners, corners[0], corners[1]]
    dark, bright = _OUTLINE_WIDTHS
    pen.line(ring, fill=(0, 0, 0, 130), width=dark, joint="curve")
    pen.line(ring, fill=(255, 255, 255, 240), width=bright, joint="curve")


def _caption(verification: Verification, drawn: int) -> str:
    inliers, matches = len(verification.inliers), verification.matches
    if not matches:
        return "Not verified: no keypoints match"
    agree = f"{inliers} of {matches} {'match' if matches == 1 else 'matches'} agree"
    if verification.model is None:
        return f"Not verified: only {agree}"
    names = {"homography": "homography", "fundamental": "fundamental matrix"}
    some = f" · {drawn} drawn" if drawn < inliers else ""
    return f"{agree} · {names[verification.model]}{some}"
