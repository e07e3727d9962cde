"""Near-duplicates by hashes alone, without a network: what `describe` reports.

`veduta.photos.same_picture` has the rule. Photos of another size, quality or format and with small
retouches are found. Crops, rotated and mirrored photos are not. Two frames of one video may count
as duplicates.

`veduta.curate.copies` finds more copies, but needs descriptors and keypoints of the photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.groups import connected_groups
from veduta.curate.hash_pairs import near_hashes
from veduta.photos.same_picture import (
    MAX_SAME_BITS,
    MIN_CONTRAST,
    MIN_CORRELATION,
    luma_correlation,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.curate.photo_scan import PhotoScan

__all__ = ["DuplicatePair", "Duplicates", "find_duplicates"]

_BLOCK_PHOTOS = 1 << 15


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two photos of a group.

    Attributes:
        first: position of a photo in the collection.
        second: position of the other photo.
        same_bytes: whether the files have the same content.
        correlation: of their luma, in [-1, 1]; 1 for the same bytes.
    """

    first: int
    second: int
    same_bytes: bool
    correlation: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of duplicates; each group has rising positions in the collection.

    Attributes:
        exact: groups of photos with the same bytes.
        near: groups with near-duplicates. Each photo is a duplicate of another one of its group,
            but not always of all.
        across_splits: for each group and each two splits in it, the photos of the split that has
            fewer of them, each with the most similar photo of the other split.
        across_labels: the same for each two labels, in any split.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    across_splits: tuple[DuplicatePair, ...]
    across_labels: tuple[DuplicatePair, ...]

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """All groups: those of `near`, then those of `exact` that are in none of them."""
        inside = {position for group in self.near for position in group}
        return (*self.near, *(group for group in self.exact if group[0] not in inside))

    @property
    def spare(self) -> int:
        """Number of photos to remove so that one of each group stays."""
        return sum(len(group) - 1 for group in self.groups)


def find_duplicates(
    scan: PhotoScan,
    splits: Sequence[str],
    labels: Sequence[str | None],
    on_progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Find the duplicates among photos.

    Time grows with the number of photos, and with its square where many hashes share a band.
    Memory does not.

    Args:
        scan: the photos, with fingerprints.
        splits: split of each photo of the collection.
        labels: label of each photo of the collection, or None.
        on_progress: called with the number of photos compared and their total.
    """
    exact = _same_bytes(scan.digests)
    same = [(group[0], row) for group in exact for row in group[1:]]
    different = np.ones(len(scan.positions), np.bool_)
    different[[row for _, row in same]] = False
    rows = np.flatnonzero(different)
    alike = ((int(rows[a]), int(rows[b])) for a, b in _near_duplicates(scan, rows, on_progress))
    groups: dict[int, list[int]] = defaultdict(list)
    for row, first in enumerate(connected_groups(len(scan.positions), chain(same, alike))):
        groups[first].append(row)
    all_groups = [tuple(group) for group in groups.values() if len(group) > 1]
    exact_groups = set(exact)
    near = [group for group in all_groups if group not in exact_groups]
    split_of = [splits[position] for position in scan.positions]
    label_of = [labels[position] for position in scan.positions]

    def positions(group: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(scan.positions[row]) for row in group)

    return Duplicates(
        tuple(map(positions, exact)),
        tuple(map(positions, near)),
        tuple(_across(scan, all_groups, split_of)),
        tuple(_across(scan, all_groups, label_of)),
    )


def _same_bytes(digests: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        groups[digest.tobytes()].append(row)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _near_duplicates(
    scan: PhotoScan,
    rows: NDArray[np.int64],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions in `rows` that are near-duplicates, some more than once."""
    hashes, luma_grids = scan.hashes[rows], scan.luma_grids[rows]
    contrast = np.empty(len(luma_grids), np.float32)
    for start in range(0, len(luma_grids), _BLOCK_PHOTOS):
        block = slice(start, start + _BLOCK_PHOTOS)
        contrast[block] = luma_grids[block].std(axis=1, dtype=np.float32)
    textured = np.flatnonzero(contrast >= MIN_CONTRAST)

    def on_band(done: int, bands: int) -> None:
        if on_progress:
            on_progress(done * len(hashes) // bands, len(hashes))

    for a, b, _ in near_hashes(hashes[textured], max_bits=MAX_SAME_BITS, on_band=on_band):
        for start in range(0, len(a), _BLOCK_PHOTOS):
            first = textured[a[start : start + _BLOCK_PHOTOS]]
            second = textured[b[start : start + _BLOCK_PHOTOS]]
            alike = luma_correlation(luma_grids[first], luma_grids[second]) >= MIN_CORRELATION
            yield from zip(first[alike].tolist(), second[alike].tolist(), strict=True)


def _across(
    scan: PhotoScan, groups: Sequence[tuple[int, ...]], names: Sequence[str | None]
) -> Iterator[DuplicatePair]:
    """Yield the duplicates between photos with different names; None is no name."""
    for group in groups:
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row in group:
            if name := names[row]:
                rows_of[name].append(row)
        by_size = sorted(rows_of, key=lambda name: (len(rows_of[name]), name))
        for number, small in enumerate(by_size):
            for large in by_size[number + 1 :]:
                for row in rows_of[small]:
                    yield _most_similar(scan, row, rows_of[large])


def _most_similar(scan: PhotoScan, row: int, others: list[int]) -> DuplicatePair:
    first = int(scan.positions[row])
    same = (scan.digests[others] == scan.digests[row]).all(axis=1)
    if same.any():
        return DuplicatePair(first, int(scan.positions[others[int(same.argmax())]]), True, 1.0)
    luma_grids = scan.luma_grids
    repeated = np.broadcast_to(luma_grids[row], (len(others), luma_grids.shape[1]))
    correlation = luma_correlation(repeated, luma_grids[others])
    best = int(correlation.argmax())
    second = int(scan.positions[others[best]])
    return DuplicatePair(first, second, False, float(correlation[best]))
