"""The eight orientations of a photo: turned by quarters, and mirrored or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALL_ORIENTATIONS", "UPRIGHT", "Box", "Orientation", "orientation_named"]

Box = tuple[int, int, int, int]
"""A region of a photo: x, y, width, height in pixels."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a photo is turned before it is compared with others: clockwise, then mirrored or not.

    Attributes:
        degrees: 0, 90, 180 or 270, by which the photo is turned clockwise.
        mirrored: whether left and right are swapped after that.
    """

    degrees: int = 0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """One of `veduta.search.ORIENTATIONS`, such as "upright", "90" or "90-mirrored"."""
        parts = [str(self.degrees)] if self.degrees else []
        parts += ["mirrored"] if self.mirrored else []
        return "-".join(parts) or "upright"

    @property
    def words(self) -> str:
        """What is done to the photo, such as "turned by 90° clockwise and mirrored"."""
        parts = [f"turned by {self.degrees}° clockwise"] if self.degrees else []
        parts += ["mirrored"] if self.mirrored else []
        return " and ".join(parts) or "not turned"

    @property
    def is_turned(self) -> bool:
        """Whether anything is done to the photo."""
        return bool(self.degrees) or self.mirrored

    @property
    def inverse(self) -> Orientation:
        """The orientation that brings the photo back."""
        if self.mirrored:  # Whoever turns a photo, mirrors it and does both again has it back.
            return self
        return Orientation(-self.degrees % 360)

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return a photo, or a map over one, in this orientation.

        Args:
            pixels: (H, W) or (H, W, 3).
        """
        turned = np.rot90(pixels, -self.degrees // 90)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and the height of a photo of this width and height once it is turned."""
        return (height, width) if self.degrees in (90, 270) else (width, height)

    def points(self, xy: NDArray[Any], width: int, height: int) -> NDArray[Any]:
        """Return where points of a photo are once it is turned.

        Args:
            xy: (n, 2) x, y in pixels. (0, 0) is the middle of the first pixel.
            width: of the photo, in pixels.
            height: of the photo, in pixels.

        Returns:
            (n, 2) x, y in pixels of the turned photo.
        """
        x, y = xy[:, 0], xy[:, 1]
        right, bottom = width - 1, height - 1
        x, y = {
            0: (x, y),
            90: (bottom - y, x),
            180: (right - x, bottom - y),
            270: (y, right - x),
        }[self.degrees]
        if self.mirrored:
            x = self.size(width, height)[0] - 1 - x
        return np.stack([x, y], axis=1)

    def box(self, box: Box, width: int, height: int) -> Box:
        """Return where a region of a photo is once it is turned.

        Args:
            box: the region.
            width: of the photo, in pixels.
            height: of the photo, in pixels.
        """
        x, y, box_width, box_height = box
        corners = np.array([(x, y), (x + box_width - 1, y + box_height - 1)])
        left, top = self.points(corners, width, height).min(axis=0).tolist()
        return left, top, *self.size(box_width, box_height)


UPRIGHT = Orientation()

ALL_ORIENTATIONS = tuple(
    Orientation(degrees, mirrored) for mirrored in (False, True) for degrees in (0, 90, 180, 270)
)
"""Upright first, and the mirrored ones last."""


def orientation_named(name: str) -> Orientation:
    """Return the orientation of a name.

    Args:
        name: see `Orientation.name`.

    Raises:
        KeyError: no orientation has that name.
    """
    return {orientation.name: orientation for orientation in ALL_ORIENTATIONS}[name]
