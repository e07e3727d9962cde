"""What the evidence is worth: from similarity, geometry and graph to a probability.

Logistic models, fitted for each encoder on labelled photos by `tools/fit_calibration.py` and
kept in `calibrations.json` under the encoder's identity:

- *pair*: the probability that two photos show the same place or object, from how far their
  similarity stands out, and from the geometry on which they agree;
- *first*: the probability that the first hit of a search is right, from the same two terms. It is
  the best of many photos, so the same evidence means less than for a pair;
- *hit*: the probability that a further hit is right, from the log-odds of its pair, its nearness in
  the graph to the first hit, and the log-odds of that first hit.

Each of them exists without geometry and with it. Those with geometry are fitted for each kind of
keypoints, because the number of consistent matches depends on the keypoints and on how they are
matched (`Extractor.calibration`).

No such model holds for every collection. Where a collection has labels, it asks itself how far it
holds (`veduta.index.own_calibration`), and `Corrections` move its log-odds.

A similarity is taken in standard deviations from the mean over the collection (`Background`). In
these units two encoders, or two collections, are much alike. This is why an encoder without a
calibration of its own can use the generic one, that of the default encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.keypoints import extractor_class
from veduta.validation import read_json

if TYPE_CHECKING:
    from veduta.index.manifest import Manifest

__all__ = [
    "Background",
    "Calibration",
    "Corrections",
    "FirstCorrection",
    "FurtherCorrection",
    "calibration_of",
    "calibration_of_index",
    "capped_deviations",
    "clear_cache",
    "has_own_calibration",
    "hit_terms",
    "pair_terms",
    "probability",
]

FILE = Path(__file__).with_name("calibrations.json")

MAX_DEVIATIONS = 5.0
"""A similarity that stands out by more standard deviations is hardly more certain evidence."""

_SLOPE_BEYOND = 0.02
"""What each further standard deviation counts, which keeps the order of such similarities."""

KEYPOINTS_PER_CHANCE_MATCH = 64
"""Any two photos may have one consistent match for so many keypoints."""

MAX_LOGIT = 8.0
"""The evidence of one pair counts no more than these log-odds for a further hit."""

MIN_NEARNESS = 1e-3
"""Below this nearness to the first hit the graph says nothing about a photo."""

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
class FirstCorrection:
    """How far the log-odds of a first hit hold in one collection.

    Attributes:
        similarity_slope: by which what the similarity counts is multiplied, at least 0.
        geometry_slope: by which what the geometry counts is multiplied, at least 0.
        shift: what is then added.
    """

    similarity_slope: float = 1.0
    geometry_slope: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class FurtherCorrection:
    """How far the log-odds of further hits hold in one collection.

    Attributes:
        order_slope: by which what the pair and the nearness count is multiplied, above 0. So a
            correction never changes the order of the further hits.
        first_slope: by which what the first hit counts is multiplied, at least 0.
        shift: what is then added.
    """

    order_slope: float = 1.0
    first_slope: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a collection learned by asking itself. Without questions nothing is corrected.

    Attributes:
        first: of the first hit.
        further: of the other hits.
        questions: how many photos of the collection were asked.
    """

    first: FirstCorrection = FirstCorrection()
    further: FurtherCorrection = FurtherCorrection()
    questions: int = 0


@dataclass(frozen=True, slots=True)
class Models:
    """The models for one kind of evidence: with or without geometry.

    Weights are in the order of the terms of the methods of `Calibration`; the constant is last.

    Attributes:
        pair: weights of the model of a pair.
        first: weights of the model of a first hit.
        hit: weights of the model of a further hit.
    """

    pair: tuple[float, ...]
    first: tuple[float, ...]
    hit: _Weights4


