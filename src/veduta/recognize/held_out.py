"""Questions that a collection can ask itself: its own photos, as if they were not in it.

A photo with a label must be named by the others of that label. Had none of that label been there,
the right answer would be "unknown"; so it is for photos without a label. The photos asked with, and
copies of them, are taken out of all evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.recognize.confidence import Question
from veduta.recognize.labelled import UNLABELLED, Labelled
from veduta.recognize.linear import Training
from veduta.recognize.methods import GEOMETRIC, METHODS, Asked

MOST = 300  # questions of each of the three kinds
ENOUGH = 30  # photos that can be named; fewer teach nothing
_LARGEST = 1000  # photos of a label that can be left out together

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A question: the gallery photo, its answer (`UNLABELLED`: unknown), and what is left out."""

    row: int
    answer: int
    without: NDArray[np.intp]
    weight: float


def questions(
    method: str,
    known: Labelled,
    training: Training,
    *,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Question]:
    """Ask a method about photos of the collection itself.

    Half of the weight lies on photos that can be named; the other half on those that cannot: photos
    whose label is hidden and photos without a label, in equal parts if there are both.

    Args:
        method: one of `METHODS`.
        known: the collection.
        training: of the linear recogniser on it.
        seed: of the choice of photos, where there are more than `MOST` of a kind.
        on_progress: called with (done, total).

    Returns:
        Empty where the collection has fewer than `ENOUGH` photos that can be named.
    """
    plans = list(_plans(known, np.random.default_rng(seed)))
    if sum(plan.answer != UNLABELLED for plan in plans) < ENOUGH:
        return []
    asked = []
    for done, plan in enumerate(plans):
        if on_progress is not None:
            on_progress(done, len(plans))
        asked.append(_question(method, known, training, plan))
    if on_progress is not None:
        on_progress(len(plans), len(plans))
    return asked


def _plans(known: Labelled, generator: np.random.Generator) -> Iterator[_Plan]:
    copies = _Copies(known)
    of_label = known.codes != UNLABELLED
    count = np.zeros(len(known.codes), np.int64)
    count[of_label] = known.counts[known.codes[of_label]]
    # With one label hidden, what is left must still be of two kinds, or all is certain.
    several = len(known.names) + (len(known.outsiders) > 0) > 2
    named = np.array(
        [r for r in np.flatnonzero(count > 1) if copies.leave_one(int(r), known.codes)], np.intp
    )
    can_hide = np.flatnonzero((count > 0) & (count <= _LARGEST) & several)
    kinds = [
        (named, False, 2.0),
        (can_hide, True, 1.0 if len(known.outsiders) else 2.0),
        (known.outsiders, False, 1.0 if len(can_hide) else 2.0),
    ]
    for rows, hidden, share in kinds:
        chosen = generator.permutation(rows)[:MOST]
        for row in chosen.tolist():
            without = copies.of(row)
            answer = int(known.codes[row])
            if hidden:
                without = np.union1d(without, np.flatnonzero(known.codes == answer))
                answer = UNLABELLED
            yield _Plan(row, answer, without, share / len(chosen))


class _Copies:
    """Which photos have the same bytes."""

    def __init__(self, known: Labelled) -> None:
        rows = known.gallery.snapshot.rows["content"].slice(0, len(known.codes))
        codes = rows.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        self._codes = codes
        self._order = np.argsort(codes, kind="stable")
        self._sorted = codes[self._order]

    def of(self, row: int) -> NDArray[np.intp]:
        """Return a photo and its copies."""
        first, last = np.searchsorted(self._sorted, [self._codes[row], self._codes[row] + 1])
        return np.sort(self._order[first:last]).astype(np.intp)

    def leave_one(self, row: int, codes: NDArray[np.int32]) -> bool:
        """Tell whether the photo's label has photos besides its copies."""
        same = self.of(row)
        return len(same) == 1 or bool(
            (codes == codes[row]).sum() > (codes[same] == codes[row]).sum()
        )


def _question(method: str, known: Labelled, training: Training, plan: _Plan) -> Question:
    gallery = known.gallery
    linear = training.held_out(plan.row, plan.without)
    left = np.bincount(
        known.codes[plan.without][known.codes[plan.without] != UNLABELLED],
        minlength=len(known.names),
    )
    linear[left == known.counts] = -np.inf  # a label none of whose photos is there
    descriptor = gallery.snapshot.take(np.array([plan.row]))[0].astype(np.float32)
    geometric = method in GEOMETRIC and gallery.keypoints is not None
    asked = Asked(
        descriptor=descriptor / max(float(np.linalg.norm(descriptor)), 1e-12),
        keypoints=[gallery.keypoints.read(plan.row)] if geometric and gallery.keypoints else [],
        linear=linear,
        without=plan.without,
    )
    found = METHODS[method](known, asked)
    return Question(found.features, found.codes == plan.answer, plan.weight)
