"""A heat map over a photo: the colours of its values, and the picture of both.

The picture mixes the photo in grey with the colours, so that every colour in it is of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["HeatScale", "draw_heat_map"]

# Every 15th of 256 colours of two colour maps of matplotlib. Their lightness changes evenly, and
# people who do not see red or green tell them apart.
_INFERNO = (
    "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b "
    "c63d4d d94d3d e9612b f47918 fa9407 fcb014 f8cd37 f2ea69 fcffa4"
)
_COOLWARM = (
    "3b4cc0 4c66d6 5f7fe8 7396f5 88abfd 9dbdff b1cbfc c4d5f3 d5dbe5 "
    "e4d9d2 f0cdbb f6bea4 f7aa8c f39475 e97a5f dc5d4a ca3b37 b40426"
)

_OPACITIES = 0.45, 0.65
"""Of the colours, at zero and at the end of the scale. The photo has the rest."""

_CUT = 0.5
"""Per cent of the darkest and of the brightest pixels that may lose their contrast in the photo."""

_FINE_MAP = 4096
"""Positions. Maps with more are of single pixels."""

_SHOWN_PERCENT = 99
"""Of the absolute values of a fine map, so many have a colour of their own."""

_DARKEST = 50.0
"""Of the grey photo under the colours, so that its dark parts show them too."""

_PAPER = 255.0
_PAPER_SHARE = 0.6
"""How much of the paper covers the part of a photo that the map does not cover."""

_LINE_SHARE = 0.004
"""Width of an outline as a share of the side of a square as large as the picture."""


@dataclass(frozen=True, slots=True)
class HeatScale:
    """Which colour a value has.

    A scale of values that are all 0 or more begins at 0, with inferno: black to yellow. A scale
    with negative values is symmetric around 0, with coolwarm: blue, grey at 0, red.

    Attributes:
        low: the value with the first colour.
        high: the value with the last colour. Equal to `low` if all values are 0.
        clipped: whether a few values lie beyond the ends. They have the colours of the ends.
    """

    low: float
    high: float
    clipped: bool = False

    @classmethod
    def of(cls, maps: Sequence[NDArray[np.float32]]) -> HeatScale:
        """Return the scale that one or more maps need together.

        The ends are the largest absolute value. Of maps of single pixels, a few values are many
        times larger than all others. So the scale of a fine map leaves out the largest hundredth.

        Args:
            maps: each (H, W).

        Raises:
            ValueError: a value is infinite or no number.
        """
        if not all(np.isfinite(one).all() for one in maps):
            raise ValueError("a heat map has values that are infinite or no numbers")
        lowest = min(float(one.min()) for one in maps)
        limit = max(float(np.abs(one).max()) for one in maps)
        usual = limit
        if max(one.size for one in maps) > _FINE_MAP:
            sizes = np.concatenate([np.abs(one).ravel() for one in maps])
            usual = float(np.percentile(sizes, _SHOWN_PERCENT)) or limit
        return cls(-usual if lowest < 0 else 0.0, usual, clipped=usual < limit)

    @property
    def signed(self) -> bool:
        """Whether the scale has negative values."""
        return self.low < 0

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values to write at the scale, at equal distances: two or three, or one if all are 0.

        The middle of a scale without negative values is half its end.
        """
        if self.low == self.high:
            return (self.low,)
        return (self.low, (self.low + self.high) / 2, self.high)

    @property
    def texts(self) -> tuple[str, ...]:
        """The `numbers` with three significant digits, and with "+" where there are negative ones.

        Beyond the ends of a clipped scale there are more values: "0.7 or more".
        """
        form = "+.3g" if self.signed else ".3g"
        texts = [format(value, form) if value else "0" for value in self.numbers]
        if self.clipped:
            texts[-1] += " or more"
            if self.signed:
                texts[0] += " or less"
        return tuple(texts)

    def colours(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the colours of values.

        Args:
            values: of any shape. What lies beyond the ends has the colours of the ends.

        Returns:
            RGB in [0, 255], with one more axis of 3.
        """
        span = self.high - self.low
        shares = (values.astype(np.float64) - self.low) / span if span else np.zeros(values.shape)
        table = _table(_COOLWARM if self.signed else _INFERNO)
        return table[np.rint(255 * np.clip(shares, 0.0, 1.0)).astype(np.intp)]

    def over_grey(self, steps: int) -> NDArray[np.uint8]:
        """Return the colours of the scale as they look over mid-grey, for a legend.

        Args:
            steps: how many.

        Returns:
            (steps, 3) RGB, from low to high.
        """
        return _bytes(
            self.over(np.full((steps, 1), 128.0), np.linspace(self.low, self.high, steps))
        )

    def over(self, grey: NDArray[np.float64], values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the colours of values mixed with a grey photo.

        Args:
            grey: (…, 1) in [0, 255].
            values: (…,): the larger a value, the more of its colour is in the mixture.

        Returns:
            (…, 3) RGB in [0, 255].
        """
        shares = np.abs(values.astype(np.float64)) / (self.high or 1.0)
        faint, strong = _OPACITIES
        opacity = (faint + (strong - faint) * np.clip(shares, 0.0, 1.0))[..., None]
        photo = _DARKEST + (1 - _DARKEST / 255) * grey
        return (1 - opacity) * photo + opacity * self.colours(values)


def draw_heat_map(
    pixels: NDArray[np.uint8],
    values: NDArray[np.float32],
    box: tuple[int, int, int, int],
    scale: HeatScale,
    *,
    size: tuple[int, int],
    outlined: NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Return a photo in grey under the colours of a map.

    The map is enlarged smoothly, and no value becomes larger than the largest. A part of the photo
    that the map does not cover is pale, behind a line.

    Args:
        pixels: (h, w, 3) uint8 RGB: the photo.
        values: (H, W) float32: the map, on any grid.
        box: x, y, width, height in pixels of the photo: the part that the map covers.
        scale: from `HeatScale.of`.
        size: width and height of the picture.
        outlined: a region, on a grid that covers the same box; a line is drawn around it.

    Raises:
        ValueError: the box does not overlap the photo, or a value is infinite or no number.
    """
    from PIL import Image, ImageOps

    if not np.isfinite(values).all():
        raise ValueError("a heat map has values that are infinite or no numbers")
    height, width = pixels.shape[:2]
    (x, right), (y, bottom) = (
        _scaled(box[axis], box[axis] + box[axis + 2], length, size[axis])
        for axis, length in enumerate((width, height))
    )
    if min(right, size[0]) <= max(x, 0) or min(bottom, size[1]) <= max(y, 0):
        raise ValueError(f"the box {box} is not in the photo of {width} × {height} pixels")
    contrast = ImageOps.autocontrast(Image.fromarray(pixels).convert("L"), cutoff=_CUT)
    photo = contrast.resize(size, Image.Resampling.LANCZOS)
    grey = np.asarray(photo, np.float64)[..., None]
    picture = np.repeat(grey * (1 - _PAPER_SHARE) + _PAPER * _PAPER_SHARE, 3, axis=2)

    covered = slice(max(y, 0), min(bottom, size[1])), slice(max(x, 0), min(right, size[0]))
    inside = (
        slice(covered[0].start - y, covered[0].stop - y),
        slice(covered[1].start - x, covered[1].stop - x),
    )
    enlarged = _enlarged(values, (right - x, bottom - y))[inside]
    picture[covered] = scale.over(grey[covered], enlarged)
    drawn = _bytes(picture)
    line = max(1, round(_LINE_SHARE * (size[0] * size[1]) ** 0.5))
    if (covered[0].start, covered[1].start, covered[0].stop, covered[1].stop) != (
        0,
        0,
        *size[::-1],
    ):
        _draw_outline(drawn, np.ones_like(enlarged, np.bool_), covered, line)
    if outlined is not None and outlined.any():
        region = _enlarged(outlined.astype(np.float32), (right - x, bottom - y))[inside] > 0.5
        _draw_outline(drawn, region, covered, line)
    return Image.fromarray(drawn)


def _scaled(start: int, stop: int, length: int, drawn: int) -> tuple[int, int]:
    """Return where a range of pixels of a photo lies in a picture of it."""
    first = round(start * drawn / length)
    return first, max(first + 1, round(stop * drawn / length))


def _enlarged(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    from PIL import Image

    smooth = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
    return smooth.clip(values.min(), values.max())


def _bytes(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(picture).astype(np.uint8)


def _draw_outline(
    picture: NDArray[np.uint8],
    region: NDArray[np.bool_],
    covered: tuple[slice, slice],
    width: int,
) -> None:
    """Draw a white line with a dark edge around a region of a part of a picture."""
    import cv2

    shift = (covered[1].start, covered[0].start)
    outlines, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=shift
    )
    for colour, thickness in (((0, 0, 0), 2 * width + 1), ((255, 255, 255), width)):
        cv2.polylines(picture, outlines, True, colour, thickness, cv2.LINE_AA)


@cache
def _table(colours: str) -> NDArray[np.float64]:
    """Return the 256 colours of a colour map, (256, 3) RGB in [0, 255]."""
    given = np.array([list(bytes.fromhex(colour)) for colour in colours.split()], np.float64)
    steps = np.linspace(0, 255, len(given))
    return np.stack([np.interp(np.arange(256), steps, one) for one in given.T], axis=1)