@dataclass(frozen=True, slots=True)
class Calibration:
    """The models of one encoder with one kind of keypoints.

    Attributes:
        background: the prior for the background of a collection.
        by_similarity: the models without geometry.
        by_geometry: the models with geometry.
        chance_matches: how many consistent matches any two photos may have.
        geometry_is_calibrated: whether the models with geometry were fitted on these keypoints. If
            not, they only order hits, and their results are no probabilities.
    """

    background: Background
    by_similarity: Models
    by_geometry: Models
    chance_matches: float
    geometry_is_calibrated: bool = True

    def models(self, *, geometry: bool) -> Models:
        """Return the models with or without geometry."""
        return self.by_geometry if geometry else self.by_similarity

    def pair_logit(self, deviations: Values, consistent_matches: Values | None = None) -> Values:
        """Return the log-odds that two photos show the same.

        Args:
            deviations: (m,) of the similarity, in standard deviations above the mean.
            consistent_matches: (m,) of `veduta.keypoints.Verification`. They tell pairs apart
                better than inliers of one model, which are few where a lens or a curved wall bends
                lines. None: the geometry is unknown.
        """
        weights = self.models(geometry=consistent_matches is not None).pair
        return self._pair_sum(weights, deviations, consistent_matches)

    def first_logit(
        self,
        deviations: Values,
        consistent_matches: Values | None = None,
        correction: FirstCorrection = FirstCorrection(),
    ) -> Values:
        """Return the log-odds that a first hit shows what the query shows.

        Args:
            deviations: (m,) of the similarity, in standard deviations above the mean, where the
                standard deviation is at least that of `background`. If a query resembles nothing
                in a collection, all its similarities are small and close together. Then the first
                hit stands out by many of their own standard deviations, which means nothing.
            consistent_matches: as for `pair_logit`.
            correction: what the collection learned by asking itself.
        """
        similarity, geometry, constant = self.first_parts(deviations, consistent_matches)
        return (
            correction.similarity_slope * similarity
            + correction.geometry_slope * geometry
            + (constant + correction.shift)
        )

    def first_parts(
        self, deviations: Values, consistent_matches: Values | None = None
    ) -> tuple[Values, Values, float]:
        """Return what the log-odds of `first_logit` without a correction are the sum of.

        Args:
            deviations: as for `first_logit`.
            consistent_matches: as for `pair_logit`.

        Returns:
            What the similarity counts (m,), what the geometry counts (m,), and the constant.
        """
        *weights, constant = self.models(geometry=consistent_matches is not None).first
        similarity, *geometry = pair_terms(deviations, consistent_matches, self.chance_matches)
        of_geometry = _weighted_sum((*weights[1:], 0.0), *geometry)
        return weights[0] * similarity, of_geometry, constant

    def hit_logit(
        self,
        pair: Values,
        nearness: Values,
        first: float,
        *,
        geometry: bool,
        correction: FurtherCorrection = FurtherCorrection(),
    ) -> Values:
        """Return the log-odds that further hits show what the query shows.

        Args:
            pair: (m,) log-odds of the pairs, from `pair_logit`.
            nearness: (m,) to the first hit in the graph, as a share of the first hit's own, in
                [0, 1].
            first: log-odds of the first hit, corrected.
            geometry: whether `pair` was computed with consistent matches.
            correction: what the collection learned by asking itself.
        """
        order, of_first = self.hit_parts(pair, nearness, first, geometry=geometry)
        return correction.order_slope * order + correction.first_slope * of_first + correction.shift

    def hit_parts(
        self, pair: Values, nearness: Values, first: float, *, geometry: bool
    ) -> tuple[Values, Values]:
        """Return what the log-odds of `hit_logit` without a correction are the sum of.

        Args:
            pair: as for `hit_logit`.
            nearness: as for `hit_logit`.
            first: as for `hit_logit`.
            geometry: as for `hit_logit`.

        Returns:
            What orders the hits, with the constant, (m,); and what the first hit counts.
        """
        *weights, of_first, constant = self.models(geometry=geometry).hit
        *terms, first_term = hit_terms(pair, nearness, first)
        return _weighted_sum((*weights, constant), *terms), of_first * first_term

    def _pair_sum(
        self, weights: tuple[float, ...], deviations: Values, consistent_matches: Values | None
    ) -> Values:
        terms = pair_terms(deviations, consistent_matches, self.chance_matches)
        return _weighted_sum(weights, *terms)


