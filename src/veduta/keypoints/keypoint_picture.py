"""The picture of one photo with its keypoints: their places, scales and directions."""

from __future__ import annotations

import math
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
from veduta.text import count

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from veduta.keypoints.features import Keypoints

__all__ = ["draw_keypoints"]

# Pixels of the enlarged drawing.
_LINE_WIDTHS = (5, 2)
"""Of the dark line below and of the bright line on it."""
_MIN_RADIUS = 3.0
_RING_RADIUS = 8.0
"""Of a keypoint without a scale."""

_DARK = (0, 0, 0, 110)
_BRIGHT = (60, 255, 60, 255)


def draw_keypoints(
    pixels: NDArray[np.uint8], keypoints: Keypoints, *, name: str, width: int = 1200
) -> Image.Image:
    """Draw a photo with its keypoints, as OpenCV's rich keypoints are drawn.

    Each is a circle of its scale, with a line from the centre in its direction. Keypoints that have
    neither are rings of one size. Large circles are below small ones.

    Args:
        pixels: (H, W, 3) uint8 RGB, upright, at any size.
        keypoints: of the photo, with their diameters and directions if they have any.
        name: of the kind of keypoints, for the caption.
        width: the largest width and height of the photo in the picture in pixels, at least 200.

    Returns:
        The picture, RGB, with a line of text below: how many keypoints, and what is drawn.
    """
    from PIL import ImageDraw

    side = max(width, MIN_WIDTH)
    frame = Frame(0, 0, *fitted((pixels.shape[1], pixels.shape[0]), side, side))
    canvas = canvas_of([pixels], [frame])
    pen = ImageDraw.Draw(canvas, "RGBA")
    radii = np.full(len(keypoints), _RING_RADIUS)
    if keypoints.diameters is not None:
        enlargement = SUPERSAMPLING * frame.width / keypoints.width
        radii = np.maximum(keypoints.diameters / 2 * enlargement, _MIN_RADIUS)
    centres = on_canvas(keypoints, keypoints.xy, frame)
    order = np.argsort(-radii, kind="stable").tolist()
    for colour, stroke in zip((_DARK, _BRIGHT), _LINE_WIDTHS, strict=True):
        for number in order:
            (x, y), radius = centres[number], float(radii[number])
            outer = radius + stroke / 2
            pen.ellipse((x - outer, y - outer, x + outer, y + outer), outline=colour, width=stroke)
            if keypoints.directions is not None:
                angle = math.radians(float(keypoints.directions[number]))
                end = (x + radius * math.cos(angle), y + radius * math.sin(angle))
                pen.line([(x, y), end], fill=colour, width=stroke)
    draw_caption(pen, _caption(keypoints, name), [frame])
    return canvas.reduce(SUPERSAMPLING)


def _caption(keypoints: Keypoints, name: str) -> str:
    found = f"{count(len(keypoints), 'keypoint')} · {name}"
    if not len(keypoints):
        return found
    if keypoints.diameters is None:
        return f"{found} · no scale and no direction"
    return f"{found} · circle: scale · line: direction"
