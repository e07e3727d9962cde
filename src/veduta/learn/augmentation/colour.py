"""Colours: functions of a uint8 photo (3, H, W) and a strength; 0 changes nothing."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from veduta.learn.augmentation.pixels import Pixels, on_pixels

__all__ = ["brightness", "contrast", "grey", "light", "saturation", "sharpness"]

# Pillow's filter SMOOTH. torchvision uses it too for sharpness, but takes ten times as long.
_SMOOTHING_KERNEL = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def brightness(photo: Tensor, strength: float) -> Tensor:
    """Multiply all values by 1 + `strength`, which is in [-1, 1]."""
    # With an integer factor torchvision would overflow.
    changed: Tensor = functional.adjust_brightness(photo, 1.0 + strength)
    return changed


def light(photo: Tensor, strength: float) -> Tensor:
    """Add `strength` × white, in [-1, 1]."""
    added = photo.to(torch.int16) + round(255 * strength)
    return added.clamp_(0, 255).to(torch.uint8)


def contrast(photo: Tensor, strength: float) -> Tensor:
    """Multiply the distance from the photo's mean grey by 1 + `strength`, in [-1, 1]."""
    changed: Tensor = functional.adjust_contrast(photo, 1.0 + strength)
    return changed


def saturation(photo: Tensor, strength: float) -> Tensor:
    """Multiply each pixel's distance from its grey by 1 + `strength`, in [-1, 1]."""
    changed: Tensor = functional.adjust_saturation(photo, 1.0 + strength)
    return changed


@on_pixels
def sharpness(pixels: Pixels, strength: float) -> Pixels:
    """Multiply the distance from a smoothed photo by 1 + `strength`, in [-1, 1].

    Args:
        pixels: the photo. Its outermost pixels are not changed.
        strength: 0 changes nothing.
    """
    smooth = cv2.filter2D(pixels, -1, _SMOOTHING_KERNEL)
    sharper: Pixels = cv2.addWeighted(pixels, 1 + strength, smooth, -strength, 0)
    inside = (slice(1, -1), slice(1, -1))
    changed = pixels.copy()
    changed[inside] = sharper[inside]
    return changed


def grey(photo: Tensor, strength: float) -> Tensor:
    """Remove a share of the colour, in [0, 1]; with 1 the three values of a pixel are equal."""
    return saturation(photo, -strength)