def capped_deviations(deviations: Values) -> Values:
    """Return what a similarity counts.

    Args:
        deviations: (m,) of the similarity, in standard deviations above the mean.
    """
    beyond: Values = np.maximum(deviations - MAX_DEVIATIONS, 0)
    capped: Values = np.minimum(deviations, MAX_DEVIATIONS) + _SLOPE_BEYOND * beyond
    return capped


def pair_terms(
    deviations: Values, consistent_matches: Values | None, chance_matches: float
) -> tuple[Values, ...]:
    """Return what the similarity and the geometry of pairs count, one or three terms (m,) each.

    Args:
        deviations: (m,) of the similarity, in standard deviations above the mean.
        consistent_matches: (m,) of `veduta.keypoints.Verification`; None: the geometry is unknown.
        chance_matches: `Calibration.chance_matches`.
    """
    similarity = capped_deviations(deviations)
    if consistent_matches is None:
        return (similarity,)
    above_chance = np.maximum(consistent_matches - chance_matches, 0)
    return similarity, np.log1p(consistent_matches), np.log1p(above_chance)


def hit_terms(pair: Values, nearness: Values, first: float) -> tuple[Values, Values, Values]:
    """Return what the pair of a hit counts, its nearness to the first hit, and that first hit.

    The graph says what the first hit shows. So it counts only as far as the first hit can be
    trusted: by the square root of its probability. In trials the probability itself lost more on
    large classes.

    The arguments are those of `Calibration.hit_logit`.

    Args:
        pair: (m,) log-odds.
        nearness: (m,) in [0, 1].
        first: log-odds.
    """
    trust = np.sqrt(probability(np.asarray(first)))
    return (
        np.minimum(pair, MAX_LOGIT),
        trust * np.log(nearness + MIN_NEARNESS),
        np.clip(np.asarray(first), -MAX_LOGIT, MAX_LOGIT),
    )


def probability(logit: Values) -> Values:
    """Return log-odds as probabilities in (0, 1)."""
    probabilities: Values = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
    return probabilities


def calibration_of(identity: str, keypoints: str | None = None, count: int = 512) -> Calibration:
    """Return the calibration of an encoder with a kind of keypoints.

    Args:
        identity: of the encoder. An unknown one gets the generic calibration.
        keypoints: `Extractor.calibration` of the keypoints; None: there are no keypoints, or
            nothing was fitted on them.
        count: the largest number of keypoints of a photo.
    """
    file = _read()
    encoder = file.calibrations.get(identity) or file.calibrations[file.generic]
    weights = encoder.keypoints.get(keypoints or "")
    fitted = weights or encoder.keypoints[_FALLBACK_KEYPOINTS]
    return Calibration(
        background=Background(*encoder.background),
        by_similarity=Models(encoder.pair, encoder.first, encoder.hit),
        by_geometry=Models(fitted.pair, fitted.first, fitted.hit),
        chance_matches=count / KEYPOINTS_PER_CHANCE_MATCH,
        geometry_is_calibrated=weights is not None,
    )


def calibration_of_index(manifest: Manifest, *, most_keypoints: int | None = None) -> Calibration:
    """Return the calibration of an index, of its encoder with its keypoints.

    Args:
        manifest: of the index.
        most_keypoints: how many of the keypoints of a photo are used; None: all.
    """
    identity, keypoints = str(manifest.encoder["identity"]), manifest.keypoints
    if keypoints is None:
        return calibration_of(identity)
    extractor = extractor_class(keypoints["name"])
    kind = extractor.calibration if extractor else None
    count = keypoints["count"]
    return calibration_of(identity, kind, min(count, most_keypoints or count))


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
    first: _Weights4
    hit: _Weights4


@dataclass(frozen=True, slots=True)
class _EncoderWeights:
    """The models of one encoder; those without geometry here, the others by kind of keypoints."""

    encoder: str
    fitted_on: list[str]
    background: _Weights2
    pair: _Weights2
    first: _Weights2
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
