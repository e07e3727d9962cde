"""Generated pictures on which a device is compared with the processor.

They are leaves that cover each other, of all sizes: pictures whose edges and shades are spread as
those of photos are (Lee, Mumford & Huang, "Occlusion Models for Natural Images", IJCV 2001).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["generated_picture", "probe_pictures"]

_LEAVES = 600
_SMALLEST_PIXELS = 8.0
_LARGEST_PIXELS = 320.0
_SPREAD_OF_SHADES = 50.0
_SPREAD_OF_COLOURS = 20.0
_SPREAD_OF_GRAIN = 4.0
"""Standard deviations, of 255: of what a leaf has in all colours, in each of them, in a pixel."""

_SIZES = ((480, 640), (480, 640), (480, 640), (640, 480))
"""Height and width of the pictures. Those of one size share a batch."""


@cache
def probe_pictures() -> tuple[NDArray[np.uint8], ...]:
    """Return the pictures of a probe, (H, W, 3) uint8 RGB, always the same."""
    return tuple(generated_picture(seed, *size) for seed, size in enumerate(_SIZES))


def generated_picture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) uint8 RGB.

    Args:
        seed: equal seeds give equal pictures.
        height: in pixels.
        width: in pixels.
    """
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.float32)
    # Photos have as many things of each size as make up the same area.
    ends = _SMALLEST_PIXELS**-2.0, _LARGEST_PIXELS**-2.0
    sides = (ends[0] - rng.uniform(size=_LEAVES) * (ends[0] - ends[1])) ** -0.5
    for side in np.sort(sides)[::-1]:
        centre = rng.uniform(0, (height, width))
        radii = side * rng.uniform(0.5, 1.5, 2)
        limit = height - 1, width - 1
        first, last = (np.clip(centre + sign * radii, 0, limit) for sign in (-1, 1))
        window = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
        rows, columns = np.ogrid[window]
        y, x = (rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1]
        # Half of the leaves are rectangles, with corners, and half are round.
        inside = y**2 + x**2 <= 1 if rng.uniform() < 0.5 else np.ones((len(y), x.size), bool)
        colour = 128 + rng.normal(0, _SPREAD_OF_SHADES) + rng.normal(0, _SPREAD_OF_COLOURS, 3)
        shades = colour + rng.normal(0, _SPREAD_OF_COLOURS) * x[..., None]
        leaf = picture[window]
        np.copyto(leaf, shades, where=inside[..., None])
    picture += rng.normal(0, _SPREAD_OF_GRAIN, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)
