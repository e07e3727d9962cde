"""Crops, borders and loss of detail: the result is as large as the photo was."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from veduta.learn.augmentation.pixels import Pixels, on_pixels

__all__ = ["crop", "pad", "resize", "superpixels"]

# Superpixels are computed on a photo whose long side has at most this many pixels.
MAX_SEGMENTED_SIDE = 256


@on_pixels
def crop(pixels: Pixels, strength: float) -> Pixels:
    """Cut out a part at a random place and enlarge it; each side loses the share `strength`."""
    height, width = pixels.shape[:2]
    rows, columns = (max(1, round((1 - strength) * side)) for side in (height, width))
    top = int(torch.randint(height - rows + 1, ()))
    left = int(torch.randint(width - columns + 1, ()))
    part = pixels[top : top + rows, left : left + columns]
    enlarged: Pixels = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged


@on_pixels
def pad(pixels: Pixels, strength: float) -> Pixels:
    """Add a black border, whose width is a share of each side, and shrink the photo to its size."""
    height, width = pixels.shape[:2]
    above, beside = round(strength * height), round(strength * width)
    padded = cv2.copyMakeBorder(pixels, above, above, beside, beside, cv2.BORDER_CONSTANT)
    shrunk: Pixels = cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)
    return shrunk


@on_pixels
def resize(pixels: Pixels, strength: float) -> Pixels:
    """Shrink the photo by a share of its sides, and enlarge it again."""
    height, width = pixels.shape[:2]
    size = [max(1, round((1 - strength) * side)) for side in (width, height)]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    enlarged: Pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged


@on_pixels
def superpixels(pixels: Pixels, strength: float) -> Pixels:
    """Give each superpixel its mean colour (SLIC; Achanta and others, PAMI 2012).

    Args:
        pixels: the photo. Superpixels are computed on a smaller one.
        strength: about their number.
    """
    from skimage.segmentation import slic

    height, width = pixels.shape[:2]
    scale = min(1.0, MAX_SEGMENTED_SIDE / max(height, width))
    size = [max(1, round(scale * side)) for side in (width, height)]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    segments = slic(
        small, n_segments=round(strength), compactness=20, sigma=1, start_label=0, channel_axis=2
    )
    enlarged = cv2.resize(
        segments.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST
    )
    segment_ids = enlarged.ravel()
    sizes = np.maximum(np.bincount(segment_ids), 1)
    means = [np.bincount(segment_ids, pixels[..., channel].ravel()) / sizes for channel in range(3)]
    coloured: Pixels = np.rint(np.stack(means, axis=1)).astype(np.uint8)[enlarged]
    return coloured
