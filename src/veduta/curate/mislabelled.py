"""Find the photos whose label is probably wrong, by confident learning.

The method is that of C. Northcutt, L. Jiang and I. Chuang (Confident learning: estimating
uncertainty in dataset labels, 2021).

The class of each photo is predicted by the linear recogniser trained on all other photos. Ridge
regression has a closed form for the prediction without a photo and its copies, so no folds are
needed. A softmax turns the scores into probabilities. Its sharpness and the share of wrong labels
are fitted together by maximum likelihood on these predictions.

A photo confidently shows a class if its probability reaches the mean probability of the photos with
that label. The most probable of such classes is suggested. If it is not the label, the label is
probably wrong: the photo is off the diagonal of the confident joint. Nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.curate.class_members import MIN_CLASS_PHOTOS
from veduta.recognize.labelled_gallery import UNLABELLED, LabelledGallery

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from veduta.curate.class_members import ClassMembers
    from veduta.recognize.linear import LinearTraining

__all__ = [
    "HeldOutScores",
    "Mislabelled",
    "confident_classes",
    "find_mislabelled",
    "fit_sharpness",
    "softmax",
]

# The sharpness is fitted on a sample of the photos, which keeps the table of scores small. They are
# those with the smallest content hashes, so that the order of the files changes nothing.
_MAX_FITTED_PHOTOS = 4000
_MAX_FITTED_SCORES = 1_000_000
_MIN_FITTED_PHOTOS = 100 * MIN_CLASS_PHOTOS
# Of expectation and maximisation, which need about fifty.
_MAX_STEPS = 500
_MAX_LAST_STEP = 1e-7
_MAX_LAST_SHARE_CHANGE = 1e-9
_FIRST_WRONG_SHARE = 0.05
# Weight, for each photo, of a normal prior on the sharpness of standardised scores.
_PRIOR_WEIGHT = 1e-3
# A probability may miss its threshold by a rounding error.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Mislabelled:
    """A photo whose label is probably wrong.

    Attributes:
        member: position of the photo among the members.
        own_probability: of its label, in [0, 1].
        suggested: class id of another label.
        probability: of that label, in [0, 1].
    """

    member: int
    own_probability: float
    suggested: int
    probability: float


def find_mislabelled(members: ClassMembers, index: Path) -> list[Mislabelled]:
    """Find the photos whose label is probably wrong, in the order of the members.

    Classes with fewer than `MIN_CLASS_PHOTOS` photos are neither judged nor suggested. There are
    three passes over the descriptors. Memory is that of the weights and of a block of scores.

    Args:
        members: the photos. Those without a class are examples of no class.
        index: the folder of the index that their snapshot is of.

    Returns:
        The photos; none if there are fewer than two classes to compare.
    """
    judged = members.judged
    classes = np.unique(members.class_ids[judged]).astype(np.intp)
    if len(classes) < 2:
        return []
    held_out = HeldOutScores(members, index, classes)
    fitted = min(_MAX_FITTED_PHOTOS, max(_MIN_FITTED_PHOTOS, _MAX_FITTED_SCORES // len(classes)))
    sample = members.by_content(np.flatnonzero(judged))[:fitted]
    column_of = np.full(len(members.names), -1)
    column_of[classes] = np.arange(len(classes))
    own_column = column_of[members.class_ids]
    sharpness, _ = fit_sharpness(held_out.scores(sample), own_column[sample])

    def probabilities() -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for block in members.blocks():
            judged_block = block[judged[block]]
            if len(judged_block):
                yield judged_block, softmax(sharpness * held_out.scores(judged_block))

    sums, counts = np.zeros(len(classes)), np.zeros(len(classes))
    for block, probability in probabilities():
        own = probability[np.arange(len(block)), own_column[block]]
        np.add.at(sums, own_column[block], own)
        np.add.at(counts, own_column[block], 1)
    found = []
    for block, probability in probabilities():
        shown = confident_classes(probability, sums / counts)
        wrong = (shown >= 0) & (shown != own_column[block])
        for row in np.flatnonzero(wrong).tolist():
            column = int(shown[row])
            found.append(
                Mislabelled(
                    member=int(block[row]),
                    own_probability=float(probability[row, own_column[block[row]]]),
                    suggested=int(classes[column]),
                    probability=float(probability[row, column]),
                )
            )
    return found


def confident_classes(
    probability: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return the class (n,) that each photo confidently shows, -1 for none.

    Args:
        probability: (n, C) in [0, 1].
        thresholds: (C,) the mean probability of each class among the photos with that label.
    """
    reached = np.where(probability >= thresholds - _ROUNDING, probability, -1.0)
    shown: NDArray[np.intp] = reached.argmax(axis=1)
    shown[reached.max(axis=1) < 0] = -1
    return shown


