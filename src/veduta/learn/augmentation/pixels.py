"""Conversion between torch's photos (planes of colour) and OpenCV's pixels (colours side by side).

The result of an OpenCV step keeps its layout as a view, so two such steps in a row copy nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pixels", "as_photo", "as_pixels", "odd_side", "on_pixels"]

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB, C-contiguous."""


def as_pixels(photo: Tensor) -> Pixels:
    """Return a uint8 photo (3, H, W) as pixels, which may share its memory. Do not change them."""
    permuted = photo.permute(1, 2, 0)
    if permuted.is_contiguous():
        pixels: Pixels = permuted.numpy()
        return pixels
    # OpenCV merges planes in a tenth of torch's time.
    merged: Pixels = cv2.merge(list(photo.contiguous().numpy()))
    return merged


def as_photo(pixels: Pixels) -> Tensor:
    """Return pixels as a photo (3, H, W), which is a view of them."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def on_pixels(function: Callable[[Pixels, float], Pixels]) -> Callable[[Tensor, float], Tensor]:
    """Turn a function of pixels and a strength into a function of a photo and a strength."""

    @wraps(function)
    def on_photo(photo: Tensor, strength: float) -> Tensor:
        return as_photo(function(as_pixels(photo), strength))

    return on_photo


def odd_side(pixels: Pixels, share: float) -> int:
    """Return the side of a square in pixels: a share of the shorter side, odd, at least 3."""
    shorter = int(min(pixels.shape[:2]))
    return max(3, 2 * round((share * shorter - 1) / 2) + 1)
