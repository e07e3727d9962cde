"""Pictures of walls with many small things, and views of them from the side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]


def scene(seed: int, width: int = 640, height: int = 480) -> Pixels:
    """A wall of many small things that no other seed has."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(rng.integers(60, 200, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(260):
        x, y = rng.integers((0, 0), (width, height)).tolist()
        w, h = rng.integers(6, 60, 2).tolist()
        colour = tuple(rng.integers(0, 256, 3).tolist())
        corners = rng.integers((x, y), (x + w, y + h), (int(rng.integers(3, 6)), 2))
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
    return np.asarray(image)


# Output pixel → input pixel, as Pillow wants it: a view from the side, scaled by about 0.8.
ASIDE = (1.22, 0.12, -40.0, 0.05, 1.18, -30.0, 0.00018, 0.00006)


def seen_aside(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    turned = image.transform(
        image.size, Image.Transform.PERSPECTIVE, ASIDE, Image.Resampling.BICUBIC, fillcolor="grey"
    )
    return np.asarray(turned.point(lambda value: round(value * 0.8 + 20)))


def wall_view(wall: int, number: int) -> Image.Image:
    """A wall as seen from another place each time."""
    slant, shear, shift = 1 + 0.08 * number, 0.06 * number, -30 * number
    coefficients = (slant, shear, shift, 0.02 * number, slant, shift, 6e-5 * number, 0)
    return Image.fromarray(scene(wall)).transform(
        (640, 480), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
