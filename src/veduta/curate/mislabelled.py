"""Photos whose label is probably wrong: confident learning (C. Northcutt, L. Jiang, I. Chuang,
Confident learning: estimating uncertainty in dataset labels, 2021).

What each photo shows is asked of the linear recogniser trained on all others: ridge regression
gives the answer without a photo, and without its copies, in closed form, so there are no folds. A
softmax, whose sharpness is fitted by maximum likelihood on these answers together with the share of
wrong labels, makes probabilities of the scores. A photo shows a class when its probability is at
least the mean that photos with that label have; the most probable of such classes is the
suggestion, and where it is not the label, the label is probably wrong: the confident joint's
off-diagonal. Nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.class_members import ENOUGH
from veduta.recognize.labelled_gallery import UNLABELLED, LabelledGallery

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from veduta.curate.class_members import ClassMembers
    from veduta.recognize.linear import LinearTraining

__all__ = ["Mislabelled", "confident", "find_mislabelled", "sharpness"]

_FITTED, _FITTED_SCORES = 4000, 1_000_000  # photos and scores that the sharpness is fitted on
_STEPS = 500  # of expectation and maximisation, which need about fifty
_WRONG_AT_FIRST = 0.05
_PRIOR = 1e-3  # weight of a normal prior on the sharpness of standardised scores, a photo


@dataclass(frozen=True, slots=True)
class Mislabelled:
    """A photo whose label is probably wrong.

    `place`
        among the members.
    `own`
        probability in [0, 1] of the label that it has.
    `suggested`
        place of another class among the names.
    `probability`
        of that class, in [0, 1].
    """

    place: int
    own: float
    suggested: int
    probability: float


def find_mislabelled(members: ClassMembers, index: Path) -> list[Mislabelled]:
    """Find the photos whose label is probably wrong, in the order of the members.

    Classes with fewer than `ENOUGH` photos are neither judged nor suggested. Three passes over the
    descriptors; memory is that of the weights and of a block of scores.

    Args:
        members: the photos; those of no class are examples of none.
        index: the folder that their snapshot belongs to.

    Returns:
        Empty where there are fewer than two classes to tell apart.
    """
    judged = members.judged
    classes = np.unique(members.codes[judged]).astype(np.intp)
    if len(classes) < 2:
        return []
    held_out = _HeldOut(members, index, classes)
    fitted = min(_FITTED, max(ENOUGH * 100, _FITTED_SCORES // len(classes)))
    step = max(1, int(np.count_nonzero(judged)) // fitted)
    sample = np.flatnonzero(judged)[::step]
    place_of = np.full(len(members.names), -1)
    place_of[classes] = np.arange(len(classes))
    own_class = place_of[members.codes]
    scale, _ = sharpness(held_out.scores(sample), own_class[sample])

    def probabilities() -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for block in members.blocks():
            some = block[judged[block]]
            if len(some):
                yield some, _softmax(scale * held_out.scores(some))

    sums, counts = np.zeros(len(classes)), np.zeros(len(classes))
    for some, probability in probabilities():
        own = probability[np.arange(len(some)), own_class[some]]
        np.add.at(sums, own_class[some], own)
        np.add.at(counts, own_class[some], 1)
    found = []
    for some, probability in probabilities():
        shown = confident(probability, sums / counts)
        for at in np.flatnonzero((shown >= 0) & (shown != own_class[some])).tolist():
            suggested = int(shown[at])
            own = float(probability[at, own_class[some[at]]])
            found.append(
                Mislabelled(
                    int(some[at]), own, int(classes[suggested]), float(probability[at, suggested])
                )
            )
    return found


def confident(probability: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return (n,) the class that each photo shows, -1 where none reaches its threshold.

    Args:
        probability: (n, C) in [0, 1].
        least: (C,) the mean probability of each class among the photos with that label.
    """
    reached = np.where(probability >= least - 1e-12, probability, -1.0)
    shown: NDArray[np.intp] = reached.argmax(axis=1)
    shown[reached.max(axis=1) < 0] = -1
    return shown


