"""Rotation, shift, shear, zoom and flip: neighbouring steps become one warp.

Points are (x, y, 1) in pixels from the photo's centre, x to the right, y down. A matrix (3, 3) maps
each point of the result to the point of the photo that it is taken from, as in Keras'
ImageDataGenerator, which also has the same draws and the same order. Beyond the border the nearest
pixel repeats (Keras' "nearest").
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

from veduta.learn.augmentation.pixels import as_photo, as_pixels
from veduta.learn.augmentation.random_draws import happens, symmetric
from veduta.learn.augmentation.steps import Step

__all__ = ["Warp", "flip", "rotation", "shear", "shift", "warp", "zoom"]

Matrix = NDArray[np.float64]


def rotation(degrees: float) -> Matrix:
    """Return the matrix that turns the photo anticlockwise."""
    angle = radians(degrees)
    return np.array([[cos(angle), -sin(angle), 0], [sin(angle), cos(angle), 0], [0, 0, 1]])


def shift(left: float, up: float) -> Matrix:
    """Return the matrix that moves the photo by pixels."""
    return np.array([[1, 0, left], [0, 1, up], [0, 0, 1]], np.float64)


def shear(degrees: float) -> Matrix:
    """Return the matrix that tilts horizontal lines by an angle and keeps their length."""
    angle = radians(degrees)
    return np.array([[cos(angle), 0, 0], [-sin(angle), 1, 0], [0, 0, 1]])


def zoom(horizontal: float, vertical: float) -> Matrix:
    """Return the matrix that shows multiples of the photo's sides; below 1 it enlarges."""
    return np.diag([horizontal, vertical, 1.0])


def flip(*, horizontal: bool, vertical: bool) -> Matrix:
    """Return the matrix that mirrors the photo left to right, top to bottom, or both."""
    return np.diag([-1.0 if horizontal else 1.0, -1.0 if vertical else 1.0, 1.0])


def warp(photo: Tensor, matrix: Matrix) -> Tensor:
    """Return a uint8 photo (3, H, W) with the bilinear value of the point of each pixel."""
    if np.array_equal(np.abs(matrix), np.eye(3)):
        mirrored = [axis for axis, sign in ((2, matrix[0, 0]), (1, matrix[1, 1])) if sign < 0]
        return photo.flip(mirrored) if mirrored else photo
    _, height, width = photo.shape
    to_centre = shift(-(width - 1) / 2, -(height - 1) / 2)
    to_corner = shift((width - 1) / 2, (height - 1) / 2)
    warped = cv2.warpAffine(
        as_pixels(photo),
        (to_corner @ matrix @ to_centre)[:2],
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
        matrices = [
            _random_matrix(step, width, height) for step in self.steps if happens(step.probability)
        ]
        return {"matrix": reduce(np.matmul, matrices, np.eye(3))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Warp one photo."""
        return warp(inpt, params["matrix"])


def _random_matrix(step: Step, width: int, height: int) -> Matrix:
    if isinstance(step.value, str):
        if step.value == "both":
            horizontal, vertical = (torch.rand(2) < 0.5).tolist()
            return flip(horizontal=horizontal, vertical=vertical)
        return flip(horizontal=step.value == "horizontal", vertical=step.value == "vertical")
    limit = step.value
    match step.word.name:
        case "rotation":
            return rotation(symmetric(limit))
        case "shift":
            return shift(symmetric(limit) * width, symmetric(limit) * height)
        case "shear":
            return shear(symmetric(limit))
        case _:
            return zoom(1 + symmetric(limit), 1 + symmetric(limit))
