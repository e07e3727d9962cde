"""Candidates for turned copies: photos that were saved on their side, upside down or flipped.

A photo has eight orientations. It is hashed in six of them; the other two are searched elsewhere.
The hash of a turned photo does not follow from that of the photo: where neighbours have the same
luma, as in a sky, no turn knows the bits. Pairs with near hashes are candidates if their luma on a
grid correlates, too. `veduta.curate.alignment` then decides, as for any other candidate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from veduta.curate.hash_pairs import nearest_hashes
from veduta.ordered_threads import map_in_order
from veduta.photos import perceptual_hash
from veduta.photos.orientation import ALL_ORIENTATIONS, Orientation
from veduta.photos.same_picture import (
    GRID_CELLS,
    MIN_CONTRAST,
    luma_correlation,
    luma_grid,
)
from veduta.processor_cores import processor_cores

__all__ = ["MIRRORED", "TURNS", "TurnableHashes", "turned_candidates"]

# Lower than for the same picture, because what follows compares every detail.
_MIN_CORRELATION = 0.9


MIRRORED = Orientation(mirrored=True)

TURNS = tuple(orientation for orientation in ALL_ORIENTATIONS if orientation.degrees)
"""The six orientations that are neither upright nor only mirrored."""


class TurnableHashes(NamedTuple):
    """What is compared of N photos.

    Attributes:
        upright: (N,) uint64 perceptual hashes.
        of_turns: (N, 6) uint64 perceptual hashes of the photos in the orientations `TURNS`.
        grids: (N, 256) uint8 luma on a grid.
    """

    upright: NDArray[np.uint64]
    of_turns: NDArray[np.uint64]
    grids: NDArray[np.uint8]

    @classmethod
    def of(cls, upright: NDArray[np.uint64], photos: Iterable[NDArray[np.uint8]]) -> TurnableHashes:
        """Compute what is compared.

        Args:
            upright: (N,) perceptual hashes of the photos.
            photos: N reduced photos, (h, w) uint8 luma.
        """
        of_turns = np.empty((len(upright), len(TURNS)), np.uint64)
        grids = np.empty((len(upright), GRID_CELLS), np.uint8)
        for row, found in enumerate(map_in_order(photos, _hashes_and_grid, processor_cores())):
            of_turns[row], grids[row] = found
        return cls(upright, of_turns, grids)

    def turned(self, turn: Orientation) -> NDArray[np.uint64]:
        """Return (N,) perceptual hashes of the photos in another orientation.

        Args:
            turn: one of `TURNS`.
        """
        hashes: NDArray[np.uint64] = np.ascontiguousarray(self.of_turns[:, TURNS.index(turn)])
        return hashes


def turned_candidates(hashes: TurnableHashes) -> dict[tuple[int, int], Orientation]:
    """Return the pairs of photos of which one may be the other in another orientation.

    Args:
        hashes: of N photos.

    Returns:
        (photo, other photo) → the turn that makes the first one like the second. A pair is there in
        one order only.
    """
    grids = hashes.grids
    textured = np.flatnonzero(grids.std(axis=1, dtype=np.float32) >= MIN_CONTRAST)
    # A symmetrical photo resembles itself in two orientations, so that the best one counts.
    best: dict[tuple[int, int], tuple[float, tuple[int, int], Orientation]] = {}
    for turn in TURNS:
        near = list(nearest_hashes(hashes.turned(turn)[textured], hashes.upright[textured]))
        if not near:
            continue
        pairs = textured[np.array(near)]
        turned = np.stack([_turned_grid(grid, turn) for grid in grids[pairs[:, 0]]])
        correlation = luma_correlation(turned, grids[pairs[:, 1]])
        alike = correlation >= _MIN_CORRELATION
        for (first, second), value in zip(
            pairs[alike].tolist(), correlation[alike].tolist(), strict=True
        ):
            photos = min(first, second), max(first, second)
            if photos not in best or value > best[photos][0]:
                best[photos] = value, (first, second), turn
    return {pair: turn for _, pair, turn in best.values()}


def _turned_grid(grid: NDArray[np.uint8], turn: Orientation) -> NDArray[np.uint8]:
    side = int(GRID_CELLS**0.5)
    return turn.apply(grid.reshape(side, side)).reshape(-1)


def _hashes_and_grid(luma: NDArray[np.uint8]) -> tuple[list[int], NDArray[np.uint8]]:
    pixels = np.repeat(luma[:, :, None], 3, axis=2)
    return [perceptual_hash(turn.apply(pixels)) for turn in TURNS], luma_grid(pixels)
