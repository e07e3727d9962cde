"""Cells: the photos of a collection in groups of near descriptors, with a short code for each.

A search looks at the nearest cells only, which is an inverted file (Sivic and Zisserman, "Video
Google", ICCV 2003; Jégou, Douze and Schmid, "Product quantization for nearest neighbor search",
PAMI 2011). Within them it compares codes of one bit for each number of a descriptor: the signs
after a rotation (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002;
Gong et al., "Iterative quantization", PAMI 2013). The photos with the nearest codes are scored from
their stored descriptors. So only the choice of photos is approximate, and no score is.

The centres of the cells are found by k-means, for descriptors that are projected to their principal
directions. The photos that train them are those with the smallest content hashes. An update puts
new photos into the cells that are there, until the collection is twice as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index.distinct_photos import smallest_hashes
from veduta.index.snapshot import Snapshot, as_float32

__all__ = ["Cells", "assign", "nearest_codes", "train"]

_CELLS_PER_ROOT = 2.0
"""So many cells for each square root of the number of photos."""

_DIRECTIONS = 256
"""Most principal directions in which cells are told apart."""

_DIRECTION_PHOTOS = 2048
"""The principal directions are those of so many photos."""

_TRAINING_PHOTOS_PER_CELL = 40
_K_MEANS_ROUNDS = 8

_ROTATED_NUMBERS = 256
"""A descriptor is rotated in parts of at most so many numbers."""

_MIN_BITS = 1024
"""A shorter descriptor is rotated in several ways, so that its code is long enough to rank."""

_PARTITIONED_VALUES = 4096
"""Of so many values the smallest are found by a partition."""

_BLOCK_ROWS = 8192
"""So many descriptors are in memory at a time, in float32."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of n photos whose descriptors have d numbers.

    Attributes:
        mean: (d,) float32, of the training photos.
        directions: (d, e) float32, their principal directions.
        centres: (c, e) float32, the centre of each cell in these directions.
        rotations: (r, p, p) float32, orthogonal: r ways to rotate each part of p numbers.
        starts: (c + 1,) int64: the photos of cell i are `rows[starts[i]:starts[i + 1]]`.
        rows: (n,) int32, rows of the snapshot, ascending within a cell.
        codes: (n, b) uint8, the codes of the photos in the order of `rows`.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    centres: NDArray[np.float32]
    rotations: NDArray[np.float32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    codes: NDArray[np.uint8]

    def distances(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared distance of descriptors to the centre of each cell, less a constant.

        Args:
            descriptors: (m, d).

        Returns:
            (m, c). The constant is another one for each descriptor.
        """
        return _to_centres(self._in_directions(descriptors), self.centres)

    def near_centre(self, cell: int, photos: int) -> NDArray[np.intp]:
        """Return the cells that are nearest to a cell and hold so many photos, ascending.

        Args:
            cell: its number. It is among the result.
            photos: that the cells hold together, at least, if there are so many.
        """
        return self._holding(_to_centres(self.centres[cell][None], self.centres)[0], photos)

    def nearest(self, descriptor: NDArray[np.float32], photos: int) -> NDArray[np.intp]:
        """Return the cells that are nearest to a descriptor and hold so many photos, ascending.

        Args:
            descriptor: (d,).
            photos: as in `near_centre`.
        """
        return self._holding(self.distances(descriptor[None])[0], photos)

    def _holding(self, distances: NDArray[np.float32], photos: int) -> NDArray[np.intp]:
        order = np.argsort(distances, kind="stable")
        held = np.cumsum(np.diff(self.starts)[order])
        some: NDArray[np.intp] = np.sort(order[: int(np.searchsorted(held, photos)) + 1])
        return some

    def places_in(self, some: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the places of the photos of some cells in `rows` and `codes`, ascending.

        Args:
            some: numbers of cells, ascending.
        """
        starts = self.starts[some]
        lengths = self.starts[some + 1] - starts
        firsts = np.cumsum(lengths) - lengths
        places: NDArray[np.int64] = np.repeat(starts - firsts, lengths)
        places += np.arange(len(places))
        return places

    def candidates(
        self, descriptor: NDArray[np.float32], number: int, photos: int
    ) -> NDArray[np.int32]:
        """Return the rows whose codes are nearest to a descriptor.

        Args:
            descriptor: (d,).
            number: how many rows.
            photos: compare the codes of so many photos at least, those of the nearest cells.

        Returns:
            (m,) rows of the snapshot, ascending.
        """
        import numkong

        some = self.nearest(descriptor, max(photos, number))
        code = self.code(descriptor[None])
        ends = self.starts[some + 1]
        # The codes of cells that follow each other are compared at once.
        gaps = np.flatnonzero(self.starts[some[1:]] != ends[:-1]) + 1
        firsts = self.starts[some[np.concatenate([[0], gaps])]]
        lasts = ends[np.concatenate([gaps - 1, [len(some) - 1]])]
        distances = np.concatenate(
            [
                np.asarray(
                    numkong.cdist(code, self.codes[first:last], metric="hamming", dtype="uint1")
                )[0]
                for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
                if first < last
            ]
        )
        places = self.places_in(some)
        if number < len(places):
            places = places[_smallest(distances, number)]
        return np.sort(self.rows[places])

    def _in_directions(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((descriptors - self.mean) @ self.directions, np.float32)

    def code(self, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the codes of descriptors.

        Args:
            descriptors: (m, d).

        Returns:
            (m, b), eight signs a byte.
        """
        part = self.rotations.shape[1]
        missing = -descriptors.shape[1] % part
        centred = np.pad(descriptors - self.mean, ((0, 0), (0, missing)))
        m, bits = centred.shape
        parts = centred.reshape(m, bits // part, part)
        signs = [(parts @ rotation > 0).reshape(m, bits) for rotation in self.rotations]
        return np.packbits(np.concatenate(signs, axis=1), axis=1)


def nearest_codes(
    codes: NDArray[np.uint8], others: NDArray[np.uint8], number: int
) -> NDArray[np.intp]:
    """Return the others whose codes differ in the fewest bits.

    Args:
        codes: (m, b).
        others: (k, b).
        number: how many of them.

    Returns:
        (m, number) or (m, k) if there are fewer, in no order. Of equally near ones any counts.
    """
    import numkong

    distances = np.asarray(numkong.hammings_packed(codes, numkong.hammings_pack(others)))
    if number >= len(others):
        return np.broadcast_to(np.arange(len(others)), distances.shape)
    # One row at a time stays in the cache of a core.
    return np.stack([_smallest(row, number) for row in distances])


def _smallest(values: NDArray[Any], number: int) -> NDArray[np.intp]:
    """Return the places of the `number` smallest values.

    A partition of all values is slow, so those that are larger than the smallest of a part are
    left out before it.
    """
    part = values[:: max(1, len(values) // _PARTITIONED_VALUES)]
    limit = np.partition(part, number)[number] if len(part) > number else values.max()
    near = np.flatnonzero(values <= limit)
    return near[np.argpartition(values[near], number - 1)[:number]]


def train(snapshot: Snapshot) -> Cells:
    """Return cells for the photos of a snapshot, with no photo in them yet.

    Args:
        snapshot: of at least two different photos.
    """
    number = max(1, round(_CELLS_PER_ROOT * math.sqrt(snapshot.photos)))
    chosen = smallest_hashes(snapshot, max(_DIRECTION_PHOTOS, number * _TRAINING_PHOTOS_PER_CELL))
    first = as_float32(snapshot.descriptors[chosen[:_DIRECTION_PHOTOS]])
    mean = first.mean(axis=0)
    directions = _principal_directions(first - mean, min(_DIRECTIONS, first.shape[1]))
    training = np.concatenate(
        [
            (as_float32(snapshot.descriptors[chosen[start : start + _BLOCK_ROWS]]) - mean)
            @ directions
            for start in range(0, len(chosen), _BLOCK_ROWS)
        ]
    )
    centres = _k_means(training, min(number, len(training)))
    cells = Cells(
        mean,
        directions,
        centres,
        _rotations(first.shape[1]),
        starts=np.zeros(len(centres) + 1, np.int64),
        rows=np.empty(0, np.int32),
        codes=np.empty((0, 0), np.uint8),
    )
    return replace(cells, codes=cells.code(first[:0]))


def _principal_directions(centred: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Return the `number` directions in which rows differ most, as columns."""
    values, vectors = np.linalg.eigh(centred @ centred.T)  # There are fewer rows than numbers.
    kept = values > values[-1] * 1e-6
    values, vectors = values[kept][::-1][:number], vectors[:, kept][:, ::-1][:, :number]
    directions: NDArray[np.float32] = (centred.T @ vectors / np.sqrt(values)).astype(np.float32)
    return directions


def _k_means(points: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Return (number, e) centres of points, by Lloyd's rounds. The first points are the first."""
    centres = points[:number].copy()
    for _ in range(_K_MEANS_ROUNDS):
        nearest = np.concatenate(
            [
                _to_centres(points[start : start + _BLOCK_ROWS], centres).argmin(axis=1)
                for start in range(0, len(points), _BLOCK_ROWS)
            ]
        )
        counts = np.bincount(nearest, minlength=number)
        order = np.argsort(nearest, kind="stable")
        filled = counts > 0
        starts = (np.cumsum(counts) - counts)[filled]
        centres[filled] = np.add.reduceat(points[order], starts, axis=0) / counts[filled, None]
    return centres


def _to_centres(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = points @ (-2 * centres.T)
    distances += np.einsum("ce,ce->c", centres, centres)
    return distances


def _rotations(dimension: int) -> NDArray[np.float32]:
    part = min(_ROTATED_NUMBERS, dimension + -dimension % 8)
    bits = dimension + -dimension % part
    rng = np.random.default_rng(0)
    return np.stack(
        [
            np.linalg.qr(rng.standard_normal((part, part)))[0]
            for _ in range(math.ceil(_MIN_BITS / bits))
        ]
    ).astype(np.float32)


def assign(
    snapshot: Snapshot,
    cells: Cells,
    known: NDArray[np.intp] | None = None,
    on_progress: OnProgress | None = None,
) -> Cells:
    """Return cells with the photos of a snapshot in them.

    Args:
        snapshot: of n photos.
        cells: of an earlier snapshot, or without photos.
        known: (n,) the place in `cells` of photos that have one there, -1 for the others; None: no
            photo has one.
        on_progress: called with (photos in their cell, photos).
    """
    n = snapshot.photos
    cell_of_row = np.empty(n, np.int32)
    codes = np.empty((n, cells.codes.shape[1]), np.uint8)
    is_known = np.zeros(n, np.bool_) if known is None else known >= 0
    if known is not None:
        places = known[is_known]
        codes[is_known] = cells.codes[places]
        cell_of_row[is_known] = np.searchsorted(cells.starts, places, side="right") - 1
    new = np.flatnonzero(~is_known)
    for done, rows in _blocks(new):
        descriptors = as_float32(snapshot.descriptors[rows])
        cell_of_row[rows] = cells.distances(descriptors).argmin(axis=1)
        codes[rows] = cells.code(descriptors)
        if on_progress is not None:
            on_progress(done, len(new))
    order = np.argsort(cell_of_row, kind="stable").astype(np.int32)  # Ascending within a cell.
    counts = np.bincount(cell_of_row, minlength=len(cells.centres))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return replace(cells, starts=starts, rows=order, codes=codes[order])


def _blocks(rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        yield start + len(block), block
