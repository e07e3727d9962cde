"""Grey-scale morphology of each channel, with a square whose side is a share of the shorter side.

The side is odd and at least 3 pixels. Places beyond the border of the photo do not count.
"""

from __future__ import annotations

import cv2
import numpy as np

from veduta.learn.augmentation.pixels import Pixels, odd_side, on_pixels

__all__ = ["black_hat", "dilation", "erosion", "gradient", "opening", "top_hat"]


def _morphology(pixels: Pixels, operation: int, strength: float) -> Pixels:
    side = odd_side(pixels, strength)
    changed: Pixels = cv2.morphologyEx(pixels, operation, np.ones((side, side), np.uint8))
    return changed


@on_pixels
def erosion(pixels: Pixels, strength: float) -> Pixels:
    """Take the darkest value of the square."""
    return _morphology(pixels, cv2.MORPH_ERODE, strength)


@on_pixels
def dilation(pixels: Pixels, strength: float) -> Pixels:
    """Take the brightest value of the square."""
    return _morphology(pixels, cv2.MORPH_DILATE, strength)


@on_pixels
def opening(pixels: Pixels, strength: float) -> Pixels:
    """Erode, then dilate, which removes bright details."""
    return _morphology(pixels, cv2.MORPH_OPEN, strength)


@on_pixels
def gradient(pixels: Pixels, strength: float) -> Pixels:
    """Subtract the erosion from the dilation: outlines on black."""
    return _morphology(pixels, cv2.MORPH_GRADIENT, strength)


@on_pixels
def black_hat(pixels: Pixels, strength: float) -> Pixels:
    """Subtract the photo from its closing: dark details become bright, on black."""
    return _morphology(pixels, cv2.MORPH_BLACKHAT, strength)


@on_pixels
def top_hat(pixels: Pixels, strength: float) -> Pixels:
    """Subtract its opening from the photo: bright details on black."""
    return _morphology(pixels, cv2.MORPH_TOPHAT, strength)
