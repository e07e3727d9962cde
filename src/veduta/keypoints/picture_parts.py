"""What pictures of keypoints have in common: photos in frames, and a caption below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from veduta.keypoints.features import Keypoints

__all__ = [
    "MIN_WIDTH",
    "SUPERSAMPLING",
    "Frame",
    "canvas_of",
    "draw_caption",
    "fitted",
    "on_canvas",
]

SUPERSAMPLING = 2
"""A picture is drawn at this multiple of its size and then reduced, which smooths the lines."""

MIN_WIDTH = 200
"""Pixels, so that the caption can be read."""

# Pixels of the picture.
_CAPTION_HEIGHT = 44
_CAPTION_MARGIN = 8
_CAPTION_SIZES = (20, 8)
"""The largest and the smallest size of the caption's letters."""

_BACKGROUND = (255, 255, 255)
_TEXT_COLOUR = (32, 33, 36)


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of a photo in the picture, in pixels of the picture."""

    left: int
    top: int
    width: int
    height: int


def fitted(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) of a photo that is made as large as a box allows.

    Args:
        size: width and height of the photo.
        width: of the box.
        height: of the box.
    """
    scale = min(width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def canvas_of(photos: Sequence[NDArray[np.uint8]], frames: Sequence[Frame]) -> Image.Image:
    """Return the enlarged drawing with photos in their frames, and room for the caption.

    Args:
        photos: (H, W, 3) uint8 RGB, upright, at any size.
        frames: the place of each of them.
    """
    from PIL import Image

    right, bottom = _extent(frames)
    size = (right * SUPERSAMPLING, (bottom + _CAPTION_HEIGHT) * SUPERSAMPLING)
    canvas = Image.new("RGB", size, _BACKGROUND)
    for pixels, frame in zip(photos, frames, strict=True):
        enlarged = (frame.width * SUPERSAMPLING, frame.height * SUPERSAMPLING)
        photo = Image.fromarray(pixels).resize(enlarged, Image.Resampling.LANCZOS)
        canvas.paste(photo, (frame.left * SUPERSAMPLING, frame.top * SUPERSAMPLING))
    return canvas


def on_canvas(
    keypoints: Keypoints, xy: NDArray[np.float32], frame: Frame
) -> list[tuple[float, float]]:
    """Return positions in pixels of the photo as positions in pixels of the enlarged drawing.

    Args:
        keypoints: of the photo, which know its size.
        xy: (n, 2) positions in the photo.
        frame: the place of the photo.
    """
    shares = (xy + 0.5) / np.array([keypoints.width, keypoints.height])
    positions = shares * [frame.width, frame.height] + [frame.left, frame.top]
    return [(float(x), float(y)) for x, y in positions * SUPERSAMPLING]


def draw_caption(pen: ImageDraw.ImageDraw, text: str, frames: Sequence[Frame]) -> None:
    """Write a line in the middle below the photos, in letters as large as the width allows.

    Args:
        pen: draws on the enlarged drawing.
        text: the line.
        frames: of the photos.
    """
    from PIL import ImageFont

    right, bottom = _extent(frames)
    size, smallest = _CAPTION_SIZES
    font = ImageFont.load_default(size * SUPERSAMPLING)
    while size > smallest and font.getlength(text) > (right - _CAPTION_MARGIN) * SUPERSAMPLING:
        size -= 1
        font = ImageFont.load_default(size * SUPERSAMPLING)
    middle = (right * SUPERSAMPLING / 2, (bottom + _CAPTION_HEIGHT / 2) * SUPERSAMPLING)
    pen.text(middle, text, font=font, fill=_TEXT_COLOUR, anchor="mm")


def _extent(frames: Sequence[Frame]) -> tuple[int, int]:
    right = max(MIN_WIDTH, *(frame.left + frame.width for frame in frames))
    return right, max(frame.top + frame.height for frame in frames)
