"""The nearest photos of each photo of a collection, as the links of its graph.

A small collection is compared with itself, block by block, and its links are exact. In a large one
(`veduta.index.cells`) a photo is compared with the photos of the cells that are nearest to its own:
those whose codes are nearest are scored from their descriptors. Then the neighbours of its
neighbours are scored as well (Dong, Moses and Li, "Efficient k-nearest neighbor graph construction
for generic similarity measures", WWW 2011). So a few links may be missed, and every similarity is
exact.

An update compares the photos that it adds with the others, and the others only with those.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.index.cells import Cells, nearest_codes
from veduta.index.distinct_photos import DistinctPhotos
from veduta.index.snapshot import Snapshot, as_float32
from veduta.processor_cores import processor_cores

__all__ = [
    "NEIGHBOURS",
    "NO_SIMILARITY",
    "UNVERIFIED",
    "Links",
    "empty_links",
    "exact_descriptors",
    "find_near_neighbours",
    "find_neighbours",
    "keep_neighbours",
    "photos_now",
]

NEIGHBOURS = 8
"""How many links a photo has to its nearest photos."""

NO_SIMILARITY = -2.0
"""Less than any similarity, for a link that does not exist."""

UNVERIFIED = 65535
"""The number of consistent matches of a link that was not verified."""

_BLOCK_ROWS = 1024
_BLOCK_COLUMNS = 4096
"""So many photos are compared with so many others at a time."""

_COMPARED_PHOTOS = 65_536
"""In a collection with cells, a photo is compared with the codes of so many others at least."""

_SCORED_PHOTOS = 24
"""So many of them, those with the nearest codes, are scored from their descriptors."""

_BLOCK_PAIRS = 256
"""So many pairs are scored at a time, in the cache of a core."""

_CELL_PHOTOS = 256
"""So many photos of a cell are compared at a time."""

OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class Links:
    """The links of m photos to their k nearest, nearest first, as the next update needs them.

    Attributes:
        contents: (m,) S32, the content hashes of the photos, ascending.
        ends: (m, k): the other photo, -1 without a link. Of equally near ones the first counts.
        similarities: (m, k) of the descriptors.
        consistent_matches: (m, k) of the keypoints, `UNVERIFIED` for a link not yet verified. The
            first of the two photos is the query.
    """

    contents: NDArray[np.bytes_]
    ends: NDArray[np.int32]
    similarities: NDArray[np.float32]
    consistent_matches: NDArray[np.uint16]


def empty_links(photos: DistinctPhotos) -> Links:
    """Return links without an end for the photos of a collection.

    Args:
        photos: at least two.
    """
    m = len(photos.contents)
    shape = (m, min(NEIGHBOURS, m - 1))
    return Links(
        contents=photos.contents,
        ends=np.full(shape, -1, np.int32),
        similarities=np.full(shape, NO_SIMILARITY, np.float32),
        consistent_matches=np.full(shape, UNVERIFIED, np.uint16),
    )


def photos_now(links: Links, old: Links) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which photos of `links` the photos of old links are, (m,), and their ends, (m, k).

    -1 stands for a photo that is gone.

    Args:
        links: of the m photos of now.
        old: of earlier photos.
    """
    places = np.searchsorted(links.contents, old.contents).clip(max=len(links.contents) - 1)
    photos = np.where(links.contents[places] == old.contents, places, -1)
    return photos, np.where(old.ends >= 0, photos[old.ends], -1)


def keep_neighbours(old: Links | None, links: Links) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Take over the neighbours that are still right.

    Args:
        old: links of an earlier version over the same descriptors, if there are any.
        links: without ends; they are filled in.

    Returns:
        (m,) bool, the photos that need new neighbours, and (m,) bool, the photos that were added.
    """
    searching, added = np.ones((2, len(links.contents)), np.bool_)
    if old is None or old.ends.shape[1] != links.ends.shape[1]:
        return searching, added
    photos, ends = photos_now(links, old)
    # A photo that lost a neighbour needs the photo that was the next nearest, which is not stored.
    complete = (photos >= 0) & (ends >= 0).all(axis=1)
    kept = photos[complete]
    links.ends[kept] = ends[complete]
    links.similarities[kept] = old.similarities[complete]
    searching[kept] = False
    added[photos[photos >= 0]] = False
    return searching, added


def exact_descriptors(
    snapshot: Snapshot, photos: DistinctPhotos, some: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the descriptors of some photos in a type in which their products are exact.

    A float16 is a multiple of 2^-24, and a product of two is one of 2^-48. Sums of them below 32
    are exact in float64, which has 53 bits. So a similarity does not depend on the order in which a
    matrix product adds up.

    Args:
        snapshot: that has them.
        photos: of the snapshot.
        some: (p,) photos.

    Returns:
        (p, d).
    """
    return np.asarray(snapshot.descriptors[photos.row_of_photo[some]], np.float64)


