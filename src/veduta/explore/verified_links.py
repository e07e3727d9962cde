"""Which pairs of photos of an index show the same place or object, by their geometry.

Candidates are the pairs that the neighbour graph links. The graph keeps how many of their matches
are consistent, which also happens in photos of different places that look alike. So each candidate
is verified once more, and a pair without a geometric model is no link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import CollectionError, QueryError, readable
from veduta.index import Manifest
from veduta.index.calibration import CHANCE_MATCHES
from veduta.index.graph import MAX_PHOTOS, LinkedPairs, can_be_linked, linked_pairs
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.index.pair_verification import verify_pairs
from veduta.search.verdict import DIFFERENT_PLACES, verdict_on
from veduta.text import veduta_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot
    from veduta.keypoints import Verification

__all__ = ["VerifiedLinks", "verified_links"]


@dataclass(frozen=True, slots=True)
class VerifiedLinks:
    """The l pairs of photos that show the same.

    Copies, which are rows with the same content, are one photo here.

    Attributes:
        photo_of_row: (n,) int32, the photo of each row of the snapshot.
        pairs: (l, 2) int64 photos, sorted, the smaller number first.
        inliers: (l,) int64, how many matches agree on the geometric model of a pair.
    """

    photo_of_row: NDArray[np.int32]
    pairs: NDArray[np.int64]
    inliers: NDArray[np.int64]


def verified_links(
    index: Path, snapshot: Snapshot, on_progress: Callable[[int, int], None] | None = None
) -> VerifiedLinks:
    """Return the pairs of photos of an index that show the same.

    A pair does if its matches agree on a geometric model and its verdict is not "different", see
    `veduta.search.verdict`. Pairs with no more consistent matches than any two photos may have are
    not looked at.

    Args:
        index: its folder.
        snapshot: of its newest version.
        on_progress: called with (pairs verified, pairs to verify).

    Raises:
        QueryError: the index has no keypoints that this version of Veduta knows.
        CollectionError: its photos are not linked yet, or too many for that.
        IndexDamaged: keypoints cannot be read.
        StorageError: the disk does not read.
    """
    manifest = Manifest.read(index)
    extractor = extractor_of_index(manifest)
    if extractor is None:
        raise QueryError(
            f"{readable(index)} has no keypoints, by which photos of one place are told from "
            "photos that look alike. Index the photos again into another folder, without "
            "--keypoints none."
        )
    if not can_be_linked(snapshot) and snapshot.photos <= MAX_PHOTOS:
        one_photo = np.zeros(snapshot.photos, np.int32)  # Or none at all.
        return VerifiedLinks(one_photo, np.empty((0, 2), np.int64), np.empty(0, np.int64))
    linked = linked_pairs(index, manifest, snapshot)
    if linked is None:
        raise CollectionError(_not_linked(index, snapshot))
    candidates = np.arange(len(linked.first))
    if linked.consistent_matches is not None:
        candidates = np.flatnonzero(linked.consistent_matches > CHANCE_MATCHES)
    rows = linked.photos.row_of_photo
    inliers = np.zeros(len(candidates), np.int64)

    def note(part: slice, verifications: Sequence[Verification]) -> None:
        inliers[part] = [
            len(verification.inliers) if _holds(linked, int(candidate), verification) else 0
            for candidate, verification in zip(candidates[part], verifications, strict=True)
        ]

    verify_pairs(
        StoredKeypoints(index, snapshot),
        rows[linked.first[candidates]],
        rows[linked.second[candidates]],
        extractor.matching,
        note,
        on_progress,
    )
    links = candidates[inliers > 0]
    pairs = np.stack([linked.first[links], linked.second[links]], axis=1)
    return VerifiedLinks(linked.photos.photo_of_row, pairs, inliers[inliers > 0])


def _holds(linked: LinkedPairs, pair: int, verification: Verification) -> bool:
    """Return whether a pair shows the same."""
    if verification.model is None:
        return False
    probability = None if linked.probabilities is None else float(linked.probabilities[pair])
    verdict = verdict_on(probability, verification.model, verification.inlier_coverage)
    return verdict != DIFFERENT_PLACES


def _not_linked(index: Path, snapshot: Snapshot) -> str:
    """Return why the photos of an index are not linked, and the remedy."""
    if snapshot.photos > MAX_PHOTOS:
        return (
            f"{readable(index)} has {snapshot.photos:,} photos. Photos are linked up to "
            f"{MAX_PHOTOS:,}. Index parts of the collection into folders of their own."
        )
    command = veduta_command("index", "--index", index)
    return f"The photos of {readable(index)} are not all linked yet. Link them with: {command}"
