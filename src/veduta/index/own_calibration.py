"""A collection asks itself how far a calibration holds for it.

The models of `veduta.index.calibration` were fitted on other collections. In one with three
photos of each place a hit that the graph adds is wrong more often than in one with thirty. If the
photos have labels, the collection itself knows better. Each of some photos is a query twice: once
as it is, and once while all photos of its label are hidden, as for a query that the collection does
not have. The answers say how the log-odds of first hits and of further hits must be moved
(J. Platt, Probabilistic outputs for support vector machines, 1999). With few answers they move
little.

A question is answered as a search answers it: the nearest photos are verified. A stranger has the
best of many wrong photos as its first hit, and that photo agrees with it in some keypoints.

Labels are not always places. A hit with another label that agrees with the query in very many
keypoints is no wrong hit, and hits without a label say nothing. A photo whose copies have different
labels counts as one without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.index.calibration import (
    MIN_NEARNESS,
    Calibration,
    Corrections,
    FirstCorrection,
    FurtherCorrection,
    Values,
    probability,
)
from veduta.index.cell_files import CELLS_FROM_PHOTOS
from veduta.index.diffusion import nearness
from veduta.index.distinct_photos import SAMPLE_PHOTOS, DistinctPhotos
from veduta.index.snapshot import as_float32

if TYPE_CHECKING:
    from veduta.index.graph import Graph
    from veduta.index.snapshot import Snapshot

__all__ = ["CountConsistentMatches", "ask_itself", "fit_correction"]

CountConsistentMatches = Callable[[int, Sequence[int]], Sequence[int]]
"""Verifies a row of the snapshot against others, and returns their consistent matches."""

_MAX_QUESTIONS = 200
"""How many photos are asked, with their label shown and with it hidden."""

_MIN_QUESTIONS = 30
"""A collection that answers fewer questions of either kind corrects nothing."""

_VERIFIED_PHOTOS = 10
"""How many photos are verified for a question. With the 50 of a search the probabilities of first
hits come out the same, and it takes more than twice as long."""

_JUDGED_HITS = 10
"""How many hits of a question are judged."""

_SURE_CHANCE_FACTOR = 4
"""Two photos with this many times the consistent matches of any two photos show the same, whatever
their labels say."""

_WEIGHT_OF_A_KIND = 100.0
"""What all questions of one kind weigh together, against the prior."""

_WEIGHT_OF_FURTHER_HITS = 3.0
"""What the further hits of a question weigh together. They are not independent of each other."""

_FIRST_PRECISION = (20.0, 20.0, 1.0)
_FURTHER_PRECISION = (100.0, 20.0, 1.0)
"""Of the normal prior around slopes of 1 and a shift of 0. What orders the further hits was fitted
on many hits of other collections, so it is trusted more than the rest."""

_MIN_ORDER_SLOPE = 0.05
"""A correction must not change the order of the further hits."""

_MAX_NEWTON_STEPS = 50
"""Newton's method needs about ten steps."""

_BLOCK_PHOTOS = 4096
"""So many descriptors are in memory at a time."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The hits of one question.

    Attributes:
        first: (2,) what similarity and geometry of the first hit count, `Calibration.first_parts`.
        constant: the constant of these log-odds.
        pair: (h,) log-odds of the pairs of all hits, the first hit among them.
        nearness: (h,) to the first hit.
        at: the position of the first hit.
        right: (h,) bool.
        judged: (h,) bool, whether it is known if they are right.
    """

    first: NDArray[np.float64]
    constant: float
    pair: Values
    nearness: Values
    at: int
    right: NDArray[np.bool_]
    judged: NDArray[np.bool_]