def find_neighbours(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    links: Links,
    searching: NDArray[np.bool_],
    added: NDArray[np.bool_],
) -> None:
    """Fill in the neighbours of `searching` photos, and the `added` ones as neighbours of others.

    All photos are compared. The photos that do not search know their neighbours among the photos
    that were in the index before.

    Args:
        snapshot: of the collection.
        photos: its m photos.
        links: of these photos; they are changed.
        searching: (m,) bool.
        added: (m,) bool.
    """
    wanted = np.flatnonzero(searching)
    for start in range(0, len(wanted), _BLOCK_ROWS):
        block = wanted[start : start + _BLOCK_ROWS]
        block_added = added[block]
        descriptors = exact_descriptors(snapshot, photos, block)
        for first in range(0, len(searching), _BLOCK_COLUMNS):
            others = np.arange(first, min(first + _BLOCK_COLUMNS, len(searching)))
            to_others = descriptors @ exact_descriptors(snapshot, photos, others).T
            similarities = to_others.astype(np.float32)
            similarities[block[:, None] == others] = NO_SIMILARITY
            settled = ~searching[others]
            if settled.any() and block_added.any():
                to_added = similarities[np.ix_(block_added, settled)].T
                _merge(links, others[settled], block[block_added], to_added)
            _merge(links, block, others, similarities)


def _merge(
    links: Links,
    photos: NDArray[np.intp],
    ends: NDArray[np.intp],
    similarities: NDArray[np.float32],
) -> None:
    """Keep for each of `photos` the k nearest of its links and of `ends`, the first of equal ones.

    Args:
        links: that are changed.
        photos: (p,), each once.
        ends: (e,), ascending, none of them among the links of `photos`.
        similarities: (p, e) of the photos and the ends.
    """
    k = links.ends.shape[1]
    # The last link of a photo is the weakest.
    better = np.flatnonzero(similarities.max(axis=1) >= links.similarities[photos, -1])
    photos, similarities = photos[better], np.ascontiguousarray(similarities[better])
    rows = np.arange(len(photos))
    candidate_ends, candidate_similarities = [links.ends[photos]], [links.similarities[photos]]
    for _ in range(min(k, len(ends))):
        nearest = similarities.argmax(axis=1)  # The first of equal ones.
        candidate_ends.append(ends[nearest, None].astype(np.int32))
        candidate_similarities.append(similarities[rows, nearest, None])
        similarities[rows, nearest] = NO_SIMILARITY
    all_ends = np.concatenate(candidate_ends, axis=1)
    all_similarities = np.concatenate(candidate_similarities, axis=1)
    all_ends[all_similarities == NO_SIMILARITY] = -1
    order = np.lexsort((all_ends, -all_similarities), axis=1)[:, :k]
    links.ends[photos] = np.take_along_axis(all_ends, order, axis=1)
    links.similarities[photos] = np.take_along_axis(all_similarities, order, axis=1)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Scored pairs of photos.

    Attributes:
        first: (p,) the photos that were compared.
        second: (p,) the photos that they were compared with.
        similarities: (p,) float32.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarities: NDArray[np.float32]


def find_near_neighbours(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    cells: Cells,
    links: Links,
    searching: NDArray[np.bool_],
    on_progress: OnProgress | None = None,
) -> None:
    """Fill in the neighbours of `searching` photos, and these as neighbours of others.

    Args:
        snapshot: of the collection.
        photos: its m photos.
        cells: of the snapshot.
        links: of the photos; they are changed.
        searching: (m,) bool.
        on_progress: called with (photos compared, photos to compare).
    """
    wanted = int(np.count_nonzero(searching))
    total, done = 2 * wanted, 0
    photo_of_place = photos.photo_of_row[cells.rows]

    def compared(block: slice) -> _Pairs:
        return _scored(snapshot, photos, *_near_codes(cells, photo_of_place, block, searching))

    def expanded(block: NDArray[np.int64]) -> _Pairs:
        return _scored(snapshot, photos, block, _neighbours_of_neighbours(links, block))

    found = np.flatnonzero(searching).astype(np.int64)
    # Photos of one cell have the same neighbours of neighbours, so they are read once.
    place_of_photo = np.empty(len(links.ends), np.int64)
    place_of_photo[photo_of_place] = np.arange(len(photo_of_place))
    found = found[np.argsort(place_of_photo[found], kind="stable")]
    parts = [found[start : start + _CELL_PHOTOS] for start in range(0, len(found), _CELL_PHOTOS)]
    with ThreadPoolExecutor(processor_cores()) as threads:
        for tasks, score in ((_blocks_of_cells(cells), compared), (parts, expanded)):
            for start in range(0, len(tasks), _TASKS_AT_ONCE):
                for pairs in threads.map(score, tasks[start : start + _TASKS_AT_ONCE]):
                    _offer(links, pairs)
                    done += len(np.unique(pairs.first))
                    if on_progress is not None:
                        on_progress(min(done, total), total)


