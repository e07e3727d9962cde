"""Candidates for turned copies: photos that were saved on their side, upside down or flipped.

A photo has eight orientations. The perceptual hash of a turned photo follows from that of the
photo, or from that of the photo turned by a quarter. So two hashes of each photo are enough. Pairs
with near hashes are candidates if their luma on a grid correlates, too. `veduta.curate.alignment`
then decides, as for any other candidate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from veduta.curate.hash_pairs import mirrored_hashes, nearest_hashes
from veduta.ordered_threads import map_in_order
from veduta.photos import perceptual_hash
from veduta.photos.same_picture import (
    GRID_CELLS,
    MIN_CONTRAST,
    luma_correlation,
    luma_grid,
)
from veduta.processor_cores import processor_cores

__all__ = ["MIRRORED", "TURNS", "Turn", "TurnableHashes", "turned_candidates"]

# Lower than for the same picture, because what follows compares every detail.
_MIN_CORRELATION = 0.9


class Turn(NamedTuple):
    """An orientation of a photo.

    Attributes:
        quarter: first turn it by a quarter to the left.
        mirrored: then swap left and right.
        flipped: then swap top and bottom.
    """

    quarter: bool
    mirrored: bool
    flipped: bool

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a photo in this orientation.

        Args:
            pixels: (H, W) or (H, W, 3).
        """
        turned = np.rot90(pixels) if self.quarter else pixels
        turned = turned[:, ::-1] if self.mirrored else turned
        return np.ascontiguousarray(turned[::-1] if self.flipped else turned)


MIRRORED = Turn(False, True, False)

TURNS = (
    Turn(False, False, True),
    Turn(False, True, True),
    Turn(True, False, False),
    Turn(True, False, True),
    Turn(True, True, False),
    Turn(True, True, True),
)
"""The six orientations; the other two are upright and mirrored."""


class TurnableHashes(NamedTuple):
    """What is compared of N photos.

    Attributes:
        upright: (N,) uint64 perceptual hashes.
        quarter: (N,) uint64 perceptual hashes of the photos turned by a quarter to the left.
        grids: (N, 256) uint8 luma on a grid.
    """

    upright: NDArray[np.uint64]
    quarter: NDArray[np.uint64]
    grids: NDArray[np.uint8]

    @classmethod
    def of(cls, upright: NDArray[np.uint64], photos: Iterable[NDArray[np.uint8]]) -> TurnableHashes:
        """Compute what is compared.

        Args:
            upright: (N,) perceptual hashes of the photos.
            photos: N reduced photos, (h, w) uint8 luma.
        """
        quarter = np.empty(len(upright), np.uint64)
        grids = np.empty((len(upright), GRID_CELLS), np.uint8)
        for row, found in enumerate(map_in_order(photos, _hash_and_grid, processor_cores())):
            quarter[row], grids[row] = found
        return cls(upright, quarter, grids)

    def turned(self, turn: Turn) -> NDArray[np.uint64]:
        """Return (N,) perceptual hashes of the photos in another orientation.

        Args:
            turn: the orientation.
        """
        hashes = self.quarter if turn.quarter else self.upright
        hashes = mirrored_hashes(hashes) if turn.mirrored else hashes
        # Each row of a hash is one byte, the top row first.
        return hashes.byteswap() if turn.flipped else hashes


def turned_candidates(hashes: TurnableHashes) -> dict[tuple[int, int], Turn]:
    """Return the pairs of photos of which one may be the other in another orientation.

    Args:
        hashes: of N photos.

    Returns:
        (photo, other photo) → the turn that makes the first one like the second. A pair is there in
        one order only.
    """
    grids = hashes.grids
    textured = np.flatnonzero(grids.std(axis=1, dtype=np.float32) >= MIN_CONTRAST)
    candidates: dict[tuple[int, int], Turn] = {}
    for turn in TURNS:
        near = list(nearest_hashes(hashes.turned(turn)[textured], hashes.upright[textured]))
        if not near:
            continue
        pairs = textured[np.array(near)]
        turned = np.stack([_turned_grid(grid, turn) for grid in grids[pairs[:, 0]]])
        alike = luma_correlation(turned, grids[pairs[:, 1]]) >= _MIN_CORRELATION
        for first, second in pairs[alike].tolist():
            if (second, first) not in candidates:
                candidates.setdefault((first, second), turn)
    return candidates


def _turned_grid(grid: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    side = int(GRID_CELLS**0.5)
    return turn.apply(grid.reshape(side, side)).reshape(-1)


def _hash_and_grid(luma: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
    pixels = np.repeat(luma[:, :, None], 3, axis=2)
    return perceptual_hash(np.ascontiguousarray(np.rot90(pixels))), luma_grid(pixels)
