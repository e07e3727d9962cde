"""An encoder that costs next to nothing, to measure everything except the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder
from veduta.photos import resize

Prepared = tuple[NDArray[np.uint8], ...]


class FakeEncoder:
    """Takes a grid of colours as the descriptor.

    Args:
        dimension: of the descriptor.
        imitated: the encoder whose description this one gives as its own, so that indexes take
            one for the other.
    """

    long_side = 64

    def __init__(self, dimension: int, imitated: Encoder | None = None) -> None:
        self.dimension = dimension
        self._description: dict[str, object] = {
            "name": "fake-encoder",
            "identity": "0" * 16,
            "dimension": dimension,
            **(imitated.describe() if imitated else {}),
        }
        self.name = str(self._description["name"])
        self.identity = str(self._description["identity"])

    def prepare(self, pixels: NDArray[np.uint8]) -> Prepared:
        return (resize(pixels, 24, 18),)

    def encode(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        grids = np.stack([part[0].reshape(-1) for part in prepared]).astype(np.float32) + 1
        rows = np.resize(grids, (len(grids), self.dimension))
        return unit_rows(rows)

    def describe(self) -> dict[str, object]:
        return self._description


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length one."""
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled
