"""The pairs of photos that the neighbour graph of an index links, and their matches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import CollectionError, QueryError, readable
from veduta.files import write_text
from veduta.index.graph import (
    calibration_of_links,
    can_be_linked,
    linked_pairs,
    why_not_linked,
)
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.interchange.exported_photos import refuse_blanks
from veduta.keypoints import verify
from veduta.processor_cores import processor_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Manifest, Snapshot
    from veduta.interchange.exported_photos import ExportedPhotos
    from veduta.keypoints import Extractor, Keypoints, Matching, Verification

__all__ = [
    "MatchedPair",
    "PhotoPairs",
    "linked_photos",
    "matched_pairs",
    "required_extractor",
    "write_pairs",
]

_AT_ONCE = 256
"""So many pairs are matched before the first of the next ones is."""


@dataclass(frozen=True, slots=True)
class PhotoPairs:
    """Pairs of photos of an index, each once, in the order of their names.

    Attributes:
        rows: (p, 2) of the snapshot. The first photo of a pair is the first by name.
        plausible: (p,) bool: False for a pair whose photos have no more consistent matches than any
            two photos may have. Without such counts all are plausible.
        copies: how many photos are left out, because another photo has the same content and an
            earlier name.
    """

    rows: NDArray[np.intp]
    plausible: NDArray[np.bool_]
    copies: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPair:
    """Two photos whose keypoints were matched.

    Attributes:
        first: row of the first photo.
        second: row of the other photo.
        keypoints: of both.
        matches: (m, 2) indices into both; m is 0 if the pair is not verified.
        verification: with the model on which the inliers agree. None if the pair is not verified.
    """

    first: int
    second: int
    keypoints: tuple[Keypoints, Keypoints]
    matches: NDArray[np.intp]
    verification: Verification | None

    @property
    def inliers(self) -> NDArray[np.intp]:
        """(k, 2) the matches that agree on one geometric model; k is 0 without one."""
        return self.matches[:0] if self.verification is None else self.verification.inliers


def required_extractor(index: Path, manifest: Manifest) -> type[Extractor]:
    """Return the class of the extractor of an index.

    Args:
        index: its folder, for the message.
        manifest: of the index.

    Raises:
        QueryError: the index has no keypoints that this version of Veduta knows.
    """
    extractor = extractor_of_index(manifest)
    if extractor is None:
        raise QueryError(
            f"{readable(index)} has no keypoints, which --keypoints, --matches and --colmap write. "
            "Index the photos again into another folder, without --keypoints none."
        )
    return extractor


def linked_photos(
    index: Path, manifest: Manifest, snapshot: Snapshot, photos: ExportedPhotos
) -> PhotoPairs:
    """Return the pairs of photos that the neighbour graph links.

    Each photo is linked with its nearest photos by descriptor. Of photos with the same content the
    first by name stands for all.

    Args:
        index: its folder.
        manifest: of the index.
        snapshot: of the index.
        photos: its photos by name.

    Raises:
        CollectionError: the photos are not linked yet.
        StorageError: the disk does not read.
    """
    if not can_be_linked(snapshot):
        none = np.empty((0, 2), np.intp)
        return PhotoPairs(none, np.empty(0, np.bool_), snapshot.photos - 1)
    linked = linked_pairs(index, manifest, snapshot)
    if linked is None:
        raise CollectionError(why_not_linked(index, manifest, snapshot))
    row_of_photo = np.empty(len(linked.photos.contents), np.intp)
    # Of several values for one place the last one stays.
    last_first = photos.by_name[::-1]
    row_of_photo[linked.photos.photo_of_row[last_first]] = last_first
    ends = np.stack([linked.first, linked.second], axis=1)
    ranks = np.sort(photos.ranks[row_of_photo[ends]], axis=1)
    plausible = np.ones(len(ends), np.bool_)
    if linked.consistent_matches is not None:
        plausible = linked.consistent_matches > calibration_of_links(manifest).chance_matches
    order = np.lexsort((ranks[:, 1], ranks[:, 0]))
    rows = photos.by_name[ranks[order]]
    return PhotoPairs(rows, plausible[order], snapshot.photos - len(row_of_photo))


def write_pairs(file: Path, photos: ExportedPhotos, pairs: PhotoPairs) -> None:
    """Write pairs as hloc reads them: two names a line, with a blank between them.

    Args:
        file: the file to write.
        photos: that the pairs are of.
        pairs: of the photos.

    Raises:
        DatasetError: a name has a blank.
        CannotWrite: the file cannot be written.
    """
    refuse_blanks(photos, "a list of pairs")
    names = photos.names
    write_text(file, (f"{names[a]} {names[b]}\n" for a, b in pairs.rows.tolist()))


def matched_pairs(
    keypoints: StoredKeypoints,
    pairs: PhotoPairs,
    matching: Matching,
    on_progress: Callable[[int, int], None] | None = None,
) -> Generator[MatchedPair, None, None]:
    """Match the stored keypoints of pairs, and verify them by geometry, on all cores.

    Args:
        keypoints: of the index.
        pairs: of its photos. Those that are not plausible are not looked at.
        matching: how the keypoints are matched.
        on_progress: called with (pairs done, pairs).

    Yields:
        Each pair, in their order.

    Raises:
        IndexDamaged: keypoints cannot be read.
    """

    def match(number: int) -> MatchedPair:
        first, second = pairs.rows[number].tolist()
        both = keypoints.read(first), keypoints.read(second)
        if pairs.plausible[number]:
            matches = matching.pairs(*both)
            verification = verify(*both, matches)
            if verification.model is not None:
                return MatchedPair(first, second, both, matches, verification)
        return MatchedPair(first, second, both, np.empty((0, 2), np.intp), None)

    with ThreadPoolExecutor(processor_cores(), thread_name_prefix="veduta-export") as pool:
        done = 0
        for numbers in _parts(len(pairs)):
            for matched in pool.map(match, numbers):
                yield matched
                done += 1
                if on_progress:
                    on_progress(done, len(pairs))


def _parts(count: int) -> Iterable[range]:
    return (range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE))
