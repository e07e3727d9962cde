"""A collection asks itself how far a calibration holds for it.

The models of `veduta.index.calibration` were fitted on other collections. In one with three
photos of each place a hit that the graph adds is wrong more often than in one with thirty. If the
photos have labels, the collection itself knows better. Each of some photos is a query twice: once
as it is, and once while all photos of its label are hidden, as for a query that the collection does
not have. The answers say how the log-odds of first hits and of further hits must be moved
(J. Platt, Probabilistic outputs for support vector machines, 1999). With few answers they move
little.

Labels are not always places. A hit with another label that agrees with the query in very many
keypoints is no wrong hit, and hits without a label say nothing. A photo whose copies have different
labels counts as one without.

Only the links of the graph have been verified. So in an answer all other photos count as photos
with no consistent match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.index.calibration import (
    MIN_NEARNESS,
    Calibration,
    Correction,
    Corrections,
    Values,
    probability,
)
from veduta.index.diffusion import nearness
from veduta.index.distinct_photos import SAMPLE_PHOTOS, DistinctPhotos
from veduta.index.snapshot import as_float32

if TYPE_CHECKING:
    from veduta.index.graph import Graph
    from veduta.index.snapshot import Snapshot

__all__ = ["VerifiedPairs", "ask_itself", "fit_correction"]

_MAX_QUESTIONS = 100
"""How many photos are asked, with their label shown and with it hidden."""

_MIN_QUESTIONS = 30
"""A collection that answers fewer questions of either kind corrects nothing."""

_JUDGED_HITS = 10
"""How many hits of a question are judged."""

_SURE_CHANCE_FACTOR = 4
"""Two photos with this many times the consistent matches of any two photos show the same, whatever
their labels say."""

_WEIGHT_OF_A_KIND = 100.0
"""What all questions of one kind weigh together, against the prior."""

_WEIGHT_OF_FURTHER_HITS = 3.0
"""What the further hits of a question weigh together. They are not independent of each other."""

_SLOPE_PRECISION = 20.0
_SHIFT_PRECISION = 1.0
"""Of the normal prior around a slope of 1 and a shift of 0."""

_MAX_NEWTON_STEPS = 50
"""Newton's method needs about ten steps."""


