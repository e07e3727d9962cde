"""What the evidence is worth: from similarity, geometry and graph to a probability.

Three logistic models, fitted for each encoder on labelled photos by `tools/fit_calibration.py` and
kept in `calibrations.json` under the encoder's identity:

- *pair*: the probability that two photos show the same place or object, from how far their
  similarity stands out and from the geometry that they agree on;
- *alike*: the same without geometry;
- *found*: the probability of a hit of a search, from its pair evidence, its nearness in the graph
  to the best hit, and the evidence for that best hit.

A similarity is taken in standard deviations from the mean over the collection (`Background`). In
those units two encoders, or two collections, are much alike, which is why an encoder without a
calibration of its own can use the generic one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("calibrations.json")
GENERIC = "generic"

FARTHEST = 5.0  # standard deviations; what stands out more is hardly more certain to be the same
_BEYOND = 0.02  # what a standard deviation counts from there on: enough to keep the order
KNEE = 8  # agreeing matches that any two photos may have
CERTAIN = 8.0  # log-odds; the evidence of one pair counts no more than this in the graph
UNREACHED = 1e-3  # share of the best hit's nearness below which the graph says nothing
_PRIOR_WEIGHT = 8  # photos; how much the prior counts beside those of the collection

Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Background:
    """Mean and standard deviation of a photo's cosine similarity to photos of other things."""

    mean: float
    spread: float

    def measured(self, similarities: Values) -> tuple[Values, Values]:
        """Return mean and spread (m,) of m photos from similarities (m, s) to a sample of photos.

        This prior counts as much as eight photos, so that a collection of three makes sense too.
        """
        count = similarities.shape[1] + _PRIOR_WEIGHT
        mean = (similarities.sum(axis=1) + _PRIOR_WEIGHT * self.mean) / count
        square = ((similarities - mean[:, None]) ** 2).sum(axis=1)
        square += _PRIOR_WEIGHT * (self.spread**2 + (self.mean - mean) ** 2)
        return mean, np.sqrt(square / count)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The models of one encoder. Weights are in the order of the arguments, the constant last."""

    background: Background
    alike: tuple[float, float]
    pair: tuple[float, float, float, float]
    found_alike: tuple[float, float, float, float]
    found: tuple[float, float, float, float]

    def alike_logit(self, deviations: Values) -> Values:
        """Return the log-odds that two photos show the same, from similarity alone.

        Args:
            deviations: standard deviations above the mean similarity.
        """
        return _weighted(self.alike, standing_out(deviations))

    def pair_logit(self, deviations: Values, agreeing: Values) -> Values:
        """Return the log-odds that two photos show the same, geometry included.

        Args:
            deviations: standard deviations above the mean similarity.
            agreeing: of `veduta.keypoints.Verification`; it tells pairs apart better than the
                inliers of one model do, which are few where a lens or a curved wall bends lines.
        """
        return _weighted(self.pair, standing_out(deviations), *geometry_terms(agreeing))

    def found_logit(self, pair: Values, nearness: Values, best: float, *, geometry: bool) -> Values:
        """Return the log-odds that a hit shows what the query shows.

        Args:
            pair: log-odds of the pair, from `pair_logit` or `alike_logit`.
            nearness: to the best hit in the graph, as a share of the best hit's own, in [0, 1].
            best: log-odds of the best hit's pair.
            geometry: which of the two is `pair` from.
        """
        weights = self.found if geometry else self.found_alike
        return _weighted(weights, *found_terms(pair, nearness, best))


def standing_out(deviations: Values) -> Values:
    """Return what a similarity counts, from its standard deviations above the mean."""
    beyond: Values = np.maximum(deviations - FARTHEST, 0)
    counted: Values = np.minimum(deviations, FARTHEST) + _BEYOND * beyond
    return counted


def geometry_terms(agreeing: Values) -> tuple[Values, Values]:
    """Return what the geometry of a pair counts."""
    return np.log1p(agreeing), np.log1p(np.maximum(agreeing - KNEE, 0))


def found_terms(pair: Values, nearness: Values, best: float) -> tuple[Values, Values, Values]:
    """Return what a hit's own evidence counts, its nearness to the best hit, and that hit's."""
    return (
        np.minimum(pair, CERTAIN),
        np.log(nearness + UNREACHED),
        np.asarray(min(best, CERTAIN)),
    )


def _weighted(weights: tuple[float, ...], *terms: Values) -> Values:
    total = np.asarray(weights[-1])
    for weight, term in zip(weights[:-1], terms, strict=True):
        total = total + weight * term
    return total


def probability(logit: Values) -> Values:
    """Return log-odds as probabilities in (0, 1)."""
    positive: Values = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
    return positive


def calibration_of(identity: str) -> Calibration:
    """Return the calibration of the encoder with this identity, or else the generic one."""
    known = _read()
    return known.get(identity, known[GENERIC])


def forget() -> None:
    """Read the file again at the next use: it has been fitted anew."""
    _read.cache_clear()


@cache
def _read() -> dict[str, Calibration]:
    entries: dict[str, dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["calibrations"]
    return {
        identity: Calibration(
            background=Background(*entry["background"]),
            alike=tuple(entry["alike"]),
            pair=tuple(entry["pair"]),
            found_alike=tuple(entry["found_alike"]),
            found=tuple(entry["found"]),
        )
        for identity, entry in entries.items()
    }