_TASKS_AT_ONCE = 64
"""Blocks that are given to the threads together. A block that is done waits until it is used."""


def _blocks_of_cells(cells: Cells) -> list[slice]:
    """Return the places of all photos in blocks of one cell each."""
    return [
        slice(first, min(first + _CELL_PHOTOS, end))
        for start, end in zip(cells.starts[:-1].tolist(), cells.starts[1:].tolist(), strict=True)
        for first in range(start, end, _CELL_PHOTOS)
    ]


def _near_codes(
    cells: Cells,
    photo_of_place: NDArray[np.int32],
    block: slice,
    searching: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the searching photos (p,) of a block, and those with the nearest codes (p, s)."""
    places = np.arange(block.start, block.stop)
    places = places[searching[photo_of_place[block]]]
    first = photo_of_place[places].astype(np.int64)
    if not len(first):
        return first, np.empty((0, 0), np.int64)
    cell = int(np.searchsorted(cells.starts, block.start, side="right")) - 1
    others = cells.places_in(cells.near_centre(cell, _COMPARED_PHOTOS))
    nearest = nearest_codes(cells.codes[places], cells.codes[others], _SCORED_PHOTOS)
    return first, photo_of_place[others[nearest]].astype(np.int64)


def _neighbours_of_neighbours(links: Links, block: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the neighbours (p, k · k) of the neighbours of some photos; -1 for none."""
    ends = links.ends[block]
    further = links.ends[ends].astype(np.int64)
    further[ends < 0] = -1
    return further.reshape(len(block), -1)


def _scored(
    snapshot: Snapshot, photos: DistinctPhotos, first: NDArray[np.int64], ends: NDArray[np.int64]
) -> _Pairs:
    """Score photos (p,) with others (p, s), of which -1 is none, each pair once."""
    starts = np.repeat(first, ends.shape[1])
    others = ends.ravel()
    real = (others >= 0) & (others != starts)
    starts, others = starts[real], others[real]
    pairs = np.unique(starts * np.int64(len(photos.contents)) + others)
    starts, others = np.divmod(pairs, np.int64(len(photos.contents)))
    similarities = np.empty(len(pairs), np.float32)
    if len(pairs):
        queries, row = np.unique(starts, return_inverse=True)
        unique, column = np.unique(others, return_inverse=True)
        of_queries = _descriptors(snapshot, photos, queries)
        of_others = _descriptors(snapshot, photos, unique)
        for start in range(0, len(pairs), _BLOCK_PAIRS):
            part = slice(start, start + _BLOCK_PAIRS)
            # Products of float16 are exact in float64, as in `exact_descriptors`.
            similarities[part] = np.einsum(
                "pd,pd->p", of_queries[row[part]], of_others[column[part]], dtype=np.float64
            )
    return _Pairs(starts, others, similarities)


def _descriptors(
    snapshot: Snapshot, photos: DistinctPhotos, some: NDArray[np.int64]
) -> NDArray[np.float32]:
    return as_float32(snapshot.descriptors[photos.row_of_photo[some]])


def _offer(links: Links, pairs: _Pairs) -> None:
    """Keep for both photos of each pair the k nearest, the first of equal ones.

    Args:
        links: that are changed.
        pairs: each once. They may be linked already.
    """
    if not len(pairs.first):
        return
    k = links.ends.shape[1]
    owners = np.concatenate([pairs.first, pairs.second])
    ends = np.concatenate([pairs.second, pairs.first])
    similarities = np.tile(pairs.similarities, 2)
    better = similarities >= links.similarities[owners, -1]
    owners, ends, similarities = owners[better], ends[better], similarities[better]
    touched = np.unique(owners)
    owners = np.concatenate([np.repeat(touched, k), owners])
    ends = np.concatenate([links.ends[touched].ravel().astype(np.int64), ends])
    similarities = np.concatenate([links.similarities[touched].ravel(), similarities])
    # A pair that is there twice has the same similarity, so both are beside each other.
    order = np.lexsort((ends, -similarities, owners))
    owners, ends, similarities = owners[order], ends[order], similarities[order]
    new = np.ones(len(owners), np.bool_)
    new[1:] = (owners[1:] != owners[:-1]) | (ends[1:] != ends[:-1]) | (ends[1:] < 0)
    owners, ends, similarities = owners[new], ends[new], similarities[new]
    rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = rank < k
    links.ends[owners[kept], rank[kept]] = ends[kept]
    links.similarities[owners[kept], rank[kept]] = similarities[kept]
