"""The same photo twice: the same bytes, or the same picture saved in another way.

Two photos are near-duplicates when their perceptual hashes differ in at most `MOST_BITS` bits and
their luma on a grid of 16 × 16 correlates by at least `LEAST_LIKENESS`. The first finds candidates,
the second tells a copy from two drawings on white paper, which have the same few bits. Other sizes,
qualities, formats and small retouches of a photo pass; crops, turned and mirrored ones do not, and
two frames of one video may.

Two hashes that differ in at most five bits agree in at least one of six bands of them, so only
photos with a band in common are compared, block by block: all pairs are found and no N × N is held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.explore.photo_facts import PhotoFacts

__all__ = ["LEAST_LIKENESS", "MOST_BITS", "Copy", "Duplicates", "find_duplicates"]

MOST_BITS = 5
LEAST_LIKENESS = 0.98

_HASH_BITS = 64
_PAIRS_AT_ONCE = 1 << 21
_LOOKS_AT_ONCE = 1 << 15
_FLAT = 2.0  # standard deviation of the luma, of 255: below, a picture has nothing to compare


@dataclass(frozen=True, slots=True)
class Copy:
    """Two photos of a group, by their places in the collection.

    `likeness`
        correlation of the two in [-1, 1]; 1 for the same bytes.
    """

    first: int
    second: int
    same_bytes: bool
    likeness: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of copies, each as rising places in the collection.

    `exact`
        groups of photos with the same bytes.
    `near`
        groups that more than the same bytes hold together: each photo is a copy of another one
        in it, though not always of all.
    `across_splits`
        for each group and two splits that it touches, each photo of the split with fewer of them,
        beside the likest of the other split.
    `across_labels`
        the same for two labels, whatever their splits.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    across_splits: tuple[Copy, ...]
    across_labels: tuple[Copy, ...]

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """All groups, `near` ones before those of the same bytes that are in none of them."""
        inside = {place for group in self.near for place in group}
        return (*self.near, *(group for group in self.exact if group[0] not in inside))

    @property
    def spare(self) -> int:
        """How many photos would go if one of each group stayed."""
        return sum(len(group) - 1 for group in self.groups)


def find_duplicates(
    seen: PhotoFacts,
    splits: Sequence[str],
    labels: Sequence[str | None],
    on_progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Find the copies among photos; `splits` and `labels` are those of the whole collection.

    Time grows with the number of photos for the most part, with its square where many share a band
    of their hash; memory does not.
    """
    exact = _same_bytes(seen.digests)
    parent = np.arange(len(seen.rows))
    for group in exact:
        for place in group[1:]:
            parent[place] = group[0]
    ones = np.flatnonzero(parent == np.arange(len(parent)))
    for a, b in _alike(seen.hashes[ones], seen.luma_grids[ones], on_progress):
        _unite(parent, int(ones[a]), int(ones[b]))
    groups: dict[int, list[int]] = defaultdict(list)
    for place in range(len(parent)):
        groups[_root(parent, place)].append(place)
    copies = [tuple(group) for group in groups.values() if len(group) > 1]
    known = set(exact)
    near = [group for group in copies if group not in known]
    split_of = [splits[row] for row in seen.rows]
    label_of = [labels[row] for row in seen.rows]

    def outside(group: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(seen.rows[place]) for place in group)

    return Duplicates(
        tuple(map(outside, exact)),
        tuple(map(outside, near)),
        tuple(_across(seen, copies, split_of)),
        tuple(_across(seen, copies, label_of)),
    )