def sharpness(scores: NDArray[np.float64], labels: NDArray[np.intp]) -> tuple[float, float]:
    """Return the sharpness s > 0 and the share of wrong labels in [0, 1] that are most likely.

    A label is what softmax(s · scores) draws, or, for the share that is wrong, any class. Without
    that share each wrong label would make all probabilities softer, and so harder to be confident
    in. Fitted by expectation and maximisation, with a step of Newton's method for s.

    Args:
        scores: (n, C).
        labels: (n,) in [0, C).
    """
    spread = float(scores.std()) or 1.0
    table = scores / spread
    rows, classes = np.arange(len(table)), scores.shape[1]
    own = table[rows, labels]
    found, wrong = 1.0, _WRONG_AT_FIRST
    for _ in range(_STEPS):
        probability = _softmax(found * table)
        right = (1 - wrong) * probability[rows, labels]
        meant = right / (right + wrong / classes)
        mean = (probability * table).sum(axis=1)
        slope = float((meant * (own - mean)).mean()) - _PRIOR * found
        spreads = (probability * table * table).sum(axis=1) - mean**2
        curve = float((meant * spreads).mean()) + _PRIOR
        step = float(np.clip(slope / curve, -found / 2, found))
        before, wrong = wrong, float(1 - meant.mean())
        found += step
        if abs(step) < 1e-7 * found and abs(wrong - before) < 1e-9:
            break
    return found / spread, wrong


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


class _HeldOut:
    """What the linear recogniser says of a photo when neither it nor its copies were there."""

    def __init__(self, members: ClassMembers, index: Path, classes: NDArray[np.intp]) -> None:
        from veduta.recognize.linear import train
        from veduta.search.reranking import open_gallery

        codes = np.full(members.snapshot.photos, UNLABELLED, np.int32)
        codes[members.rows] = members.codes
        outsiders = members.rows[members.codes == UNLABELLED].astype(np.intp)
        self._members = members
        self._classes = classes
        self._training: LinearTraining = train(
            LabelledGallery(open_gallery(index), members.names, codes, outsiders)
        )
        self._examples = int(np.count_nonzero(self._training.labelled.examples))
        self._copies = {place: group for group in members.copies for place in group}

    def scores(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return (m, C) for `places` (m,), C of them the classes asked for."""
        told, inverse = self._answers(places), self._training.inverse
        centred = self._centred(places)
        hat = np.einsum("nd,nd->n", centred @ inverse, centred) + 1 / self._examples
        targets = self._targets(places)
        held = targets - (targets - told) / (1 - hat.astype(np.float64))[:, np.newaxis]
        at = {int(place): row for row, place in enumerate(places)}
        groups = {self._copies[place] for place in at if place in self._copies}
        for group in groups:
            together = self._together(np.array(group, np.intp))
            for place, scores in zip(group, together, strict=True):
                if place in at:
                    held[at[place]] = scores
        chosen: NDArray[np.float64] = held[:, self._classes]
        return chosen

    def _together(self, group: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return (g, C) without any of a group: their residuals e follow from (I - H) e = r."""
        centred, targets = self._centred(group), self._targets(group)
        hat = centred @ self._training.inverse @ centred.T + 1 / self._examples
        residuals = targets - self._answers(group)
        left: NDArray[np.float64] = targets - np.linalg.solve(
            np.eye(len(group)) - hat.astype(np.float64), residuals
        )
        return left

    def _answers(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        return self._training.linear.scores(self._members.descriptors(places))

    def _centred(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        linear = self._training.linear
        away = self._members.descriptors(places) - linear.mean
        lengths = np.linalg.norm(away, axis=1, keepdims=True)
        centred: NDArray[np.float32] = away / np.maximum(lengths, 1e-12) - linear.centred_mean
        return centred

    def _targets(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        targets = np.zeros((len(places), len(self._members.names)))
        codes = self._members.codes[places]
        named = codes != UNLABELLED
        targets[np.flatnonzero(named), codes[named]] = 1
        return targets
