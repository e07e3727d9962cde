"""Blurs: functions of pixels and a strength, which is a share of the photo's shorter side."""

from __future__ import annotations

import cv2

from veduta.learn.augmentation.pixels import Pixels, odd_side, on_pixels

__all__ = ["average_blur", "bilateral_blur", "gaussian_blur", "median_blur"]

# OpenCV's limit.
MAX_MEDIAN_SIDE = 255

# Values of 0 to 255 that differ by more than this are an edge, which is kept.
SIMILAR_COLOUR_SIGMA = 75.0

# Below this the blur changes nothing, and OpenCV refuses 0.
MIN_SIGMA_PIXELS = 0.1


@on_pixels
def average_blur(pixels: Pixels, strength: float) -> Pixels:
    """Take the mean of a square of this side, odd and at least 3 pixels."""
    side = odd_side(pixels, strength)
    blurred: Pixels = cv2.blur(pixels, (side, side))
    return blurred


@on_pixels
def median_blur(pixels: Pixels, strength: float) -> Pixels:
    """Take the median of a square of this side, odd and at least 3 pixels."""
    blurred: Pixels = cv2.medianBlur(pixels, min(odd_side(pixels, strength), MAX_MEDIAN_SIDE))
    return blurred


@on_pixels
def gaussian_blur(pixels: Pixels, strength: float) -> Pixels:
    """Convolve with a Gaussian of this standard deviation."""
    sigma = strength * min(pixels.shape[:2])
    if sigma < MIN_SIGMA_PIXELS:
        return pixels
    blurred: Pixels = cv2.GaussianBlur(pixels, (0, 0), sigma)
    return blurred


@on_pixels
def bilateral_blur(pixels: Pixels, strength: float) -> Pixels:
    """Blur similar colours within this diameter (Tomasi and Manduchi, ICCV 1998)."""
    side = odd_side(pixels, strength)
    blurred: Pixels = cv2.bilateralFilter(pixels, side, SIMILAR_COLOUR_SIGMA, side / 2)
    return blurred
