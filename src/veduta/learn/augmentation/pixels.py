"""Between torch's photos and OpenCV's: planes one after the other, and pixels one after the other.

What is made of pixels stays laid out so, as a view: two steps of OpenCV in a row copy nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pixels", "as_photo", "as_pixels", "odd_side", "of_pixels"]

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB, C-contiguous."""


def as_pixels(photo: Tensor) -> Pixels:
    """Return a uint8 photo (3, H, W) as pixels, which may share its memory: not to be written."""
    turned = photo.permute(1, 2, 0)
    if turned.is_contiguous():
        pixels: Pixels = turned.numpy()
        return pixels
    merged: Pixels = cv2.merge(list(photo.contiguous().numpy()))  # a tenth of torch's time
    return merged


def as_photo(pixels: Pixels) -> Tensor:
    """Return pixels as a photo (3, H, W), a view of them."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def of_pixels(function: Callable[[Pixels, float], Pixels]) -> Callable[[Tensor, float], Tensor]:
    """Turn a function of pixels and a strength into one of a photo and a strength."""

    @wraps(function)
    def of_photo(photo: Tensor, strength: float) -> Tensor:
        return as_photo(function(as_pixels(photo), strength))

    return of_photo


def odd_side(pixels: Pixels, share: float) -> int:
    """Return the side of a square in pixels: a share of the shorter side, odd, 3 at least."""
    shorter = int(min(pixels.shape[:2]))
    return max(3, 2 * round((share * shorter - 1) / 2) + 1)
