"""Noise: functions of a uint8 photo (3, H, W) or its pixels, and a strength in [0, 1]."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from veduta.learn.augmentation.pixels import Pixels, on_pixels

__all__ = ["gaussian_noise", "paper_noise", "pepper", "salt_and_pepper"]

_WHITE = 255

# Amplitude and size of the grain, fibres and blots of paper, in pixels of a photo whose shorter
# side has 256.
_PAPER_TEXTURE = ((0.5, 0.6), (0.6, 2.0), (0.6, 16.0))


def gaussian_noise(photo: Tensor, strength: float) -> Tensor:
    """Add normal noise to every value; `strength` is its standard deviation as a share of white."""
    noisy: Tensor = functional.gaussian_noise(photo, mean=0.0, sigma=strength, clip=True)
    return noisy


@on_pixels
def salt_and_pepper(pixels: Pixels, strength: float) -> Pixels:
    """Make a share of the pixels white or black, each with the same probability."""
    drawn = torch.rand(pixels.shape[:2]).numpy()
    noisy = pixels.copy()
    noisy[drawn < strength] = _WHITE
    noisy[drawn < strength / 2] = 0
    return noisy


@on_pixels
def pepper(pixels: Pixels, strength: float) -> Pixels:
    """Make a share of the pixels black."""
    noisy = pixels.copy()
    noisy[torch.rand(pixels.shape[:2]).numpy() < strength] = 0
    return noisy


@on_pixels
def paper_noise(pixels: Pixels, strength: float) -> Pixels:
    """Darken the photo by the texture of paper, the same in all channels.

    Args:
        pixels: the photo.
        strength: share of its light that a pixel in the deepest hollow loses.
    """
    height, width = pixels.shape[:2]
    unit = max(1.0, min(height, width) / 256)
    relief = sum(
        amplitude * _smooth_noise(height, width, size * unit) for amplitude, size in _PAPER_TEXTURE
    )
    kept = 1 - strength * np.clip(0.5 + relief / 4, 0, 1)
    darkened: Pixels = np.rint(pixels * kept[..., None]).astype(np.uint8)
    return darkened


def _smooth_noise(height: int, width: int, size: float) -> NDArray[np.float32]:
    """Return noise (H, W) of mean 0 and variance 1 with bumps of about `size` pixels."""
    # The blur of large bumps would take most of the time, so they are drawn small and enlarged.
    step = max(1, int(size / 2))
    rows, columns = -(-height // step) + 1, -(-width // step) + 1
    bumps = cv2.GaussianBlur(torch.randn(rows, columns).numpy(), (0, 0), size / step)
    bumps = cv2.resize(bumps, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)
    bumps = bumps[:height, :width]
    scaled: NDArray[np.float32] = (bumps - bumps.mean()) / max(float(bumps.std()), 1e-6)
    return scaled