def fit_sharpness(scores: NDArray[np.float64], labels: NDArray[np.intp]) -> tuple[float, float]:
    """Fit the sharpness of a softmax and the share of wrong labels by maximum likelihood.

    The model draws a label from softmax(sharpness · scores), or, for the wrong share, any class
    with the same probability. Without that share, each wrong label would make all probabilities
    softer. The fit alternates expectation and maximisation, with a Newton step for the sharpness.

    Args:
        scores: (n, C).
        labels: (n,) in [0, C).

    Returns:
        The sharpness, above 0, and the share of wrong labels, in [0, 1].
    """
    std = float(scores.std()) or 1.0
    standardised = scores / std
    rows, classes = np.arange(len(scores)), scores.shape[1]
    own = standardised[rows, labels]
    sharpness, wrong_share = 1.0, _FIRST_WRONG_SHARE
    for _ in range(_MAX_STEPS):
        probability = softmax(sharpness * standardised)
        right = (1 - wrong_share) * probability[rows, labels]
        right_share = right / (right + wrong_share / classes)
        mean = (probability * standardised).sum(axis=1)
        gradient = float((right_share * (own - mean)).mean()) - _PRIOR_WEIGHT * sharpness
        variance = (probability * standardised * standardised).sum(axis=1) - mean**2
        curvature = float((right_share * variance).mean()) + _PRIOR_WEIGHT
        step = float(np.clip(gradient / curvature, -sharpness / 2, sharpness))
        before, wrong_share = wrong_share, float(1 - right_share.mean())
        sharpness += step
        converged = abs(step) < _MAX_LAST_STEP * sharpness
        if converged and abs(wrong_share - before) < _MAX_LAST_SHARE_CHANGE:
            break
    return sharpness / std, wrong_share


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax (n, C) of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


class HeldOutScores:
    """Scores of photos by the linear recogniser, trained without the photo and its copies."""

    def __init__(self, members: ClassMembers, index: Path, classes: NDArray[np.intp]) -> None:
        """Train the recogniser.

        Args:
            members: the photos.
            index: the folder of the index that their snapshot is of.
            classes: ids of the C classes to return scores for.
        """
        from veduta.recognize.linear import train
        from veduta.search.reranking import open_gallery

        class_ids = np.full(members.snapshot.photos, UNLABELLED, np.int32)
        class_ids[members.rows] = members.class_ids
        outsiders = members.rows[members.class_ids == UNLABELLED].astype(np.intp)
        gallery = open_gallery(index)
        no_background = np.empty((0, gallery.snapshot.dimension), np.float32)
        self._members = members
        self._classes = classes
        self._training: LinearTraining = train(
            LabelledGallery(gallery, members.names, class_ids, outsiders, no_background)
        )
        self._examples = int(np.count_nonzero(self._training.labelled.examples))
        self._copies_of = {member: group for group in members.copies for member in group}

    def scores(self, members: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the scores (m, C) of some photos.

        Args:
            members: (m,) positions among the members.
        """
        predicted, inverse = self._predicted(members), self._training.inverse
        centred = self._centred(members)
        leverage = np.einsum("nd,nd->n", centred @ inverse, centred) + 1 / self._examples
        targets = self._targets(members)
        residuals = targets - predicted
        held_out = targets - residuals / (1 - leverage.astype(np.float64))[:, np.newaxis]
        row_of = {int(member): row for row, member in enumerate(members)}
        groups = {self._copies_of[member] for member in row_of if member in self._copies_of}
        for group in groups:
            group_scores = self._group_scores(np.array(group, np.intp))
            for member, scores in zip(group, group_scores, strict=True):
                if member in row_of:
                    held_out[row_of[member]] = scores
        chosen: NDArray[np.float64] = held_out[:, self._classes]
        return chosen

    def _group_scores(self, group: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the scores of a group, trained without it: the residuals e solve (I - H) e = r."""
        centred, targets = self._centred(group), self._targets(group)
        hat = centred @ self._training.inverse @ centred.T + 1 / self._examples
        residuals = targets - self._predicted(group)
        scores: NDArray[np.float64] = targets - np.linalg.solve(
            np.eye(len(group)) - hat.astype(np.float64), residuals
        )
        return scores

    def _predicted(self, members: NDArray[np.intp]) -> NDArray[np.float64]:
        return self._training.linear.scores(self._members.descriptors(members))

    def _centred(self, members: NDArray[np.intp]) -> NDArray[np.float32]:
        linear = self._training.linear
        difference = self._members.descriptors(members) - linear.mean
        lengths = np.linalg.norm(difference, axis=1, keepdims=True)
        centred: NDArray[np.float32] = difference / np.maximum(lengths, 1e-12) - linear.centred_mean
        return centred

    def _targets(self, members: NDArray[np.intp]) -> NDArray[np.float64]:
        targets = np.zeros((len(members), len(self._members.names)))
        class_ids = self._members.class_ids[members]
        labelled = class_ids != UNLABELLED
        targets[np.flatnonzero(labelled), class_ids[labelled]] = 1
        return targets
