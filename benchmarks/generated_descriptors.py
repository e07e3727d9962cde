"""Generated descriptors that lie as densely as real ones, for collections of any size.

A generated descriptor is a real one that is moved towards and away from its nearest real ones, by
normally distributed shares. So the generated ones have about the intrinsic dimension of the real
ones, and become denser as their number grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veduta import api
from veduta.index import open_snapshot
from veduta.index.distinct_photos import distinct_photos
from veduta.index.snapshot import as_float32

__all__ = ["Generator", "intrinsic_dimension", "real_descriptors"]

_DIRECTIONS = 32
_SHARE = 0.3
"""The standard deviation of each share. With it, 3,500 generated descriptors have the intrinsic
dimension of the real ones, within a tenth."""

BLOCK_ROWS = 8192


def real_descriptors(work: Path, folders: Sequence[Path]) -> NDArray[np.float32]:
    """Return (n, d) float32, the descriptors of the different photos in some folders.

    Args:
        work: keeps their index for the next run.
        folders: of photos.
    """
    made = api.open_or_create(work / "descriptors-of-real-photos", keypoints="none")
    made.add(*folders)
    snapshot = open_snapshot(made.path)
    return as_float32(snapshot.descriptors[distinct_photos(snapshot).row_of_photo])


class Generator:
    """Draws descriptors around real ones."""

    def __init__(self, real: NDArray[np.float32]) -> None:
        """Take real descriptors (n, d) of length one, of more than 32 photos."""
        self.real = real
        similarities = real @ real.T
        np.fill_diagonal(similarities, -2)
        self._nearest = np.argpartition(-similarities, _DIRECTIONS, axis=1)[:, :_DIRECTIONS]

    def draw(self, rng: np.random.Generator, number: int) -> NDArray[np.float32]:
        """Return (number, d) float32 of length one."""
        return self._around(rng, rng.integers(0, len(self.real), number))

    def _around(self, rng: np.random.Generator, seeds: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return one generated descriptor for each of some real ones."""
        number = len(seeds)
        shares = rng.normal(0, _SHARE, (number, _DIRECTIONS)).astype(np.float32)
        rows = self.real[seeds] * (1 - shares.sum(axis=1, keepdims=True))
        for direction in range(_DIRECTIONS):
            rows += shares[:, direction, None] * self.real[self._nearest[seeds, direction]]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def blocks(self, seed: int, number: int) -> Iterator[NDArray[np.float16]]:
        """Yield `number` rows in blocks, as an index stores them."""
        for rows, _ in self.blocks_with_seeds(seed, number):
            yield rows

    def blocks_with_seeds(
        self, seed: int, number: int
    ) -> Iterator[tuple[NDArray[np.float16], NDArray[np.int64]]]:
        """Yield the same blocks, each with the real descriptors (n,) that its rows are made of."""
        rng = np.random.default_rng(seed)
        for start in range(0, number, BLOCK_ROWS):
            seeds = rng.integers(0, len(self.real), min(BLOCK_ROWS, number - start))
            yield self._around(rng, seeds).astype(np.float16), seeds


def intrinsic_dimension(rows: NDArray[np.float32], asked: int = 500, neighbours: int = 20) -> float:
    """Return the intrinsic dimension (Levina and Bickel, NIPS 2004), the median over some rows.

    Args:
        rows: (n, d) of length one.
        asked: how many rows are asked.
        neighbours: how many nearest ones of each.
    """
    similarities = rows[:asked] @ rows.T
    similarities[np.arange(len(similarities)), np.arange(len(similarities))] = -2
    nearest = np.sort(np.partition(similarities, -neighbours, axis=1)[:, -neighbours:], axis=1)
    distances = np.sqrt(np.maximum(2 - 2 * nearest, 1e-9))  # The farthest first.
    return float(np.median(1 / np.log(distances[:, :1] / distances[:, 1:]).mean(axis=1)))
