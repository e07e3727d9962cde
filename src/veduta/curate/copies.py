"""Copies of one photo: the same bytes, saved again, resized, cut, mirrored, turned, marked.

Candidates come from two sides: photos whose perceptual hashes are near, and each photo's nearest by
the descriptor of the default encoder, which hardly minds mirrors, frames and cuts. Each candidate
is then laid over the other (`veduta.curate.alignment`), straight and mirrored, and is a copy only
when it agrees in its details. Another photo of the same place is none.

Everything is streamed: a block of descriptors against a block, never all against all in memory.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.alignment import Sight, agreement
from veduta.curate.hash_pairs import copy_candidates
from veduta.curate.photo_index import DescribedPhotos, OnProgress, describe_photos
from veduta.errors import PhotoError
from veduta.files import atomic_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index.keypoint_files import StoredKeypoints
    from veduta.keypoints import Keypoints

__all__ = ["KINDS", "CopyPair", "copies_among", "find_copies", "groups"]

KINDS = ("same bytes", "same picture", "cut", "mirrored", "mirrored cut", "edited")

_NEIGHBOURS = 12
_SIMILAR = 0.4  # least similarity of descriptors; half of a photo nearly always has it
_ANYWAY = 3  # of the neighbours, which only need to be
_FAINTLY_SIMILAR = 0.2
_ROWS, _COLUMNS = 1024, 2048  # descriptors compared at a time
_AT_ONCE = 64  # photos that are compared with their candidates between two reports
_WHOLE = 0.93  # of both pictures: less is a cut
_SURE = 0.97  # score from which on one pair joins two groups
_ALIKE = 0.9
_VERSION = 5  # of the way copies are found


@dataclass(frozen=True, slots=True)
class CopyPair:
    """Two files of which one is a copy of the other, by their places; `first` < `second`.

    `kind`
        one of `KINDS`: "cut" means that one shows only a part of the other; "edited" that a good
        part of it is painted over or changed.
    `score`
        in [0, 1]: 1 for the same bytes, otherwise how well their details correlate; of an edited
        copy the share of its keypoints that lie where they should.
    """

    first: int
    second: int
    kind: str
    score: float


def find_copies(
    files: Sequence[Path],
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[CopyPair]:
    """Find the copies among photos; `describe_photos` and `copies_among` one after the other.

    Args:
        files: photos. Those that do not decode are copies of nothing.
        folder: where what is known of the photos is kept for the next time; None: in the user's
            cache folder.
        on_progress: called with (what, done, total).

    Returns:
        Pairs in rising order. Of several files with the same bytes, each is paired with the first
        of them, and only that one with their copies.

    Raises:
        CollectionError: `folder` cannot be used.
    """
    if len(files) < 2:
        return []
    return copies_among(
        describe_photos(files, folder=folder, on_progress=on_progress), on_progress=on_progress
    )


def copies_among(
    photos: DescribedPhotos, *, on_progress: OnProgress | None = None
) -> list[CopyPair]:
    """Find the copies among described photos, see `find_copies`.

    What was found is kept beside the index, and read again for the same photos.
    """
    same, ones = _same_bytes(photos)
    kept = photos.index.parent / f"copies-{_key(photos, ones)}.json"
    found = _stored(kept)
    if found is None:
        # By content, so that the result is the same for any order and any names of the files.
        found = list(_compared(photos, ones, on_progress))
        _store(kept, found)
    pairs = [
        CopyPair(min(a, b), max(a, b), kind, score)
        for a, b, kind, score in ((ones[a], ones[b], kind, score) for a, b, kind, score in found)
    ]
    return sorted([*same, *pairs], key=lambda pair: (pair.first, pair.second))


def groups(pairs: Iterable[CopyPair], count: int, *, chains: bool = False) -> list[tuple[int, ...]]:
    """Return which photos are copies of one another, as rising places, the groups by their first.

    Args:
        pairs: as `find_copies` gives them.
        count: number of photos.
        chains: join all that any pair joins. Otherwise two groups that have two photos or more
            each need two pairs between them, or one that is beyond doubt, so that one wrong pair
            does not make one group of many; photos are then in the group of their best pair.
    """
    group_of = list(range(count))
    members = {place: [place] for place in range(count)}
    between: dict[tuple[int, int], int] = defaultdict(int)
    for pair in sorted(pairs, key=lambda pair: (-pair.score, pair.first, pair.second)):
        a, b = sorted((group_of[pair.first], group_of[pair.second]))
        if a == b:
            continue
        between[a, b] += 1
        alone = min(len(members[a]), len(members[b])) == 1
        if not (chains or alone or pair.score >= _SURE or between[a, b] > 1):
            continue
        for place in members[b]:
            group_of[place] = a
        members[a] += members.pop(b)
        for one, other in [key for key in between if b in key]:
            moved = one if other == b else other
            if moved != a:
                between[min(a, moved), max(a, moved)] += between[one, other]
            del between[one, other]
    found = (tuple(sorted(group)) for group in members.values() if len(group) > 1)
    return sorted(found)


def _same_bytes(photos: DescribedPhotos) -> tuple[list[CopyPair], list[int]]:
    """Return the pairs with the same bytes, and the first file of each content, by content."""
    contents = photos.snapshot.rows["content"]
    places: dict[bytes, list[int]] = defaultdict(list)
    for place in np.flatnonzero(photos.rows >= 0).tolist():
        places[contents[int(photos.rows[place])].as_py()].append(place)
    pairs = [
        CopyPair(same[0], other, KINDS[0], 1.0) for same in places.values() for other in same[1:]
    ]
    return pairs, [places[content][0] for content in sorted(places)]


def _key(photos: DescribedPhotos, ones: Sequence[int]) -> str:
    from veduta.photos import content_hash

    contents = photos.snapshot.rows["content"]
    parts = [contents[int(photos.rows[place])].as_py() for place in ones]
    made_by = f"{_VERSION} {photos.extractor.identity}".encode()
    return content_hash(made_by + b"".join(parts)).hex()[:20]


def _stored(file: Path) -> list[tuple[int, int, str, float]] | None:
    try:
        return [(a, b, kind, score) for a, b, kind, score in json.loads(file.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return None  # not there, or cut off: it is found again


def _store(file: Path, found: list[tuple[int, int, str, float]]) -> None:
    from veduta.index.table import storage_error

    try:
        with atomic_file(file) as draft:
            draft.write_text(json.dumps(found), "utf-8")
    except OSError as error:
        raise storage_error(error, file.parent, "write") from error


def _compared(
    photos: DescribedPhotos, ones: Sequence[int], on_progress: OnProgress | None
) -> Iterator[tuple[int, int, str, float]]:
    """Yield the copies among the files `ones` as (place in `ones`, another, kind, score)."""
    rows = photos.rows[list(ones)]
    tell = (lambda done, total: on_progress("Comparing", done, total)) if on_progress else None
    todo = [
        (first, [b for _, b in some])
        for first, some in groupby(sorted(_candidates(photos, rows, tell)), key=lambda p: p[0])
    ]
    looking = _Looking(photos, rows)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="veduta-copies") as pool:
        for start in range(0, len(todo), _AT_ONCE):
            some = todo[start : start + _AT_ONCE]
            looking.load({place for a, others in some for place in (a, *others)})
            for found in pool.map(looking.compare, some):
                yield from found
            if on_progress:
                on_progress("Laying over", min(start + _AT_ONCE, len(todo)), len(todo))


def _candidates(
    photos: DescribedPhotos,
    rows: NDArray[np.int64],
    on_progress: Callable[[int, int], None] | None = None,
) -> set[tuple[int, int]]:
    """Return the pairs (smaller, larger place in `rows`) that may be copies."""
    hashes = photos.snapshot.rows["perceptual_hash"].to_numpy()[rows].astype(np.uint64)
    candidates = copy_candidates(hashes)
    candidates.update(_nearest(photos.snapshot.descriptors, rows, on_progress))
    return candidates


def _nearest(
    descriptors: NDArray[np.float16],
    rows: NDArray[np.int64],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, int]]:
    """Yield the pairs (smaller, larger place in `rows`) that are near."""
    n = len(rows)
    k = min(_NEIGHBOURS, n - 1)
    if k < 1:
        return
    for start in range(0, n, _ROWS):
        asking = np.arange(start, min(start + _ROWS, n))
        own = descriptors[rows[asking]].astype(np.float32)
        near = np.empty((len(asking), 0), np.float32)
        ends = np.empty((len(asking), 0), np.int64)
        for first in range(0, n, _COLUMNS):
            others = np.arange(first, min(first + _COLUMNS, n))
            block = own @ descriptors[rows[others]].astype(np.float32).T
            block[asking[:, None] == others] = -2
            near = np.concatenate([near, block], axis=1)
            ends = np.concatenate([ends, np.broadcast_to(others, block.shape)], axis=1)
            if near.shape[1] > k:
                best = np.argpartition(-near, k - 1, axis=1)[:, :k]
                near = np.take_along_axis(near, best, axis=1)
                ends = np.take_along_axis(ends, best, axis=1)
        rank = (-near).argsort(axis=1, kind="stable").argsort(axis=1)
        wanted = (near >= _SIMILAR) | ((rank < _ANYWAY) & (near >= _FAINTLY_SIMILAR))
        for at, column in zip(*np.nonzero(wanted), strict=True):
            a, b = int(asking[at]), int(ends[at, column])
            yield min(a, b), max(a, b)
        if on_progress:
            on_progress(int(asking[-1]) + 1, n)


class _Looking:
    """The reduced pictures and keypoints of the photos that are being compared."""

    def __init__(self, photos: DescribedPhotos, rows: NDArray[np.int64]) -> None:
        from veduta.index.keypoint_files import StoredKeypoints

        self._photos = photos
        self._rows = rows
        self._keypoints: StoredKeypoints = StoredKeypoints(photos.index, photos.snapshot)
        self._paths = photos.snapshot.rows["path"]
        self._ids = photos.snapshot.rows["id"]
        self._sights: dict[int, Sight] = {}

    def load(self, places: set[int]) -> None:
        """Keep what is known of these photos, and no others."""
        from veduta.index import read_thumbnails

        self._sights = {place: sight for place, sight in self._sights.items() if place in places}
        new = sorted(places - self._sights.keys())
        ids = [self._ids[int(self._rows[place])].as_py() for place in new]
        for place, jpeg in zip(new, read_thumbnails(self._photos.index, ids), strict=True):
            keypoints = self._keypoints.read(int(self._rows[place]))
            self._sights[place] = Sight(_luma(jpeg), keypoints)

    def compare(self, one: tuple[int, list[int]]) -> list[tuple[int, int, str, float]]:
        """Return the copies of a photo among its candidates."""
        first, others = one
        straight = self._sights[first]
        mirrored: Sight | None = None
        found = []
        for second in others:
            sight = self._sights[second]
            agree = agreement(straight, sight)
            turned = False
            if agree is None:
                mirrored = mirrored or self._mirrored(first)
                agree = agreement(mirrored, sight)
                turned = True
            if agree is None:
                continue
            cut = agree.overlap < _WHOLE
            if turned:
                kind = "mirrored cut" if cut else "mirrored"
            elif agree.correlation < _ALIKE:
                kind = "edited"
            else:
                kind = "cut" if cut else "same picture"
            score = agree.matches if agree.correlation < _ALIKE else agree.correlation
            found.append((first, second, kind, round(min(score, 1.0), 4)))
        return found

    def _mirrored(self, place: int) -> Sight:
        luma = np.ascontiguousarray(self._sights[place].luma[:, ::-1])
        return Sight(luma, self._mirrored_keypoints(place))

    def _mirrored_keypoints(self, place: int) -> Keypoints:
        from veduta.photos import load

        extractor = self._photos.extractor
        path = self._paths[int(self._rows[place])].as_py()
        try:
            photo = load(path, at_least=extractor.long_side)
        except PhotoError:  # gone since it was described: it is compared as it was, unmirrored
            return self._sights[place].keypoints
        turned = np.ascontiguousarray(photo.pixels[:, ::-1])
        return extractor.extract(turned, photo.width, photo.height)


def _luma(jpeg: bytes) -> NDArray[np.uint8]:
    import simplejpeg

    grey: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[..., 0]
    return np.ascontiguousarray(grey)
