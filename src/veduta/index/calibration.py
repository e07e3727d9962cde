"""What the evidence is worth: from similarity, geometry and graph to a probability.

Four logistic models, fitted for each encoder on labelled photos by `tools/fit_calibration.py` and
kept in `calibrations.json` under the encoder's identity:

- *pair*: the probability that two photos show the same place or object, from how far their
  similarity stands out; and the same with the geometry on which they agree;
- *hit*: the probability that a hit of a search is right, from the log-odds of its pair, its
  nearness in the graph to the best hit, and the log-odds of that best hit; one model for pairs
  without geometry, one for pairs with it.

The models with geometry are fitted for each kind of keypoints, because the number of consistent
matches depends on the keypoints and on how they are matched (`Extractor.calibration`).

A similarity is taken in standard deviations from the mean over the collection (`Background`). In
these units two encoders, or two collections, are much alike. This is why an encoder without a
calibration of its own can use the generic one, that of the default encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.validation import read_json

__all__ = [
    "Background",
    "Calibration",
    "calibration_of",
    "capped_deviations",
    "clear_cache",
    "geometry_terms",
    "has_own_calibration",
    "hit_terms",
    "probability",
]

FILE = Path(__file__).with_name("calibrations.json")

MAX_DEVIATIONS = 5.0
"""A similarity that stands out by more standard deviations is hardly more certain evidence."""

_SLOPE_BEYOND = 0.02
"""What each further standard deviation counts, which keeps the order of such similarities."""

CHANCE_MATCHES = 8
"""Any two photos may have this many consistent matches."""

MAX_PAIR_LOGIT = 8.0
"""The evidence of one pair counts no more than these log-odds for a hit."""

MIN_NEARNESS = 1e-3
"""Below this nearness to the best hit the graph says nothing about a photo."""

_PRIOR_PHOTOS = 8
"""The prior background counts as much as this many photos of the collection."""

_FALLBACK_KEYPOINTS = "xfeat"
"""Keypoints without a calibration are weighed like these. The result is no probability then."""

Values = NDArray[np.floating[Any]]
_Weights2 = tuple[float, float]
_Weights4 = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Background:
    """The cosine similarity of a photo to photos of other things.

    Attributes:
        mean: of the similarity.
        std: its standard deviation.
    """

    mean: float
    std: float

    def estimate(self, similarities: Values) -> tuple[Values, Values]:
        """Estimate the background of photos in a collection, with this one as the prior.

        The prior counts as much as eight photos, so that a collection of three photos works too.

        Args:
            similarities: (m, s) of m photos to a sample of s photos of the collection.

        Returns:
            The mean and the standard deviation, (m,) each.
        """
        count = similarities.shape[1] + _PRIOR_PHOTOS
        mean = (similarities.sum(axis=1) + _PRIOR_PHOTOS * self.mean) / count
        square = ((similarities - mean[:, None]) ** 2).sum(axis=1)
        square += _PRIOR_PHOTOS * (self.std**2 + (self.mean - mean) ** 2)
        return mean, np.sqrt(square / count)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The models of one encoder with one kind of keypoints.

    Weights are in the order of the arguments of the methods below; the constant is the last one.

    Attributes:
        background: the prior for the background of a collection.
        pair_by_similarity: weights of the model of a pair without geometry.
        pair_by_geometry: weights of the model of a pair with geometry.
        hit_by_similarity: weights of the model of a hit without geometry.
        hit_by_geometry: weights of the model of a hit with geometry.
        geometry_is_calibrated: whether the models with geometry were fitted on these keypoints. If
            not, they only order hits, and their results are no probabilities.
    """

    background: Background
    pair_by_similarity: _Weights2
    pair_by_geometry: _Weights4
    hit_by_similarity: _Weights4
    hit_by_geometry: _Weights4
    geometry_is_calibrated: bool = True

    def pair_logit(self, deviations: Values, consistent_matches: Values | None = None) -> Values:
        """Return the log-odds that two photos show the same.

        Args:
            deviations: (m,) of the similarity, in standard deviations above the mean.
            consistent_matches: (m,) of `veduta.keypoints.Verification`. They tell pairs apart
                better than inliers of one model, which are few where a lens or a curved wall bends
                lines. None: the geometry is unknown.
        """
        if consistent_matches is None:
            return _weighted_sum(self.pair_by_similarity, capped_deviations(deviations))
        return _weighted_sum(
            self.pair_by_geometry,
            capped_deviations(deviations),
            *geometry_terms(consistent_matches),
        )

    def hit_logit(self, pair: Values, nearness: Values, best: float, *, geometry: bool) -> Values:
        """Return the log-odds that a hit shows what the query shows.

        Args:
            pair: (m,) log-odds of the pairs, from `pair_logit`.
            nearness: (m,) to the best hit in the graph, as a share of the best hit's own, in
                [0, 1].
            best: log-odds of the best hit's pair.
            geometry: whether `pair` was computed with consistent matches.
        """
        weights = self.hit_by_geometry if geometry else self.hit_by_similarity
        return _weighted_sum(weights, *hit_terms(pair, nearness, best))