@dataclass(frozen=True, slots=True)
class VerifiedPairs:
    """The pairs of photos of a graph whose geometry is known.

    Attributes:
        numbers: (l,) int64, ascending: first photo · m + second photo, the smaller one first.
        consistent_matches: (l,), see `veduta.keypoints.Verification`.
    """

    numbers: NDArray[np.int64]
    consistent_matches: NDArray[np.float64]

    def of_photo(self, photo: int, others: NDArray[np.intp], m: int) -> NDArray[np.float64]:
        """Return the consistent matches (o,) of a photo with others; 0 where they are not known.

        Args:
            photo: of m.
            others: (o,) of m.
            m: number of photos.
        """
        if not len(self.numbers):
            return np.zeros(len(others))
        wanted = np.minimum(photo, others) * np.int64(m) + np.maximum(photo, others)
        places = np.searchsorted(self.numbers, wanted).clip(max=len(self.numbers) - 1)
        return np.where(self.numbers[places] == wanted, self.consistent_matches[places], 0.0)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The hits of one question.

    Attributes:
        first: log-odds of the first hit.
        pair: (h,) log-odds of the pairs of all hits, the first hit among them.
        nearness: (h,) to the first hit.
        at: the position of the first hit.
        right: (h,) bool.
        judged: (h,) bool, whether it is known if they are right.
    """

    first: float
    pair: Values
    nearness: Values
    at: int
    right: NDArray[np.bool_]
    judged: NDArray[np.bool_]


def ask_itself(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    graph: Graph,
    verified: VerifiedPairs | None,
    calibration: Calibration,
) -> Corrections:
    """Return how the log-odds of `calibration` must be moved for a collection.

    Args:
        snapshot: of the collection.
        photos: its different photos, m of them.
        graph: of these photos.
        verified: the pairs whose geometry is known; None: the models without geometry are asked.
        calibration: of the encoder and the keypoints.

    Returns:
        Corrections that change nothing if too few photos have a label.
    """
    collection = _collection(snapshot, photos, graph, verified, calibration)
    questions = collection.questions()
    if min(map(len, questions)) < _MIN_QUESTIONS:
        return Corrections()
    by_kind = [
        [answer for photo in kind.tolist() if (answer := collection.ask(photo, shown=shown))]
        for kind, shown in zip(questions, (True, False), strict=True)
    ]
    if min(map(len, by_kind)) < _MIN_QUESTIONS:
        return Corrections()
    weights = [_WEIGHT_OF_A_KIND / len(kind) for kind in by_kind]
    first = fit_correction(
        np.array([answer.first for kind in by_kind for answer in kind]),
        np.array([answer.right[answer.at] for kind in by_kind for answer in kind]),
        np.repeat(weights, [len(kind) for kind in by_kind]),
    )
    logits, right, hit_weights = [], [], []
    for kind, weight in zip(by_kind, weights, strict=True):
        for answer in kind:
            corrected = float(first.apply(np.asarray(answer.first)))
            of_hits = calibration.hit_logit(
                answer.pair, answer.nearness, corrected, geometry=verified is not None
            )
            best = np.argsort(-of_hits, kind="stable")
            best = best[best != answer.at][: _JUDGED_HITS - 1]
            best = best[answer.judged[best]]
            logits.append(of_hits[best])
            right.append(answer.right[best])
            share = weight * _WEIGHT_OF_FURTHER_HITS / (_JUDGED_HITS - 1)
            hit_weights.append(np.full(len(best), share))
    further = fit_correction(
        np.concatenate(logits), np.concatenate(right), np.concatenate(hit_weights)
    )
    return Corrections(first, further, sum(map(len, by_kind)))


def fit_correction(
    logits: Values, right: NDArray[np.bool_], weights: NDArray[np.floating[Any]]
) -> Correction:
    """Return the slope and the shift by which log-odds fit what is right best.

    The maximum of the posterior, by Newton's method. Its prior keeps the log-odds as they are.

    Args:
        logits: (n,).
        right: (n,).
        weights: (n,) how much each counts.
    """
    terms = np.stack([logits, np.ones(len(logits))], axis=1).astype(np.float64)
    prior = np.array([1.0, 0.0])
    precision = np.diag([_SLOPE_PRECISION, _SHIFT_PRECISION])
    values = prior.copy()
    for _ in range(_MAX_NEWTON_STEPS):
        likely = probability(terms @ values)
        gradient = terms.T @ (weights * (right - likely)) - precision @ (values - prior)
        curvature = (terms * (weights * likely * (1 - likely))[:, None]).T @ terms + precision
        step = np.linalg.solve(curvature, gradient)
        values += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    # More evidence must never make a hit less likely.
    return Correction(max(0.0, float(values[0])), float(values[1]))


@dataclass(frozen=True, slots=True)
class _Collection:
    """Everything that a question needs. It has m different photos.

    Attributes:
        snapshot: of the collection.
        photos: its different photos.
        graph: of these photos.
        verified: the pairs whose geometry is known; None: geometry is not asked for.
        calibration: whose log-odds are tested.
        labels: (m,) the number of each label, -1 for a photo without one.
        sample: (s,) photos that tell which similarity is usual: the first s.
        sample_descriptors: (s, d).
    """

    snapshot: Snapshot
    photos: DistinctPhotos
    graph: Graph
    verified: VerifiedPairs | None
    calibration: Calibration
    labels: NDArray[np.intp]
    sample: NDArray[np.intp]
    sample_descriptors: NDArray[np.float32]

    def descriptors(self, some: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the descriptors of some photos."""
        return as_float32(self.snapshot.descriptors[self.photos.row_of_photo[some]])

    def consistent_matches(self, photo: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return those of a photo with others, 0 where they are not known."""
        if self.verified is None:
            return np.zeros(len(others))
        return self.verified.of_photo(photo, others, len(self.labels))

    def questions(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the photos that are asked with their label shown, and with it hidden."""
        # Photos are in the order of their content hashes, so the first ones are a random sample.
        labelled = np.flatnonzero(self.labels >= 0)
        sizes = np.bincount(self.labels[labelled], minlength=1)
        with_others = labelled[sizes[self.labels[labelled]] > 1]
        return with_others[:_MAX_QUESTIONS], labelled[:_MAX_QUESTIONS]

    def ask(self, photo: int, *, shown: bool) -> _Answer | None:
        """Search for a photo in the rest of the collection.

        Args:
            photo: the query.
            shown: show the photos of its label.

        Returns:
            None if nobody knows whether the first hit is right.
        """
        links = slice(self.graph.starts[photo], self.graph.starts[photo + 1])
        linked = self.graph.ends[links].astype(np.intp)
        hidden = np.array([photo])
        if not shown:
            same = np.flatnonzero(self.labels == self.labels[photo])
            hidden = np.union1d(same, linked[self._is_sure(photo, linked)])
        query = self.descriptors(np.array([photo]))[0]
        similarity_of = np.empty(len(self.labels), np.float32)
        similarity_of[self.sample] = self.sample_descriptors @ query
        others = similarity_of[self.sample[self.sample != photo]]
        mean, std = (float(one[0]) for one in self.calibration.background.estimate(others[None]))
        beyond_sample = linked[linked >= len(self.sample)]
        similarity_of[beyond_sample] = self.descriptors(beyond_sample) @ query
        found = np.setdiff1d(np.union1d(self.sample, linked), hidden)
        if not len(found):
            return None
        evidence = self._pair(photo, found, similarity_of[found], mean, std)
        first = int(found[evidence.argmax()])
        reached, near = nearness(self.graph, first, without=hidden.tolist())
        hits = np.union1d(found, reached[near > MIN_NEARNESS])
        added = np.setdiff1d(hits, found)
        similarity_of[added] = self.descriptors(added) @ query
        similarities = similarity_of[hits]
        nearness_of_hits = np.zeros(len(hits))
        places = np.searchsorted(reached, hits).clip(max=len(reached) - 1)
        is_reached = reached[places] == hits
        nearness_of_hits[is_reached] = near[places[is_reached]]
        at = int(np.searchsorted(hits, first))
        same_label = self.labels[hits] == self.labels[photo]
        judged = (self.labels[hits] >= 0) & (same_label | ~self._is_sure(photo, hits))
        if not judged[at]:
            return None
        cautious = max(std, self.calibration.background.std)
        consistent = self.consistent_matches(photo, hits[at : at + 1])
        first_logit = self.calibration.first_logit(
            (similarities[at : at + 1] - mean) / cautious,
            None if self.verified is None else consistent,
        )
        return _Answer(
            first=float(first_logit[0]),
            pair=self._pair(photo, hits, similarities, mean, std),
            nearness=nearness_of_hits,
            at=at,
            right=same_label,
            judged=judged,
        )

    def _pair(
        self,
        photo: int,
        others: NDArray[np.intp],
        similarities: NDArray[np.float32],
        mean: float,
        std: float,
    ) -> Values:
        """Return the log-odds (o,) that a photo and each of the others show the same."""
        consistent = None if self.verified is None else self.consistent_matches(photo, others)
        return self.calibration.pair_logit((similarities - mean) / std, consistent)

    def _is_sure(self, photo: int, others: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return (o,): whether keypoints prove that others show what a photo shows."""
        limit = _SURE_CHANCE_FACTOR * self.calibration.chance_matches
        is_sure: NDArray[np.bool_] = self.consistent_matches(photo, others) > limit
        return is_sure


def _collection(
    snapshot: Snapshot,
    photos: DistinctPhotos,
    graph: Graph,
    verified: VerifiedPairs | None,
    calibration: Calibration,
) -> _Collection:
    rows = photos.row_of_photo
    labels = _labels_of_photos(snapshot, photos)
    sample = np.arange(min(len(rows), SAMPLE_PHOTOS))
    sample_descriptors = as_float32(snapshot.descriptors[rows[sample]])
    return _Collection(
        snapshot, photos, graph, verified, calibration, labels, sample, sample_descriptors
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
