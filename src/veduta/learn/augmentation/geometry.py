"""Turns, moves, shears, stretches and mirrorings: one warp for all that stand next to each other.

Places are (x, y, 1) in pixels from the photo's centre, x to the right, y down. A matrix (3, 3) says
from which place of the photo each place of the result is taken, as in Keras' ImageDataGenerator,
whose draws and order these are. Beyond the border the nearest pixel repeats (Keras' "nearest").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import cos, radians, sin
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from veduta.learn.augmentation.chance import both_ways, happens
from veduta.learn.augmentation.pixels import as_photo, as_pixels
from veduta.learn.augmentation.steps import Step

__all__ = ["Warp", "flipped", "rotated", "sheared", "shifted", "warp", "zoomed"]

Matrix = NDArray[np.float64]


def rotated(degrees: float) -> Matrix:
    """Turn the photo anticlockwise."""
    turn = radians(degrees)
    return np.array([[cos(turn), -sin(turn), 0], [sin(turn), cos(turn), 0], [0, 0, 1]])


def shifted(left: float, up: float) -> Matrix:
    """Move the photo by pixels."""
    return np.array([[1, 0, left], [0, 1, up], [0, 0, 1]], np.float64)


def sheared(degrees: float) -> Matrix:
    """Shear the photo: what is level slopes by the angle, and is as long as before."""
    slope = radians(degrees)
    return np.array([[cos(slope), 0, 0], [-sin(slope), 1, 0], [0, 0, 1]])


def zoomed(across: float, down: float) -> Matrix:
    """Show so many times the photo's width and height: below 1 enlarges it."""
    return np.diag([across, down, 1.0])


def flipped(across: bool, down: bool) -> Matrix:
    """Mirror the photo left to right, top to bottom."""
    return np.diag([-1.0 if across else 1.0, -1.0 if down else 1.0, 1.0])


def warp(photo: Tensor, matrix: Matrix) -> Tensor:
    """Return a uint8 photo (3, H, W) taken from where the matrix says, bilinearly."""
    if np.array_equal(np.abs(matrix), np.eye(3)):
        mirrored = [axis for axis, sign in ((2, matrix[0, 0]), (1, matrix[1, 1])) if sign < 0]
        return photo.flip(mirrored) if mirrored else photo
    _, height, width = photo.shape
    to_centre = shifted(-(width - 1) / 2, -(height - 1) / 2)
    whole = shifted((width - 1) / 2, (height - 1) / 2) @ matrix @ to_centre
    warped = cv2.warpAffine(
        as_pixels(photo),
        whole[:2],
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return as_photo(warped)


class Warp(v2.Transform):  # type: ignore[misc]
    """Geometric steps as one warp: uint8 (3, H, W) to uint8 (3, H, W)."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = tuple(steps)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the matrix."""
        _, height, width = flat_inputs[0].shape
        drawn = [_draw(step, width, height) for step in self.steps if happens(step.probability)]
        return {"matrix": reduce(np.matmul, drawn, np.eye(3))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Warp one photo."""
        return warp(inpt, params["matrix"])


def _draw(step: Step, width: int, height: int) -> Matrix:
    if isinstance(step.value, str):
        if step.value == "both":
            across, down = (torch.rand(2) < 0.5).tolist()
            return flipped(across, down)
        return flipped(step.value == "horizontal", step.value == "vertical")
    most = step.value
    match step.word.name:
        case "rotation":
            return rotated(both_ways(most))
        case "shift":
            return shifted(both_ways(most) * width, both_ways(most) * height)
        case "shear":
            return sheared(both_ways(most))
        case _:
            return zoomed(1 + both_ways(most), 1 + both_ways(most))