def capped_deviations(deviations: Values) -> Values:
    """Return what a similarity counts.

    Args:
        deviations: (m,) of the similarity, in standard deviations above the mean.
    """
    beyond: Values = np.maximum(deviations - MAX_DEVIATIONS, 0)
    capped: Values = np.minimum(deviations, MAX_DEVIATIONS) + _SLOPE_BEYOND * beyond
    return capped


def geometry_terms(consistent_matches: Values) -> tuple[Values, Values]:
    """Return what the geometry of pairs counts, two terms (m,) each.

    Args:
        consistent_matches: (m,) of `veduta.keypoints.Verification`.
    """
    above_chance = np.maximum(consistent_matches - CHANCE_MATCHES, 0)
    return np.log1p(consistent_matches), np.log1p(above_chance)


def hit_terms(pair: Values, nearness: Values, best: float) -> tuple[Values, Values, Values]:
    """Return what the pair of a hit counts, its nearness to the best hit, and that best hit.

    The arguments are those of `Calibration.hit_logit`.

    Args:
        pair: (m,) log-odds.
        nearness: (m,) in [0, 1].
        best: log-odds.
    """
    return (
        np.minimum(pair, MAX_PAIR_LOGIT),
        np.log(nearness + MIN_NEARNESS),
        np.asarray(min(best, MAX_PAIR_LOGIT)),
    )


def probability(logit: Values) -> Values:
    """Return log-odds as probabilities in (0, 1)."""
    probabilities: Values = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
    return probabilities


def calibration_of(identity: str, keypoints: str | None = None) -> Calibration:
    """Return the calibration of an encoder with a kind of keypoints.

    Args:
        identity: of the encoder. An unknown one gets the generic calibration.
        keypoints: `Extractor.calibration` of the keypoints; None: there are no keypoints, or
            nothing was fitted on them.
    """
    file = _read()
    encoder = file.calibrations.get(identity) or file.calibrations[file.generic]
    weights = encoder.keypoints.get(keypoints or "")
    fallback = encoder.keypoints[_FALLBACK_KEYPOINTS]
    return Calibration(
        background=Background(*encoder.background),
        pair_by_similarity=encoder.pair,
        pair_by_geometry=(weights or fallback).pair,
        hit_by_similarity=encoder.hit,
        hit_by_geometry=(weights or fallback).hit,
        geometry_is_calibrated=weights is not None,
    )


def has_own_calibration(identity: str) -> bool:
    """Return whether a calibration was fitted for the encoder with this identity."""
    return identity in _read().calibrations


def clear_cache() -> None:
    """Read the file again at the next use."""
    _read.cache_clear()


def _weighted_sum(weights: tuple[float, ...], *terms: Values) -> Values:
    total = np.asarray(weights[-1])
    for weight, term in zip(weights[:-1], terms, strict=True):
        total = total + weight * term
    return total


@dataclass(frozen=True, slots=True)
class _KeypointWeights:
    """The models with geometry of one encoder. `identity` and `matching` say what was fitted."""

    identity: str
    matching: str
    pair: _Weights4
    hit: _Weights4


@dataclass(frozen=True, slots=True)
class _EncoderWeights:
    """The models of one encoder; those without geometry here, the others by kind of keypoints."""

    encoder: str
    fitted_on: list[str]
    background: _Weights2
    pair: _Weights2
    hit: _Weights4
    keypoints: dict[str, _KeypointWeights]


@dataclass(frozen=True, slots=True)
class _File:
    """The content of `calibrations.json`. `generic` is an identity among `calibrations`."""

    generic: str
    calibrations: dict[str, _EncoderWeights]


@cache
def _read() -> _File:
    return read_json(FILE, _File)
