"""Grey-scale morphology of each channel, with a square whose side is a share of the shorter side.

The square's side is odd and 3 pixels at least; beyond the border there is nothing to be brighter or
darker.
"""

from __future__ import annotations

import cv2
import numpy as np

from veduta.learn.augmentation.pixels import Pixels, odd_side, of_pixels

__all__ = ["black_hat", "dilation", "erosion", "gradient", "opening", "top_hat"]


def _morphed(pixels: Pixels, operation: int, strength: float) -> Pixels:
    side = odd_side(pixels, strength)
    square = np.ones((side, side), np.uint8)
    morphed: Pixels = cv2.morphologyEx(pixels, operation, square)
    return morphed


@of_pixels
def erosion(pixels: Pixels, strength: float) -> Pixels:
    """Take the darkest value of the square."""
    return _morphed(pixels, cv2.MORPH_ERODE, strength)


@of_pixels
def dilation(pixels: Pixels, strength: float) -> Pixels:
    """Take the brightest value of the square."""
    return _morphed(pixels, cv2.MORPH_DILATE, strength)


@of_pixels
def opening(pixels: Pixels, strength: float) -> Pixels:
    """Erode, then dilate: bright details go."""
    return _morphed(pixels, cv2.MORPH_OPEN, strength)


@of_pixels
def gradient(pixels: Pixels, strength: float) -> Pixels:
    """Take the dilation less the erosion: outlines on black."""
    return _morphed(pixels, cv2.MORPH_GRADIENT, strength)


@of_pixels
def black_hat(pixels: Pixels, strength: float) -> Pixels:
    """Take the closing less the photo: dark details, bright on black."""
    return _morphed(pixels, cv2.MORPH_BLACKHAT, strength)


@of_pixels
def top_hat(pixels: Pixels, strength: float) -> Pixels:
    """Take the photo less its opening: bright details on black."""
    return _morphed(pixels, cv2.MORPH_TOPHAT, strength)
