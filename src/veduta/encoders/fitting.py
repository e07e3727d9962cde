"""From a photo of any shape to the shapes that a network takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veduta.encoders.spec import EncoderSpec

__all__ = ["Placement", "long_side", "place"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Which part of a photo is taken (pixels of the photo) and the size it gets (pixels)."""

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int


def place(width: int, height: int, side: int, spec: EncoderSpec) -> Placement:
    """Say how a photo of `width` × `height` pixels is brought to the size `side` of `spec`.

    Small photos are enlarged: a descriptor depends on the scale at which things are seen, so all
    photos are seen at one.
    """
    if spec.fit == "aspect":
        factor = side / max(width, height)
        return Placement(
            0, 0, width, height, *(_multiple(n * factor, spec.stride) for n in (width, height))
        )
    if spec.fit == "squash":
        return Placement(0, 0, width, height, side, side)
    # The square is cut before the resize: to resize first would blow a 1 × 4000 photo up to
    # millions of pixels that the cut then throws away.
    cut = max(1, round(min(width, height) * spec.keep))
    left, top = (width - cut) // 2, (height - cut) // 2
    return Placement(left, top, left + cut, top + cut, side, side)


# A JPEG that is scaled down in the decoder to exactly the network's size is softer than one that is
# resized from a larger picture: with 320 pixels the cosine between the two fell to 0.94.
_MARGIN = 1.25


def long_side(spec: EncoderSpec) -> int:
    """Return the long side, in pixels, at which a decoded photo loses nothing for `spec`.

    For `crop` it is the short side that counts, so photos up to 2:1 are covered.
    """
    largest = max(side for side, _ in spec.sizes)
    if spec.fit == "crop":
        largest = round(2 * largest / spec.keep)
    return math.ceil(_MARGIN * largest)


def _multiple(length: float, stride: int) -> int:
    return max(1, int(length / stride + 0.5)) * stride
