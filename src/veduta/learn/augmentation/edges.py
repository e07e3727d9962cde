"""Edges drawn onto the photo: functions of pixels and a strength in [0, 1]."""

from __future__ import annotations

import cv2
import numpy as np

from veduta.learn.augmentation.pixels import Pixels, of_pixels

__all__ = ["canny", "edges"]

_WEAK, _STRONG = 100, 200  # slopes, as cv2.Canny counts them


@of_pixels
def canny(pixels: Pixels, strength: float) -> Pixels:
    """Draw the edges that Canny finds in white, that opaque (Canny, PAMI 1986)."""
    found = cv2.Canny(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _WEAK, _STRONG) > 0
    drawn = pixels.copy()
    drawn[found] = np.rint((1 - strength) * pixels[found] + strength * 255).astype(np.uint8)
    return drawn


@of_pixels
def edges(pixels: Pixels, strength: float) -> Pixels:
    """Add the slope of the brightness: beside a step, `strength` times its height (Sobel)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    slope = cv2.convertScaleAbs(cv2.magnitude(across, down), alpha=strength / 4)
    drawn: Pixels = cv2.add(pixels, cv2.merge([slope] * 3))
    return drawn
