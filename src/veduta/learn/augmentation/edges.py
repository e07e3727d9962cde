"""Edges drawn onto the photo: functions of pixels and a strength in [0, 1]."""

from __future__ import annotations

import cv2
import numpy as np

from veduta.learn.augmentation.pixels import Pixels, on_pixels

__all__ = ["canny", "edges"]

# Slopes of the brightness, in the units of `cv2.Canny`.
WEAK_EDGE, STRONG_EDGE = 100, 200


@on_pixels
def canny(pixels: Pixels, strength: float) -> Pixels:
    """Draw Canny's edges in white with this opacity (Canny, PAMI 1986)."""
    is_edge = cv2.Canny(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), WEAK_EDGE, STRONG_EDGE) > 0
    drawn = pixels.copy()
    drawn[is_edge] = np.rint((1 - strength) * pixels[is_edge] + strength * 255).astype(np.uint8)
    return drawn


@on_pixels
def edges(pixels: Pixels, strength: float) -> Pixels:
    """Add the slope of the brightness (Sobel): beside a step, `strength` times its height."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    horizontal = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    vertical = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    slope = cv2.convertScaleAbs(cv2.magnitude(horizontal, vertical), alpha=strength / 4)
    drawn: Pixels = cv2.add(pixels, cv2.merge([slope] * 3))
    return drawn