def ask_itself(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    graph: Graph,
    count_matches: CountConsistentMatches | None,
    calibration: Calibration,
    on_progress: Callable[[int, int], None] | None = None,
) -> Corrections:
    """Return how the log-odds of `calibration` must be moved for a collection.

    Args:
        snapshot: of the collection.
        photos: its different photos, m of them.
        graph: of these photos.
        count_matches: verifies photos; None: the models without geometry are asked.
        calibration: of the encoder and the keypoints.
        on_progress: called with (questions that were asked, questions).

    Returns:
        Corrections that change nothing if too few photos have a label.

    Raises:
        IndexDamaged: keypoints of the index cannot be read.
    """
    labels = _labels_of_photos(snapshot, photos)
    questions = _questions(labels)
    if min(map(len, questions)) < _MIN_QUESTIONS:
        return Corrections()
    collection = _collection(
        snapshot, photos, graph, count_matches, calibration, labels, np.unique(np.r_[questions])
    )
    by_kind: tuple[list[_Answer], list[_Answer]] = ([], [])
    total = sum(map(len, questions))
    asked = 0
    for of_kind, answered, shown in zip(questions, by_kind, (True, False), strict=True):
        for photo in of_kind.tolist():
            if (answer := collection.ask(photo, shown=shown)) is not None:
                answered.append(answer)
            asked += 1
            if on_progress:
                on_progress(asked, total)
    if min(map(len, by_kind)) < _MIN_QUESTIONS:
        return Corrections()
    weights = [_WEIGHT_OF_A_KIND / len(kind) for kind in by_kind]
    answers = [answer for kind in by_kind for answer in kind]
    constant = answers[0].constant
    similarity, geometry, shift = fit_correction(
        np.array([answer.first for answer in answers]),
        constant,
        np.array([answer.right[answer.at] for answer in answers]),
        np.repeat(weights, [len(kind) for kind in by_kind]),
        _FIRST_PRECISION,
    )
    first = FirstCorrection(max(0.0, similarity), max(0.0, geometry), shift)
    slopes = np.array([first.similarity_slope, first.geometry_slope])
    parts, right, hit_weights = [], [], []
    for kind, weight in zip(by_kind, weights, strict=True):
        for answer in kind:
            corrected = float(answer.first @ slopes) + constant + first.shift
            order, of_first = calibration.hit_parts(
                answer.pair, answer.nearness, corrected, geometry=count_matches is not None
            )
            best = np.argsort(-order, kind="stable")
            best = best[best != answer.at][: _JUDGED_HITS - 1]
            best = best[answer.judged[best]]
            parts.append(np.stack(np.broadcast_arrays(order[best], of_first), axis=1))
            right.append(answer.right[best])
            share = weight * _WEIGHT_OF_FURTHER_HITS / (_JUDGED_HITS - 1)
            hit_weights.append(np.full(len(best), share))
    order_slope, first_slope, shift = fit_correction(
        np.concatenate(parts),
        0.0,
        np.concatenate(right),
        np.concatenate(hit_weights),
        _FURTHER_PRECISION,
    )
    further = FurtherCorrection(max(_MIN_ORDER_SLOPE, order_slope), max(0.0, first_slope), shift)
    return Corrections(first, further, len(answers))


def fit_correction(
    parts: Values,
    constant: float,
    right: NDArray[np.bool_],
    weights: NDArray[np.floating[Any]],
    precisions: tuple[float, float, float],
) -> tuple[float, float, float]:
    """Return the slope of each part and the shift with which log-odds fit what is right best.

    The maximum of the posterior, by Newton's method. Its prior keeps the log-odds as they are.

    Args:
        parts: (n, 2) what the log-odds are the sum of.
        constant: what they have in addition.
        right: (n,).
        weights: (n,) how much each counts.
        precisions: of the prior, of both slopes and of the shift.

    Returns:
        Both slopes and the shift.
    """
    terms = np.column_stack([parts, np.ones(len(parts))]).astype(np.float64)
    prior = np.array([1.0, 1.0, 0.0])
    precision = np.diag(precisions)
    values = prior.copy()
    for _ in range(_MAX_NEWTON_STEPS):
        likely = probability(terms @ values + constant)
        gradient = terms.T @ (weights * (right - likely)) - precision @ (values - prior)
        curvature = (terms * (weights * likely * (1 - likely))[:, None]).T @ terms + precision
        step = np.linalg.solve(curvature, gradient)
        values += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    first, second, shift = values.tolist()
    return first, second, shift


