"""A map that a network gives, before a photo and names are added to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NetworkMap", "min_max_scaled"]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkMap:
    """The map of one class over the input of a network.

    Attributes:
        map: (H, W) float32, on the grid on which the method computes it.
        constant: what belongs to no position: the sum of the map and this constant are the score.
            None: the map has no such sum.
        layer: name of the layer whose output the map covers; None for the pixels.
        notes: sentences on what the user should know.
    """

    map: NDArray[np.float32]
    constant: float | None = None
    layer: str | None = None
    notes: tuple[str, ...] = ()


def min_max_scaled(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale values so that the smallest becomes 0 and the largest 1, as keras-vis does.

    Args:
        values: any shape, finite.

    Returns:
        float32 of the same shape in [0, 1]; zeros if all values are equal.
    """
    span = np.ptp(values)
    if span == 0:
        return np.zeros(values.shape, np.float32)
    scaled: NDArray[np.float32] = ((values - values.min()) / span).astype(np.float32)
    return scaled
