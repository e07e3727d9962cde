"""What part of the photo is seen, and how finely: the result is as large as the photo was."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from veduta.learn.augmentation.pixels import Pixels, of_pixels

__all__ = ["crop", "pad", "resize", "superpixels"]

_SEGMENTED = 256  # pixels, the long side at which superpixels are sought


@of_pixels
def crop(pixels: Pixels, strength: float) -> Pixels:
    """Cut a part out somewhere and enlarge it; `strength`: share of each side that is cut away."""
    height, width = pixels.shape[:2]
    rows, columns = (max(1, round((1 - strength) * side)) for side in (height, width))
    top = int(torch.randint(height - rows + 1, ()))
    left = int(torch.randint(width - columns + 1, ()))
    part = pixels[top : top + rows, left : left + columns]
    enlarged: Pixels = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged


@of_pixels
def pad(pixels: Pixels, strength: float) -> Pixels:
    """Put a black border around the photo, a share of its sides on each, and make it fit."""
    height, width = pixels.shape[:2]
    above, beside = round(strength * height), round(strength * width)
    padded = cv2.copyMakeBorder(pixels, above, above, beside, beside, cv2.BORDER_CONSTANT)
    fitted: Pixels = cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)
    return fitted


@of_pixels
def resize(pixels: Pixels, strength: float) -> Pixels:
    """Make the photo smaller by a share of its sides, and as large as before."""
    height, width = pixels.shape[:2]
    small = [max(1, round((1 - strength) * side)) for side in (width, height)]
    less = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    enlarged: Pixels = cv2.resize(less, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged


@of_pixels
def superpixels(pixels: Pixels, strength: float) -> Pixels:
    """Give each superpixel its mean colour; `strength`: about how many there are.

    They come from SLIC (Achanta and others, PAMI 2012), sought in the photo made smaller.
    """
    from skimage.segmentation import slic

    height, width = pixels.shape[:2]
    scale = min(1.0, _SEGMENTED / max(height, width))
    small = [max(1, round(scale * side)) for side in (width, height)]
    seen = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    found = slic(
        seen, n_segments=round(strength), compactness=20, sigma=1, start_label=0, channel_axis=2
    )
    patches = cv2.resize(found.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    flat = patches.ravel()
    sizes = np.maximum(np.bincount(flat), 1)
    means = [np.bincount(flat, pixels[..., channel].ravel()) / sizes for channel in range(3)]
    coloured: Pixels = np.rint(np.stack(means, axis=1)).astype(np.uint8)[patches]
    return coloured