def _questions(labels: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the photos that are asked with their label shown, and with it hidden."""
    # Photos are in the order of their content hashes, so the first ones are a random sample.
    labelled = np.flatnonzero(labels >= 0)
    sizes = np.bincount(labels[labelled], minlength=1)
    with_others = labelled[sizes[labels[labelled]] > 1]
    return with_others[:_MAX_QUESTIONS], labelled[:_MAX_QUESTIONS]


@dataclass(frozen=True, slots=True)
class _Collection:
    """Everything that a question needs. It has m different photos.

    Attributes:
        snapshot: of the collection.
        photos: its different photos.
        graph: of these photos.
        count_matches: verifies photos; None: geometry is not asked for.
        calibration: whose log-odds are tested.
        labels: (m,) the number of each label, -1 for a photo without one.
        sample: (s,) photos that tell which similarity is usual: the first s.
        compared: (c,) photos that every question is compared with: all of a small collection, else
            the sample.
        asked: (q,) photos, ascending.
        similarities: (q, c) of the asked photos to the compared ones.
    """

    snapshot: Snapshot
    photos: DistinctPhotos
    graph: Graph
    count_matches: CountConsistentMatches | None
    calibration: Calibration
    labels: NDArray[np.intp]
    sample: NDArray[np.intp]
    compared: NDArray[np.intp]
    asked: NDArray[np.intp]
    similarities: NDArray[np.float32]

    def ask(self, photo: int, *, shown: bool) -> _Answer | None:
        """Search for a photo in the rest of the collection.

        Args:
            photo: the query, one of `asked`.
            shown: show the photos of its label.

        Returns:
            None if nobody knows whether the first hit is right.
        """
        links = slice(self.graph.starts[photo], self.graph.starts[photo + 1])
        linked = self.graph.ends[links].astype(np.intp)
        hidden = np.array([photo])
        if not shown:
            hidden = np.flatnonzero(self.labels == self.labels[photo])
        similarity_of = np.zeros(len(self.labels), np.float32)
        similarity_of[self.compared] = self.similarities[np.searchsorted(self.asked, photo)]
        others = similarity_of[np.setdiff1d(self.sample, hidden)]
        mean, std = (float(one[0]) for one in self.calibration.background.estimate(others[None]))
        query = self._descriptors(np.array([photo]))[0]
        beyond = linked[linked >= len(self.compared)]
        similarity_of[beyond] = self._descriptors(beyond) @ query
        found = np.setdiff1d(np.union1d(self.compared, linked), hidden)
        consistent_of = np.zeros(len(self.labels))
        nearest = found[np.argsort(-similarity_of[found], kind="stable")[:_VERIFIED_PHOTOS]]
        consistent_of[nearest] = self._consistent_matches(photo, nearest)
        is_sure = consistent_of > _SURE_CHANCE_FACTOR * self.calibration.chance_matches
        if not shown:
            hidden = np.union1d(hidden, np.flatnonzero(is_sure))
            found = np.setdiff1d(found, hidden)
        if not len(found):
            return None
        evidence = self._pair(found, similarity_of, consistent_of, mean, std)
        first = int(found[evidence.argmax()])
        reached, near = nearness(self.graph, first, without=hidden.tolist())
        hits = np.union1d(found, reached[near > MIN_NEARNESS])
        beyond = np.setdiff1d(hits, found)
        beyond = beyond[beyond >= len(self.compared)]
        similarity_of[beyond] = self._descriptors(beyond) @ query
        nearness_of_hits = np.zeros(len(hits))
        places = np.searchsorted(reached, hits).clip(max=len(reached) - 1)
        is_reached = reached[places] == hits
        nearness_of_hits[is_reached] = near[places[is_reached]]
        at = int(np.searchsorted(hits, first))
        same_label = self.labels[hits] == self.labels[photo]
        judged = (self.labels[hits] >= 0) & (same_label | ~is_sure[hits])
        if not judged[at]:
            return None
        cautious = max(std, self.calibration.background.std)
        similarity, geometry, constant = self.calibration.first_parts(
            np.asarray((similarity_of[first] - mean) / cautious),
            None if self.count_matches is None else consistent_of[first],
        )
        return _Answer(
            first=np.array([similarity, geometry], np.float64),
            constant=constant,
            pair=self._pair(hits, similarity_of, consistent_of, mean, std),
            nearness=nearness_of_hits,
            at=at,
            right=same_label,
            judged=judged,
        )

    def _descriptors(self, some: NDArray[np.intp]) -> NDArray[np.float32]:
        return as_float32(self.snapshot.descriptors[self.photos.row_of_photo[some]])

    def _consistent_matches(self, photo: int, others: NDArray[np.intp]) -> Sequence[int]:
        if self.count_matches is None:
            return [0] * len(others)
        rows = self.photos.row_of_photo
        return self.count_matches(int(rows[photo]), rows[others].tolist())

    def _pair(
        self,
        others: NDArray[np.intp],
        similarity_of: NDArray[np.float32],
        consistent_of: NDArray[np.float64],
        mean: float,
        std: float,
    ) -> Values:
        """Return the log-odds (o,) that the query and each of the others show the same."""
        consistent = None if self.count_matches is None else consistent_of[others]
        return self.calibration.pair_logit((similarity_of[others] - mean) / std, consistent)


def _collection(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    graph: Graph,
    count_matches: CountConsistentMatches | None,
    calibration: Calibration,
    labels: NDArray[np.intp],
    asked: NDArray[np.intp],
) -> _Collection:
    m = len(photos.row_of_photo)
    sample = np.arange(min(m, SAMPLE_PHOTOS))
    compared = np.arange(m) if m < CELLS_FROM_PHOTOS else sample
    questions = as_float32(snapshot.descriptors[photos.row_of_photo[asked]])
    similarities = np.empty((len(asked), len(compared)), np.float32)
    for start in range(0, len(compared), _BLOCK_PHOTOS):
        rows = photos.row_of_photo[compared[start : start + _BLOCK_PHOTOS]]
        block = as_float32(snapshot.descriptors[rows])
        similarities[:, start : start + len(rows)] = questions @ block.T
    return _Collection(
        snapshot,
        photos,
        graph,
        count_matches,
        calibration,
        labels,
        sample,
        compared,
        asked,
        similarities,
    )


def _labels_of_photos(snapshot: Snapshot, photos: DistinctPhotos) -> NDArray[np.intp]:
    """Return the number of the label of each photo, -1 for none, or if its copies disagree.

    The order of the rows must not decide which copy counts.
    """
    names = snapshot.rows["label"].slice(0, snapshot.photos).to_pylist()
    number_of_label = {name: number for number, name in enumerate(sorted({*names} - {None}))}
    of_rows = np.array([number_of_label.get(name, -1) for name in names], np.intp)
    labelled = of_rows >= 0
    shape = len(photos.contents)
    lowest, highest = np.full(shape, len(number_of_label), np.intp), np.full(shape, -1, np.intp)
    np.minimum.at(lowest, photos.photo_of_row[labelled], of_rows[labelled])
    np.maximum.at(highest, photos.photo_of_row[labelled], of_rows[labelled])
    return np.where(lowest == highest, highest, -1)
