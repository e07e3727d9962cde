"""Blurs: functions of pixels and a strength, a share of the photo's shorter side."""

from __future__ import annotations

import cv2

from veduta.learn.augmentation.pixels import Pixels, odd_side, of_pixels

__all__ = ["average_blur", "bilateral_blur", "gaussian_blur", "median_blur"]

_LARGEST_MEDIAN = 255  # of OpenCV
_SIMILAR = 75.0  # of 255: values further apart than that are an edge, which stays


@of_pixels
def average_blur(pixels: Pixels, strength: float) -> Pixels:
    """Take the mean of a square of that side, odd and 3 pixels at least."""
    side = odd_side(pixels, strength)
    blurred: Pixels = cv2.blur(pixels, (side, side))
    return blurred


@of_pixels
def median_blur(pixels: Pixels, strength: float) -> Pixels:
    """Take the median of a square of that side, odd and 3 pixels at least."""
    blurred: Pixels = cv2.medianBlur(pixels, min(odd_side(pixels, strength), _LARGEST_MEDIAN))
    return blurred


@of_pixels
def gaussian_blur(pixels: Pixels, strength: float) -> Pixels:
    """Convolve with a Gaussian of that standard deviation."""
    sigma = strength * min(pixels.shape[:2])
    if sigma < 0.1:  # of a pixel: nothing would change, and OpenCV refuses 0
        return pixels
    blurred: Pixels = cv2.GaussianBlur(pixels, (0, 0), sigma)
    return blurred


@of_pixels
def bilateral_blur(pixels: Pixels, strength: float) -> Pixels:
    """Blur within that diameter what is of like colour (Tomasi and Manduchi, ICCV 1998)."""
    side = odd_side(pixels, strength)
    blurred: Pixels = cv2.bilateralFilter(pixels, side, _SIMILAR, side / 2)
    return blurred
