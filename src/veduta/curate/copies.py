"""Copies of a photo: the same bytes, saved again, resized, cut, mirrored, turned or marked.

Two photos that show the same view, taken one after the other or in another light, are no copies.
They are found all the same, because a recogniser that has learned one of them knows the other: they
are pairs of the kind `SAME_VIEW`.

There are three sources of candidates: photos with near perceptual hashes, photos with near hashes
in another orientation (`veduta.curate.turned_copies`), and the nearest neighbours of each photo by
the descriptor of the default encoder, which changes little when a photo is mirrored, framed or cut.
Each candidate is aligned with the other photo (`veduta.curate.alignment`), straight, mirrored, and
turned if its hash says so. It is a copy only if it agrees in its details. Another photo of the same
place is not a copy.

Descriptors are compared in blocks, so that memory does not grow with the square of the photos.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.alignment import CopyAgreement, ReducedPhoto, copy_agreement
from veduta.curate.described_photos import DescribedPhotos, OnProgress, describe_photos
from veduta.curate.hash_pairs import copy_candidates
from veduta.curate.turned_copies import MIRRORED, TurnableHashes, turned_candidates
from veduta.errors import PhotoError
from veduta.files import write_text
from veduta.index.snapshot import as_float32
from veduta.processor_cores import processor_cores
from veduta.validation import InvalidValue, read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints import Keypoints
    from veduta.photos.orientation import Orientation

__all__ = ["COPY_KINDS", "SAME_BYTES", "SAME_VIEW", "CopyPair", "copies_among", "find_copies"]

SAME_BYTES = "same bytes"
SAME_VIEW = "same view"
COPY_KINDS = (
    SAME_BYTES,
    "same picture",
    "cut",
    "mirrored",
    "mirrored cut",
    "turned",
    "edited",
    SAME_VIEW,
)

# Candidates by descriptor. The least cosine similarity is one that half of a photo nearly always
# has with the whole. The first few neighbours need less.
_NEIGHBOURS = 12
_MIN_SIMILARITY = 0.4
_FIRST_NEIGHBOURS = 3
_MIN_SIMILARITY_OF_FIRST = 0.2
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 2048

# Photos with a smaller overlap are cuts.
_MIN_WHOLE_OVERLAP = 0.93
# Copies with a lower correlation were changed in some part.
_MIN_UNEDITED_CORRELATION = 0.9
# In pixels of the reduced photos. Interpolation, compression and changed colours displace details a
# little. Of 353 copies that were made of 30 photos of domains4 in 12 ways, the largest displacement
# was 0.194, after a change of hue. Other exposures had no part in the choice.
_MAX_COPY_DISPLACEMENT = 0.2

_PROGRESS_PHOTOS = 64
# A higher number makes older results invalid. Change it when copies are found in another way.
_VERSION = 11

_StoredCopy = tuple[int, int, str, float]


@dataclass(frozen=True, slots=True)
class CopyPair:
    """Two files, one of which is a copy of the other, or which show the same view.

    Attributes:
        first: position of a file.
        second: position of the other file, larger than `first`.
        kind: one of `COPY_KINDS`. "cut" means that one photo shows only a part of the other,
            "turned" that one lies on its side or upside down, mirrored or not, "edited" that a good
            part of it is covered or changed, and "same view" that the two are different exposures.
        score: in [0, 1]. It is 1 for the same bytes, and otherwise the correlation of the details;
            for an edited copy, the share of its keypoints that are at the right position.
    """

    first: int
    second: int
    kind: str
    score: float

    @property
    def is_copy(self) -> bool:
        """Whether one is a copy of the other; otherwise they show the same view."""
        return self.kind != SAME_VIEW


def find_copies(
    files: Sequence[Path],
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[CopyPair]:
    """Describe photos and find the copies among them.

    Args:
        files: photos. Those that do not decode are copies of nothing.
        folder: where descriptors, keypoints and results are kept for the next time. None means a
            folder in the user's cache.
        on_progress: called with the step, the number done and the total.

    Returns:
        Pairs in rising order. Of several files with the same bytes, each is paired with the first
        of them, and only the first one with other copies.

    Raises:
        CollectionError: `folder` cannot be used.
    """
    if len(files) < 2:
        return []
    photos = describe_photos(files, folder=folder, on_progress=on_progress)
    return copies_among(photos, on_progress=on_progress)


def copies_among(
    photos: DescribedPhotos,
    *,
    apart: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[CopyPair]:
    """Find the copies among described photos; see `find_copies`.

    The result is kept beside the index and read again for the same photos.

    Args:
        photos: the photos.
        apart: photos from this position on are compared with those before it only, and not with
            each other. None compares all.
        on_progress: as for `find_copies`.
    """
    same_bytes, unique = _by_content(photos)
    is_apart = [apart is not None and position >= apart for position in unique]
    file = photos.index.parent / f"copies-{_result_key(photos, unique, is_apart)}.json"
    copies = _read(file)
    if copies is None:
        # The photos are in the order of their content. So the result does not depend on the order
        # and the names of the files.
        copies = list(_find_among(photos, unique, is_apart, on_progress))
        _write(file, copies)
    pairs = [
        CopyPair(min(unique[a], unique[b]), max(unique[a], unique[b]), kind, score)
        for a, b, kind, score in copies
    ]
    return sorted([*same_bytes, *pairs], key=lambda pair: (pair.first, pair.second))


def _by_content(photos: DescribedPhotos) -> tuple[list[CopyPair], list[int]]:
    """Return the pairs with the same bytes, and the first file of each content, by content."""
    contents = photos.snapshot.rows["content"]
    positions_of: dict[bytes, list[int]] = defaultdict(list)
    for position in np.flatnonzero(photos.rows >= 0).tolist():
        positions_of[contents[int(photos.rows[position])].as_py()].append(position)
    pairs = [
        CopyPair(positions[0], other, SAME_BYTES, 1.0)
        for positions in positions_of.values()
        for other in positions[1:]
    ]
    return pairs, [positions_of[content][0] for content in sorted(positions_of)]


def _result_key(photos: DescribedPhotos, unique: Sequence[int], is_apart: Sequence[bool]) -> str:
    from veduta.photos import content_hash

    contents = photos.snapshot.rows["content"]
    parts = [contents[int(photos.rows[position])].as_py() for position in unique]
    method = f"{_VERSION} {photos.extractor.identity}".encode()
    if any(is_apart):
        method += bytes(is_apart)
    return content_hash(method + b"".join(parts)).hex()[:20]


def _read(file: Path) -> list[_StoredCopy] | None:
    try:
        return read_json(file, list[_StoredCopy])
    except (OSError, InvalidValue):
        return None  # The file is missing or damaged, so the copies are found again.


def _write(file: Path, copies: list[_StoredCopy]) -> None:
    from veduta.index.storage_errors import storage_error

    try:
        write_text(file, json.dumps(copies))
    except OSError as error:
        raise storage_error(error, file.parent, "write") from error


def _find_among(
    photos: DescribedPhotos,
    unique: Sequence[int],
    is_apart: Sequence[bool],
    on_progress: OnProgress | None,
) -> Iterator[_StoredCopy]:
    """Yield the copies among the files `unique`; positions are those in `unique`.

    Two photos that are both apart are not compared.
    """
    rows = photos.rows[list(unique)]
    compared = (lambda done, total: on_progress("Comparing", done, total)) if on_progress else None
    comparison = _Comparison(photos, rows)
    straight: dict[tuple[int, int], Orientation | None] = {
        pair: None
        for pair in sorted(_candidates(photos, rows, compared))
        if not (is_apart[pair[0]] and is_apart[pair[1]])
    }
    found = set()
    for copy in _aligned(comparison, straight, on_progress):
        found.add(copy[:2])
        yield copy
    turns = turned_candidates(TurnableHashes.of(_hashes(photos, rows), comparison.lumas()))
    new = {
        pair: turns[pair]
        for pair in sorted(turns)
        if (min(pair), max(pair)) not in found and not (is_apart[pair[0]] and is_apart[pair[1]])
    }
    yield from _aligned(comparison, new, on_progress)


def _aligned(
    comparison: _Comparison,
    candidates: Mapping[tuple[int, int], Orientation | None],
    on_progress: OnProgress | None,
) -> Iterator[_StoredCopy]:
    """Yield those candidates that are copies. The candidates are sorted by their first photo."""
    groups = [
        (first, [(second, candidates[first, second]) for _, second in pairs])
        for first, pairs in groupby(candidates, key=lambda pair: pair[0])
    ]
    with ThreadPoolExecutor(processor_cores(), thread_name_prefix="veduta-copies") as pool:
        for start in range(0, len(groups), _PROGRESS_PHOTOS):
            block = groups[start : start + _PROGRESS_PHOTOS]
            needed = {a for a, _ in block} | {other for _, others in block for other, _ in others}
            comparison.load(needed)
            for copies in pool.map(comparison.copies_of, block):
                yield from copies
            if on_progress:
                on_progress("Aligning", min(start + _PROGRESS_PHOTOS, len(groups)), len(groups))


def _candidates(
    photos: DescribedPhotos,
    rows: NDArray[np.int64],
    on_progress: Callable[[int, int], None] | None = None,
) -> set[tuple[int, int]]:
    """Return the pairs (smaller, larger position in `rows`) that may be copies, not turned."""
    candidates = copy_candidates(_hashes(photos, rows))
    candidates.update(_nearest(photos.snapshot.descriptors, rows, on_progress))
    return candidates


def _hashes(photos: DescribedPhotos, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    hashes: NDArray[np.uint64] = photos.snapshot.rows["perceptual_hash"].to_numpy()[rows]
    return hashes.astype(np.uint64)


def _nearest(
    descriptors: NDArray[np.float16],
    rows: NDArray[np.int64],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, int]]:
    """Yield the pairs (smaller, larger position in `rows`) with near descriptors."""
    n = len(rows)
    k = min(_NEIGHBOURS, n - 1)
    if k < 1:
        return
    for start in range(0, n, _BLOCK_ROWS):
        block = np.arange(start, min(start + _BLOCK_ROWS, n))
        own = as_float32(descriptors[rows[block]])
        similarities = np.empty((len(block), 0), np.float32)
        neighbours = np.empty((len(block), 0), np.int64)
        for first in range(0, n, _BLOCK_COLUMNS):
            others = np.arange(first, min(first + _BLOCK_COLUMNS, n))
            product = own @ as_float32(descriptors[rows[others]]).T
            product[block[:, None] == others] = -2  # A photo is not its own neighbour.
            similarities = np.concatenate([similarities, product], axis=1)
            neighbours = np.concatenate(
                [neighbours, np.broadcast_to(others, product.shape)], axis=1
            )
            if similarities.shape[1] > k:
                best = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
                similarities = np.take_along_axis(similarities, best, axis=1)
                neighbours = np.take_along_axis(neighbours, best, axis=1)
        rank = (-similarities).argsort(axis=1, kind="stable").argsort(axis=1)
        chosen = (similarities >= _MIN_SIMILARITY) | (
            (rank < _FIRST_NEIGHBOURS) & (similarities >= _MIN_SIMILARITY_OF_FIRST)
        )
        for row, column in zip(*np.nonzero(chosen), strict=True):
            a, b = int(block[row]), int(neighbours[row, column])
            yield min(a, b), max(a, b)
        if on_progress:
            on_progress(int(block[-1]) + 1, n)


class _Comparison:
    """Aligns photos with their candidates; keeps the reduced photos that it needs at the time."""

    def __init__(self, photos: DescribedPhotos, rows: NDArray[np.int64]) -> None:
        from veduta.index import StoredThumbnails
        from veduta.index.keypoint_files import StoredKeypoints

        self._extractor = photos.extractor
        self._thumbnails = StoredThumbnails(photos.index)
        self._rows = rows
        self._keypoints = StoredKeypoints(photos.index, photos.snapshot)
        self._paths = photos.snapshot.rows["path"]
        self._ids = photos.snapshot.rows["id"]
        self._reduced: dict[int, ReducedPhoto] = {}

    def load(self, positions: set[int]) -> None:
        """Keep the reduced photos of these positions, and no others."""
        self._reduced = {
            position: photo for position, photo in self._reduced.items() if position in positions
        }
        new = sorted(positions - self._reduced.keys())
        ids = [self._ids[int(self._rows[position])].as_py() for position in new]
        for position, jpeg in zip(new, self._thumbnails.read(ids), strict=True):
            keypoints = self._keypoints.read(int(self._rows[position]))
            self._reduced[position] = ReducedPhoto(_luma(jpeg), keypoints)

    def lumas(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the luma of all reduced photos, a few at a time in memory."""
        for start in range(0, len(self._rows), _PROGRESS_PHOTOS):
            rows = self._rows[start : start + _PROGRESS_PHOTOS].tolist()
            ids = [self._ids[row].as_py() for row in rows]
            yield from map(_luma, self._thumbnails.read(ids))

    def copies_of(
        self, photo_and_candidates: tuple[int, list[tuple[int, Orientation | None]]]
    ) -> list[_StoredCopy]:
        """Return the copies of a photo among its candidates.

        A candidate with a turn is compared with the photo turned like this, any other with the
        photo straight and mirrored.

        Args:
            photo_and_candidates: the position of the photo, and the position and the turn of each
                candidate.
        """
        position, candidates = photo_and_candidates
        made: dict[Orientation, ReducedPhoto] = {}

        def turned(turn: Orientation) -> ReducedPhoto:
            if turn not in made:
                made[turn] = self._turned(position, turn)
            return made[turn]

        copies = []
        for candidate, turn in candidates:
            other = self._reduced[candidate]
            if turn is None:
                agreement = copy_agreement(self._reduced[position], other)
                is_mirrored = False
                if agreement is None or not _is_copy(agreement):
                    # A symmetrical building resembles its mirror image, but is displaced.
                    mirrored = copy_agreement(turned(MIRRORED), other)
                    is_mirrored = mirrored is not None and (agreement is None or _is_copy(mirrored))
                    agreement = mirrored if is_mirrored else agreement
            else:
                agreement = copy_agreement(turned(turn), other)
                is_mirrored = False
            if agreement is not None:
                kind, score = _kind_and_score(agreement, is_mirrored, turn)
                copies.append((position, candidate, kind, score))
        return copies

    def _turned(self, position: int, turn: Orientation) -> ReducedPhoto:
        luma = turn.apply(self._reduced[position].luma)
        return ReducedPhoto(luma, self._turned_keypoints(position, turn))

    def _turned_keypoints(self, position: int, turn: Orientation) -> Keypoints:
        from veduta.photos import load

        extractor = self._extractor
        path = self._paths[int(self._rows[position])].as_py()
        try:
            photo = load(path, at_least=extractor.long_side)
        except PhotoError:
            # The file was removed after it was described. Its own keypoints find no turned copy.
            return self._reduced[position].keypoints
        size = turn.size(photo.width, photo.height)
        return extractor.extract(turn.apply(photo.pixels), *size)


def _is_copy(agreement: CopyAgreement) -> bool:
    return agreement.displacement <= _MAX_COPY_DISPLACEMENT


def _kind_and_score(
    agreement: CopyAgreement, is_mirrored: bool, turn: Orientation | None
) -> tuple[str, float]:
    edited = agreement.correlation < _MIN_UNEDITED_CORRELATION
    cut = agreement.overlap < _MIN_WHOLE_OVERLAP
    if not _is_copy(agreement):
        kind = SAME_VIEW
    elif turn is not None:
        kind = "turned"
    elif is_mirrored:
        kind = "mirrored cut" if cut else "mirrored"
    elif edited:
        kind = "edited"
    else:
        kind = "cut" if cut else "same picture"
    score = agreement.matches if edited else agreement.correlation
    return kind, round(min(score, 1.0), 4)


def _luma(jpeg: bytes) -> NDArray[np.uint8]:
    import simplejpeg

    grey: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[..., 0]
    return np.ascontiguousarray(grey)
