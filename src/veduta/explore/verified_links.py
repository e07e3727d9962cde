"""Which pairs of photos of an index show the same place or object, by their geometry.

Candidates are the pairs that the neighbour graph links. The graph keeps how many of their matches
are consistent, which also happens in photos of different places that look alike. So each candidate
is verified once more, and a pair without a geometric model is no link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.errors import CollectionError, QueryError, readable
from veduta.explore.verification_cache import (
    PairGeometries,
    cache_file,
    pair_names,
    read_geometries,
    write_geometries,
)
from veduta.index import Manifest
from veduta.index.graph import (
    calibration_of_links,
    can_be_linked,
    linked_pairs,
    why_not_linked,
)
from veduta.index.keypoint_files import StoredKeypoints, extractor_of_index
from veduta.index.pair_verification import verify_pairs
from veduta.search.verdict import DIFFERENT_PLACES, verdict_on

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot
    from veduta.index.distinct_photos import DistinctPhotos
    from veduta.keypoints import Matching, Verification

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
    not looked at. What is verified is kept in the user's cache folder, also if it is interrupted.

    Args:
        index: its folder.
        snapshot: of its newest version.
        on_progress: called with (pairs verified, pairs to verify now).

    Raises:
        QueryError: the index has no keypoints that this version of Veduta knows.
        CollectionError: its photos are not linked yet.
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
    if not can_be_linked(snapshot):
        one_photo = np.zeros(snapshot.photos, np.int32)  # Or none at all.
        return VerifiedLinks(one_photo, np.empty((0, 2), np.int64), np.empty(0, np.int64))
    linked = linked_pairs(index, manifest, snapshot)
    if linked is None:
        raise CollectionError(why_not_linked(index, manifest, snapshot))
    candidates = np.arange(len(linked.first))
    if linked.consistent_matches is not None:
        by_chance = calibration_of_links(manifest).chance_matches
        candidates = np.flatnonzero(linked.consistent_matches > by_chance)
    pairs = np.stack([linked.first, linked.second], axis=1)[candidates]
    file = cache_file(index, manifest)
    keypoints = StoredKeypoints(index, snapshot)
    geometries = _geometries(file, keypoints, extractor.matching, linked.photos, pairs, on_progress)
    chances = None if linked.probabilities is None else linked.probabilities[candidates]
    holds = _hold(geometries, chances)
    return VerifiedLinks(linked.photos.photo_of_row, pairs[holds], geometries.inliers[holds])


def _geometries(
    file: Path,
    keypoints: StoredKeypoints,
    matching: Matching,
    photos: DistinctPhotos,
    pairs: NDArray[np.int64],
    on_progress: Callable[[int, int], None] | None,
) -> PairGeometries:
    """Verify pairs that the cache does not know, and keep them in it, also after an interrupt."""
    names = pair_names(photos.contents, pairs)
    known, geometries = read_geometries(file, names)
    todo = np.flatnonzero(~known)
    if not len(todo):
        return geometries

    def note(part: slice, verifications: Sequence[Verification]) -> None:
        for pair, verification in zip(todo[part].tolist(), verifications, strict=True):
            geometries.models[pair] = verification.model or ""
            geometries.inliers[pair] = len(verification.inliers)
            geometries.coverages[pair] = verification.inlier_coverage
            known[pair] = True

    first, second = photos.row_of_photo[pairs[todo]].T
    try:
        verify_pairs(keypoints, first, second, matching, note, on_progress)
    finally:
        kept = PairGeometries(
            geometries.models[known], geometries.inliers[known], geometries.coverages[known]
        )
        write_geometries(file, names[known], kept)
    return geometries


def _hold(
    geometries: PairGeometries, probabilities: NDArray[np.floating[Any]] | None
) -> NDArray[np.bool_]:
    """Return which pairs show the same, (p,) bool."""
    holds = np.zeros(len(geometries.models), np.bool_)
    for pair in np.flatnonzero(geometries.models != "").tolist():
        probability = None if probabilities is None else float(probabilities[pair])
        model, coverage = str(geometries.models[pair]), float(geometries.coverages[pair])
        holds[pair] = verdict_on(probability, model, coverage) != DIFFERENT_PLACES
    return holds
