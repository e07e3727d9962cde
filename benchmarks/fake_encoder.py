"""An encoder that costs nothing, for measuring everything but the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import Encoder
from veduta.photos import resize

Prepared = tuple[NDArray[np.uint8], ...]


class StandIn:
    """A grid of colours as the descriptor. With `real`, it passes for that encoder."""

    long_side = 64

    def __init__(self, dimension: int, real: Encoder | None = None) -> None:
        self.dimension = dimension
        self._described: dict[str, object] = {
            "name": "stand-in",
            "identity": "0" * 16,
            "dimension": dimension,
            **(real.describe() if real else {}),
        }
        self.name = str(self._described["name"])
        self.identity = str(self._described["identity"])

    def prepare(self, pixels: NDArray[np.uint8]) -> Prepared:
        return (resize(pixels, 24, 18),)

    def encode(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        grids = np.stack([part[0].reshape(-1) for part in prepared]).astype(np.float32) + 1
        rows = np.resize(grids, (len(grids), self.dimension))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def describe(self) -> dict[str, object]:
        return self._described
