"""A linear classifier on descriptors, trained in closed form.

Ridge regression of one-against-the-rest targets (R. Rifkin, G. Yeo, T. Poggio, Regularized
least-squares classification, 2003). Photos without a label and the background of the encoder are
examples against every label. The
scores that a photo would have without itself, or without its whole class, follow without training
again. Confidence is fitted on these scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.index.snapshot import as_float32
from veduta.recognize.labelled_gallery import UNLABELLED, LabelledGallery

__all__ = [
    "MIN_LENGTH",
    "RIDGE",
    "LinearClassifier",
    "LinearTraining",
    "Scores",
    "comparable",
    "train",
]

RIDGE = 0.1
"""Ridge as a share of the mean square; docs/results.md has the accuracy of other values."""

MIN_LENGTH = 1e-12
"""A shorter vector is divided by this instead of by its length."""

_PHOTOS_OF_HALF_SCORE = 1.2
"""Against a background a label of this many photos reaches half of the score that one of very many
photos reaches. On objects20 it is 1.5 to 1.8, on scenes 0.8."""

_BLOCK_ROWS = 4096

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LinearClassifier:
    """A trained classifier of d-dimensional descriptors into C classes.

    Attributes:
        mean: (d,) mean descriptor.
        centred_mean: (d,) mean of the descriptors after `mean` was subtracted and their length was
            made one.
        weights: (d, C) float32.
        bias: (C,) share of the photos that have each label.
    """

    mean: NDArray[np.float32]
    centred_mean: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: Scores

    def scores(self, descriptors: NDArray[np.floating]) -> Scores:
        """Return the scores of descriptors for each label: about 1 for their own, 0 for others.

        Args:
            descriptors: (m, d) of any float type.

        Returns:
            (m, C) float64.
        """
        scores: Scores = (self._centred(descriptors) @ self.weights).astype(np.float64) + self.bias
        return scores

    def _centred(self, descriptors: NDArray[np.floating]) -> NDArray[np.float32]:
        return _unit(descriptors.astype(np.float32) - self.mean) - self.centred_mean


@dataclass(frozen=True, slots=True, eq=False)
class LinearTraining:
    """A trained classifier, and what its scores without some of the photos follow from.

    Attributes:
        linear: the classifier.
        inverse: (d, d) inverse of the regularised second moments.
        labelled: the gallery that it was trained on.
    """

    linear: LinearClassifier
    inverse: NDArray[np.float32]
    labelled: LabelledGallery

    def held_out(self, row: int, excluded_rows: NDArray[np.intp]) -> Scores:
        """Return (C,): the scores of a gallery photo by a classifier trained without some rows.

        The residuals e of the excluded rows follow from their residuals r in the full training and
        their block H of the hat matrix: (I - H) e = r.

        Args:
            row: the photo, an example.
            excluded_rows: (m,) rows of the gallery; `row` is one of them.

        Returns:
            One score a label.
        """
        snapshot = self.labelled.gallery.snapshot
        excluded = excluded_rows[self.labelled.examples[excluded_rows]]
        centred = self.linear._centred(snapshot.take(excluded))
        hat = centred @ self.inverse @ centred.T + 1 / self.labelled.example_count
        targets = _targets(self.labelled.class_ids[excluded], len(self.labelled.names))
        residuals = targets - (centred @ self.linear.weights + self.linear.bias)
        held_out = np.linalg.solve(np.eye(len(excluded)) - hat.astype(np.float64), residuals)
        position = int(np.flatnonzero(excluded == row)[0])
        scores: Scores = targets[position] - held_out[position]
        return scores


def comparable(counts: NDArray[np.integer]) -> Scores:
    """Return factors that make the scores of labels comparable, if there is a background.

    The fewer photos a label has, the lower the ridge regression keeps the scores of all photos.

    Args:
        counts: (C,) number of photos that the classifier was trained on; 0 counts as 1.

    Returns:
        (C,) float64, 1 or more.
    """
    factors: Scores = 1 + _PHOTOS_OF_HALF_SCORE / np.maximum(counts, 1)
    return factors


def train(labelled: LabelledGallery) -> LinearTraining:
    """Train on the examples of a gallery, in four passes over its descriptors.

    Memory is that of the weights and of two (d, d) matrices, whatever the number of photos.

    Args:
        labelled: the gallery.

    Returns:
        The trained classifier with its second moments.
    """
    snapshot = labelled.gallery.snapshot
    dimension, classes = snapshot.dimension, len(labelled.names)
    examples = labelled.order[labelled.examples[labelled.order]]
    count = labelled.example_count

    def blocks() -> Iterator[tuple[NDArray[np.integer], NDArray[np.float32]]]:
        for start in range(0, len(examples), _BLOCK_ROWS):
            rows = examples[start : start + _BLOCK_ROWS]
            yield labelled.class_ids[rows], as_float32(snapshot.descriptors[rows])
        if len(labelled.background):
            yield np.full(len(labelled.background), UNLABELLED), labelled.background

    mean = (sum(block.sum(axis=0, dtype=np.float64) for _, block in blocks()) / count).astype(
        np.float32
    )
    total = sum(_unit(block - mean).sum(axis=0, dtype=np.float64) for _, block in blocks())
    centred_mean = (total / count).astype(np.float32)
    sums = np.zeros((classes, dimension))
    for class_ids, block in blocks():
        has_label = class_ids != UNLABELLED
        centred = _unit(block[has_label] - mean) - centred_mean
        np.add.at(sums, class_ids[has_label], centred)
    inverse = _inverse(
        (_unit(block - mean) - centred_mean for _, block in blocks()), count, dimension
    )
    weights = (inverse @ sums.T).astype(np.float32)
    classifier = LinearClassifier(mean, centred_mean, weights, labelled.counts / count)
    return LinearTraining(classifier, inverse.astype(np.float32), labelled)


def _inverse(blocks: Iterator[NDArray[np.float32]], count: int, dimension: int) -> Scores:
    """Return (d, d): the inverse of the regularised second moments of `count` centred rows."""
    if count < dimension:
        # By the identity of Woodbury only a matrix of (count, count) has to be inverted.
        rows = np.concatenate(list(blocks)).astype(np.float64)
        products = rows @ rows.T
        ridge = RIDGE * max(np.trace(products) / count, 1e-12)
        products[np.diag_indices(count)] += ridge
        inverse: Scores = rows.T @ np.linalg.solve(products, rows)
        inverse *= -1 / ridge
        inverse[np.diag_indices(dimension)] += 1 / ridge
        return inverse
    moments = np.zeros((dimension, dimension))
    for block in blocks:
        moments += block.T @ block
    moments[np.diag_indices(dimension)] += RIDGE * max(np.trace(moments) / count, 1e-12)
    return np.asarray(np.linalg.inv(moments))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(lengths, MIN_LENGTH)
    return unit


def _targets(class_ids: NDArray[np.int32], classes: int) -> Scores:
    targets = np.zeros((len(class_ids), classes))
    has_label = class_ids != UNLABELLED
    targets[np.flatnonzero(has_label), class_ids[has_label]] = 1
    return targets