def _same_bytes(digests: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        groups[digest.tobytes()].append(place)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _alike(
    hashes: NDArray[np.uint64],
    looks: NDArray[np.uint8],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of near-duplicates, some of them more than once."""
    contrast = np.empty(len(looks), np.float32)
    for start in range(0, len(looks), _LOOKS_AT_ONCE):
        some = slice(start, start + _LOOKS_AT_ONCE)
        contrast[some] = looks[some].std(axis=1, dtype=np.float32)
    textured = np.flatnonzero(contrast >= _FLAT)
    bands = MOST_BITS + 1
    for band in range(bands):
        low, high = band * _HASH_BITS // bands, (band + 1) * _HASH_BITS // bands
        part = (hashes[textured] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(part, kind="stable")
        ends = np.flatnonzero(np.diff(part[order])) + 1
        for bucket in np.split(textured[order], ends):
            for first, second in _near_hashes(hashes, bucket):
                likeness = _likeness(looks[first], looks[second])
                for at in np.flatnonzero(likeness >= LEAST_LIKENESS):
                    yield int(first[at]), int(second[at])
        if on_progress:
            on_progress((band + 1) * len(hashes) // bands, len(hashes))


def _near_hashes(
    hashes: NDArray[np.uint64], bucket: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, block by block, the pairs of a bucket whose hashes differ in few bits."""
    own = hashes[bucket]
    step = max(1, _PAIRS_AT_ONCE // max(1, len(bucket)))
    for start in range(0, len(bucket) - 1, step):
        block = own[start : start + step, np.newaxis]
        rows, columns = np.nonzero(_bits(block ^ own[np.newaxis, start:]) <= MOST_BITS)
        later = columns > rows
        first, second = bucket[start + rows[later]], bucket[start + columns[later]]
        for at in range(0, len(first), _LOOKS_AT_ONCE):
            yield first[at : at + _LOOKS_AT_ONCE], second[at : at + _LOOKS_AT_ONCE]


def _bits(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return how many bits of each word are set (Warren, "Hacker's Delight", 5-1).

    `numpy.bitwise_count` is quicker, from numpy 2 on.
    """
    pairs = words - (words >> np.uint64(1) & np.uint64(0x5555555555555555))
    low = np.uint64(0x3333333333333333)
    fours = (pairs & low) + (pairs >> np.uint64(2) & low)
    eights = fours + (fours >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    sums: NDArray[np.uint64] = eights * np.uint64(0x0101010101010101) >> np.uint64(56)
    return sums


def _likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (M,) the correlations of (M, 256) with (M, 256) luma; 0 where one has no contrast."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    product = np.einsum("ij,ij->i", a, b)
    alike: NDArray[np.float32] = np.divide(
        product, length, out=np.zeros_like(product), where=length > 0
    )
    return alike


def _root(parent: NDArray[np.int64], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = int(parent[place])
    return place


def _unite(parent: NDArray[np.int64], first: int, second: int) -> None:
    a, b = _root(parent, first), _root(parent, second)
    parent[max(a, b)] = min(a, b)


def _across(
    seen: PhotoFacts, groups: Sequence[tuple[int, ...]], kinds: Sequence[str | None]
) -> Iterator[Copy]:
    """Yield the copies between photos of different kinds; None is no kind."""
    for group in groups:
        of_kind: dict[str, list[int]] = defaultdict(list)
        for place in group:
            kind = kinds[place]
            if kind:
                of_kind[kind].append(place)
        names = sorted(of_kind, key=lambda kind: (len(of_kind[kind]), kind))
        for number, few in enumerate(names):
            for many in names[number + 1 :]:
                for place in of_kind[few]:
                    yield _likest(seen, place, of_kind[many])


def _likest(seen: PhotoFacts, place: int, others: list[int]) -> Copy:
    same = (seen.digests[others] == seen.digests[place]).all(axis=1)
    if same.any():
        return Copy(int(seen.rows[place]), int(seen.rows[others[int(same.argmax())]]), True, 1.0)
    repeated = np.broadcast_to(seen.luma_grids[place], (len(others), seen.luma_grids.shape[1]))
    likeness = _likeness(repeated, seen.luma_grids[others])
    best = int(likeness.argmax())
    return Copy(int(seen.rows[place]), int(seen.rows[others[best]]), False, float(likeness[best]))
