"""Labelled examples made of a collection's own photos, each held out of the collection.

A photo with a label must get its name from the other photos of that label. If none of them takes
part, the right answer is "unknown"; so it is for photos without a label. The held-out photo and
its exact copies take no part in the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.recognize.confidence import LabelledExample
from veduta.recognize.labelled_gallery import UNLABELLED, LabelledGallery
from veduta.recognize.linear import LinearTraining
from veduta.recognize.methods import GEOMETRIC, METHODS, RecognitionQuery

__all__ = [
    "MAX_EXAMPLES_OF_A_KIND",
    "MIN_NAMEABLE_PHOTOS",
    "MIN_UNKNOWN_PHOTOS",
    "held_out_examples",
    "what_is_missing",
]

MAX_EXAMPLES_OF_A_KIND = 300
"""Examples of each kind: photos to name, photos with a hidden label, photos without a label."""

MIN_NAMEABLE_PHOTOS = 30
"""A collection with fewer photos that can be named is too small to fit confidence on."""

MIN_UNKNOWN_PHOTOS = 10
"""So is one with fewer photos that are to stay unknown. The background is no substitute: it is
farther from the photos of a collection than the photos that people bring."""

_MAX_HIDDEN_PHOTOS = 1000
"""A label with more photos is never hidden, since all of them are held out together."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _HeldOutPhoto:
    """A gallery photo, its right answer (`UNLABELLED`: unknown), and the rows held out with it."""

    row: int
    class_id: int
    excluded_rows: NDArray[np.intp]
    weight: float


def held_out_examples(
    method: str,
    labelled: LabelledGallery,
    training: LinearTraining,
    *,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[LabelledExample]:
    """Recognise photos of the collection by the rest of it.

    Half of the weight is on photos that can be named. The other half is on photos that cannot:
    photos whose label is hidden and photos without a label, in equal parts if there are both.

    Args:
        method: one of `METHODS`.
        labelled: the collection.
        training: of the linear classifier on it.
        seed: for the choice of photos if there are more than `MAX_EXAMPLES_OF_A_KIND`.
        on_progress: called with (done, total).

    Returns:
        The examples; none if something is missing, see `what_is_missing`.
    """
    photos = list(_chosen_photos(labelled, np.random.default_rng(seed)))
    if _missing(photos) is not None:
        return []
    examples = []
    for done, photo in enumerate(photos):
        if on_progress is not None:
            on_progress(done, len(photos))
        examples.append(_example(method, labelled, training, photo))
    if on_progress is not None:
        on_progress(len(photos), len(photos))
    return examples


def what_is_missing(labelled: LabelledGallery) -> str | None:
    """Return what a collection lacks for a confidence of its own, in words; None: nothing.

    Args:
        labelled: the collection.
    """
    return _missing(list(_chosen_photos(labelled, np.random.default_rng(0))))


def _missing(photos: Sequence[_HeldOutPhoto]) -> str | None:
    nameable = sum(photo.class_id != UNLABELLED for photo in photos)
    if nameable < MIN_NAMEABLE_PHOTOS:
        return (
            f"{MIN_NAMEABLE_PHOTOS} photos that share their label with another photo are needed, "
            f"and {nameable} are there"
        )
    unknown = len(photos) - nameable
    if unknown < MIN_UNKNOWN_PHOTOS:
        return (
            f"{MIN_UNKNOWN_PHOTOS} photos of other things, without a label, "
            f"are needed, and {unknown or 'none'} {'is' if unknown == 1 else 'are'} there"
        )
    return None


def _chosen_photos(
    labelled: LabelledGallery, generator: np.random.Generator
) -> Iterator[_HeldOutPhoto]:
    copies = _Copies(labelled)
    class_ids = labelled.class_ids
    has_label = class_ids != UNLABELLED
    class_sizes = np.zeros(len(class_ids), np.int64)
    class_sizes[has_label] = labelled.counts[class_ids[has_label]]
    # The rest must still hold two kinds of photos when a label is hidden, or every answer is sure.
    can_hide_one = len(labelled.names) + (len(labelled.outsiders) > 0) > 2
    order = labelled.order
    nameable = order[[class_sizes[row] > 1 and copies.leave_others(row) for row in order.tolist()]]
    can_hide = (class_sizes > 0) & (class_sizes <= _MAX_HIDDEN_PHOTOS) & can_hide_one
    hideable = order[can_hide[order]]
    outsiders = order[np.isin(order, labelled.outsiders)]
    kinds = [
        (nameable, False, 2.0),
        (hideable, True, 1.0 if len(outsiders) else 2.0),
        (outsiders, False, 1.0 if len(hideable) else 2.0),
    ]
    for rows, hidden, weight in kinds:
        chosen = generator.permutation(rows)[:MAX_EXAMPLES_OF_A_KIND]
        for row in chosen.tolist():
            excluded = copies.of(row)
            class_id = int(class_ids[row])
            if hidden:
                excluded = np.union1d(excluded, np.flatnonzero(class_ids == class_id))
                class_id = UNLABELLED
            yield _HeldOutPhoto(row, class_id, excluded, weight / len(chosen))


class _Copies:
    """Which photos have the same bytes."""

    def __init__(self, labelled: LabelledGallery) -> None:
        self._class_ids = labelled.class_ids
        self._photo_of_row = labelled.photo_of_row
        self._order = np.argsort(self._photo_of_row, kind="stable")
        self._sorted = self._photo_of_row[self._order]

    def of(self, row: int) -> NDArray[np.intp]:
        """Return the rows of a photo and its copies."""
        photo = self._photo_of_row[row]
        first, last = np.searchsorted(self._sorted, [photo, photo + 1])
        return np.sort(self._order[first:last]).astype(np.intp)

    def leave_others(self, row: int) -> bool:
        """Return whether the photo's label has photos besides its copies."""
        copies = self.of(row)
        if len(copies) == 1:
            return True
        class_id = self._class_ids[row]
        in_class = np.count_nonzero(self._class_ids == class_id)
        return bool(in_class > np.count_nonzero(self._class_ids[copies] == class_id))


def _example(
    method: str, labelled: LabelledGallery, training: LinearTraining, photo: _HeldOutPhoto
) -> LabelledExample:
    gallery = labelled.gallery
    excluded_ids = labelled.class_ids[photo.excluded_rows]
    excluded_counts = np.bincount(
        excluded_ids[excluded_ids != UNLABELLED], minlength=len(labelled.names)
    )
    scores = training.held_out(photo.row, photo.excluded_rows)
    scores[excluded_counts == labelled.counts] = -np.inf
    descriptor = gallery.snapshot.take(np.array([photo.row]))[0]
    keypoints = []
    if method in GEOMETRIC and gallery.keypoints is not None:
        keypoints.append(gallery.keypoints.read(photo.row))
    query = RecognitionQuery(
        descriptor=descriptor / max(float(np.linalg.norm(descriptor)), 1e-12),
        keypoints=keypoints,
        linear_scores=scores,
        excluded_rows=photo.excluded_rows,
    )
    candidates = METHODS[method](labelled, query)
    return LabelledExample(
        candidates.features, candidates.class_ids == photo.class_id, photo.weight
    )
