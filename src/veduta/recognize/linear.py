"""A linear recogniser on descriptors, trained in closed form.

Ridge regression of one-against-the-rest targets (R. Rifkin, G. Yeo, T. Poggio, Regularized
least-squares classification, 2003). Photos without a label are examples against every label. What
the same recogniser would have said of a photo, had that photo or its whole class not been there,
follows without training again, so that confidence can be fitted on honest answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.recognize.labelled import UNLABELLED, Labelled

RIDGE = 0.1  # of the mean square; docs/recognition.md has its neighbours
_BLOCK = 4096  # rows in memory at a time

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A trained recogniser.

    Attributes:
        middle: (d,) mean descriptor.
        shift: (d,) mean of the descriptors after `middle` was taken off and their length made one.
        weights: (d, C) float32.
        bias: (C,) share of the photos that have each label.
    """

    middle: NDArray[np.float32]
    shift: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: Scores

    def scores(self, descriptors: NDArray[np.floating]) -> Scores:
        """Return (m, C): how much each of m descriptors (m, d) looks like each label; 1: as much
        as photos of that label do, 0: as little as others.
        """
        scores: Scores = (self._centred(descriptors) @ self.weights).astype(np.float64) + self.bias
        return scores

    def _centred(self, descriptors: NDArray[np.floating]) -> NDArray[np.float32]:
        return _unit(descriptors.astype(np.float32) - self.middle) - self.shift


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A recogniser and what tells how it would have answered with photos left out."""

    linear: Linear
    inverse: NDArray[np.float32]
    """(d, d) of the regularised second moments."""
    known: Labelled

    def held_out(self, row: int, without: NDArray[np.intp]) -> Scores:
        """Return (C,): the scores of a gallery photo, had the rows `without` not been there.

        `without` holds `row` itself, which is an example. The residuals e of rows left out together
        follow from their residuals r with everything in place and their block H of the hat matrix:
        (I - H) e = r.
        """
        gallery = self.known.gallery.snapshot
        without = without[self.known.examples[without]]
        centred = self.linear._centred(gallery.take(without))
        hat = centred @ self.inverse @ centred.T + 1 / np.count_nonzero(self.known.examples)
        targets = _targets(self.known.codes[without], len(self.known.names))
        residuals = targets - (centred @ self.linear.weights + self.linear.bias)
        left = np.linalg.solve(np.eye(len(without)) - hat.astype(np.float64), residuals)
        at = int(np.flatnonzero(without == row)[0])
        scores: Scores = targets[at] - left[at]
        return scores


def train(known: Labelled) -> Training:
    """Train on the examples of a gallery, in three passes over its descriptors.

    Memory is that of the weights and of two (d, d) matrices, whatever the number of photos.
    """
    snapshot = known.gallery.snapshot
    width, classes = snapshot.dimension, len(known.names)
    count = int(np.count_nonzero(known.examples))

    def blocks() -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        for start in range(0, snapshot.photos, _BLOCK):
            part = slice(start, start + _BLOCK)
            examples = known.examples[part]
            rows = snapshot.descriptors[part][examples].astype(np.float32)
            yield known.codes[part][examples], rows

    middle = (sum(block.sum(axis=0, dtype=np.float64) for _, block in blocks()) / count).astype(
        np.float32
    )
    total = sum(_unit(block - middle).sum(axis=0, dtype=np.float64) for _, block in blocks())
    shift = (total / count).astype(np.float32)
    moments = np.zeros((width, width))
    sums = np.zeros((classes, width))
    for codes, block in blocks():
        centred = _unit(block - middle) - shift
        moments += centred.T @ centred
        named = codes != UNLABELLED
        np.add.at(sums, codes[named], centred[named])
    moments[np.diag_indices(width)] += RIDGE * max(np.trace(moments) / count, 1e-12)
    inverse = np.linalg.inv(moments)
    bias = known.counts / count
    linear = Linear(middle, shift, (inverse @ sums.T).astype(np.float32), bias)
    return Training(linear, inverse.astype(np.float32), known)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(lengths, 1e-12)
    return unit


def _targets(codes: NDArray[np.int32], classes: int) -> Scores:
    targets = np.zeros((len(codes), classes))
    named = codes != UNLABELLED
    targets[np.flatnonzero(named), codes[named]] = 1
    return targets
