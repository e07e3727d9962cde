"""More evidence is never less probability, for every calibration that is shipped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from veduta.encoders import PRESETS, load_encoder
from veduta.index import calibration
from veduta.index.calibration import (
    MAX_DEVIATIONS,
    MAX_LOGIT,
    MIN_NEARNESS,
    Background,
    Calibration,
    Corrections,
    FirstCorrection,
    FurtherCorrection,
    Models,
    calibration_of,
    capped_deviations,
    has_own_calibration,
    hit_terms,
    pair_terms,
    probability,
)
from veduta.keypoints import KINDS, extractor_class, load_extractor

SHIPPED: dict[str, Any] = json.loads(calibration.FILE.read_text("utf-8"))
ENTRIES: dict[str, dict[str, Any]] = SHIPPED["calibrations"]
FITTED = [
    (identity, keypoints)
    for identity, entry in sorted(ENTRIES.items())
    for keypoints in sorted(entry["keypoints"])
]
UNKNOWN = "no such identity"
DEVIATIONS = np.linspace(-5, 15, 81)
COUNTS = np.arange(0, 513.0)


def rises(values: Any) -> bool:
    return bool((np.diff(values) >= 0).all() and values[-1] > values[0])


def test_all_numbers_are_finite_and_of_the_right_number() -> None:
    for entry in ENTRIES.values():
        tables = [(entry, {"background": 2, "pair": 2, "first": 2, "hit": 4})]
        tables += [
            (weights, {"pair": 4, "first": 4, "hit": 4}) for weights in entry["keypoints"].values()
        ]
        for table, sizes in tables:
            for name, size in sizes.items():
                assert len(table[name]) == size
                assert all(isinstance(x, float) and math.isfinite(x) for x in table[name])
        mean, std = entry["background"]
        assert -1 < mean < 1 and 0 < std < 1


@pytest.mark.parametrize(("identity", "keypoints"), FITTED)
def test_monotone_in_each_argument(identity: str, keypoints: str) -> None:
    known = calibration_of(identity, keypoints)
    for logit in (known.pair_logit, known.first_logit):
        assert rises(logit(DEVIATIONS))
        for fixed in (0.0, 10.0, 60.0):
            assert rises(logit(DEVIATIONS, np.full(len(DEVIATIONS), fixed)))
        assert rises(logit(np.full(len(COUNTS), 2.0), COUNTS))
    logits, near = np.linspace(-12, 12, 97), np.linspace(0, 1, 101)
    for geometry in (False, True):
        assert rises(known.hit_logit(logits, np.full(97, 0.3), 4.0, geometry=geometry))
        assert rises(known.hit_logit(np.full(101, -1.0), near, 4.0, geometry=geometry))
        best = [
            float(known.hit_logit(np.array([-1.0]), np.array([1.0]), x, geometry=geometry)[0])
            for x in logits[logits <= MAX_LOGIT].tolist()
        ]
        assert rises(np.array(best))


@pytest.mark.parametrize(("identity", "keypoints"), FITTED)
def test_clear_cases_are_clear(identity: str, keypoints: str) -> None:
    known = calibration_of(identity, keypoints)
    usual, far = np.array([0.0]), np.array([6.0])
    nothing, much = np.array([0.0]), np.array([80.0])
    assert probability(known.pair_logit(usual, nothing))[0] < 0.02
    assert probability(known.pair_logit(far, much))[0] > 0.98
    assert probability(known.pair_logit(usual))[0] < 0.05
    assert probability(known.pair_logit(far))[0] > 0.8


def test_an_unknown_encoder_gets_the_generic_calibration() -> None:
    for keypoints in (*KINDS, None):
        generic = calibration_of(SHIPPED["generic"], keypoints)
        assert calibration_of(UNKNOWN, keypoints) == calibration_of("", keypoints) == generic
    assert has_own_calibration(SHIPPED["generic"]) and not has_own_calibration(UNKNOWN)


@pytest.mark.parametrize("name", PRESETS)
def test_embedded_encoders_have_their_own(name: str) -> None:
    """A change of an encoder's identity without a new fit would quietly fall back."""
    assert load_encoder(name).identity in ENTRIES


@pytest.mark.parametrize("kind", KINDS)
def test_weights_were_fitted_on_these_keypoints_with_this_matching(kind: str) -> None:
    """A change of an extractor or of its matching without a new fit would use wrong weights."""
    extractor = extractor_class(kind)
    assert extractor is not None
    for entry in ENTRIES.values():
        if extractor.calibration is None:
            assert kind not in entry["keypoints"]
            continue
        weights = entry["keypoints"][extractor.calibration]
        assert weights["identity"] == load_extractor(kind).identity
        assert weights["matching"] == repr(extractor.matching)


@pytest.mark.parametrize("keypoints", ["no such keypoints", None])
def test_keypoints_without_weights_are_ordered_like_xfeat(keypoints: str | None) -> None:
    fallback, xfeat = calibration_of(UNKNOWN, keypoints), calibration_of(UNKNOWN, "xfeat")
    assert xfeat.geometry_is_calibrated and not fallback.geometry_is_calibrated
    assert fallback == replace(xfeat, geometry_is_calibrated=False)


def test_a_calibration_fitted_anew_is_read(tmp_path: Any, monkeypatch: Any) -> None:
    entry = {**ENTRIES[SHIPPED["generic"]], "pair": [1.0, -99.0]}
    file = tmp_path / "calibrations.json"
    file.write_text(json.dumps({"generic": "new", "calibrations": {"new": entry}}))
    monkeypatch.setattr(calibration, "FILE", file)
    calibration.clear_cache()
    try:
        assert calibration_of("x").by_similarity.pair == (1.0, -99.0)
    finally:
        monkeypatch.undo()
        calibration.clear_cache()
    assert calibration_of("x").by_similarity.pair != (1.0, -99.0)


MADE_UP = Calibration(
    background=Background(0.1, 0.05),
    by_similarity=Models((2.0, -3.0), (4.0, -5.0), (1.0, 1.0, 1.0, 0.0)),
    by_geometry=Models((1.0, 10.0, 100.0, -4.0), (3.0, 20.0, 200.0, -6.0), (2.0, 3.0, 5.0, -7.0)),
    chance_matches=8,
)


def test_models_by_hand() -> None:
    assert MADE_UP.pair_logit(np.array([1.5]))[0] == pytest.approx(2 * 1.5 - 3)
    # Eight that agree are what any two photos have, so twelve count as ln(13) and ln(1 + 12 - 8).
    few, many = MADE_UP.pair_logit(np.array([2.0, 2.0]), np.array([3.0, 12.0]))
    assert few == pytest.approx(2 + 10 * math.log(4) - 4)
    assert many == pytest.approx(2 + 10 * math.log(13) + 100 * math.log(5) - 4)
    first = MADE_UP.first_logit(np.array([2.0]), np.array([12.0]))[0]
    assert first == pytest.approx(3 * 2 + 20 * math.log(13) + 200 * math.log(5) - 6)
    assert MADE_UP.first_logit(np.array([2.0]))[0] == pytest.approx(4 * 2 - 5)
    # The graph counts as much as the first hit can be trusted.
    trust = math.sqrt(1 / (1 + math.exp(-2)))
    found = MADE_UP.hit_logit(np.array([1.0]), np.array([0.5]), 2.0, geometry=True)[0]
    assert found == pytest.approx(2 * 1 + 3 * trust * math.log(0.501) + 5 * 2 - 7)
    other = MADE_UP.hit_logit(np.array([1.0]), np.array([0.5]), 2.0, geometry=False)[0]
    assert other == pytest.approx(1 + trust * math.log(0.501) + 2)


def test_more_keypoints_have_more_matches_by_chance() -> None:
    few, many = (calibration_of(SHIPPED["generic"], "xfeat", count) for count in (512, 2048))
    assert (few.chance_matches, many.chance_matches) == (8, 32)
    deviations, consistent = np.array([2.0]), np.array([30.0])
    assert few.pair_logit(deviations, consistent) > many.pair_logit(deviations, consistent)


def test_corrections_by_hand() -> None:
    *weights, constant = MADE_UP.by_geometry.first
    deviations, consistent = np.array([2.0]), np.array([30.0])
    terms = [float(one[0]) for one in pair_terms(deviations, consistent, MADE_UP.chance_matches)]
    similarity = weights[0] * terms[0]
    geometry = weights[1] * terms[1] + weights[2] * terms[2]
    correction = FirstCorrection(3.0, 0.5, -1.0)
    assert MADE_UP.first_logit(deviations, consistent, correction)[0] == pytest.approx(
        3 * similarity + 0.5 * geometry + constant - 1
    )
    assert MADE_UP.first_logit(deviations, consistent)[0] == pytest.approx(
        similarity + geometry + constant
    )
    hits = np.array([1.0, -2.0]), np.array([0.5, 0.1]), 2.0
    order, of_first = MADE_UP.hit_parts(*hits, geometry=True)
    moved = MADE_UP.hit_logit(*hits, geometry=True, correction=FurtherCorrection(0.5, 3.0, -1.0))
    np.testing.assert_allclose(moved, 0.5 * order + 3 * of_first - 1)
    np.testing.assert_allclose(MADE_UP.hit_logit(*hits, geometry=True), order + of_first)
    assert Corrections() == Corrections(FirstCorrection(1, 1, 0), FurtherCorrection(1, 1, 0), 0)


def test_terms_are_capped_where_more_means_nothing_new() -> None:
    assert capped_deviations(np.array([MAX_DEVIATIONS, MAX_DEVIATIONS + 1])) == pytest.approx(
        [5, 5.02]
    )
    nothing, usual = np.array([0.0]), np.array([8.0])
    assert [float(term[0]) for term in pair_terms(nothing, nothing, 8)] == [0, 0, 0]
    assert float(pair_terms(nothing, usual, 8)[2][0]) == 0
    assert len(pair_terms(nothing, None, 8)) == 1
    pair, near, best = hit_terms(np.array([50.0]), np.array([0.0]), 50.0)
    assert (pair[0], float(best)) == (MAX_LOGIT, MAX_LOGIT)
    assert near[0] == pytest.approx(math.log(MIN_NEARNESS)), "no logarithm of nothing"


def test_probability_of_any_logit_is_a_probability() -> None:
    logits = np.array([-1e9, -800.0, -3.0, 0.0, 3.0, 800.0, 1e9])
    values = probability(logits)
    assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()
    assert values[3] == 0.5
    assert values[2] == pytest.approx(1 - values[4]) == pytest.approx(1 / (1 + math.exp(3)))


def test_background_by_hand() -> None:
    """Eight photos of the prior and the sample, pooled as if they were one."""
    prior = Background(0.2, 0.1)
    similar = np.array([[0.5, 0.7, 0.9], [0.0, 0.0, 0.3]])
    mean, std = prior.estimate(similar)
    for row in range(2):
        by_hand = (8 * 0.2 + similar[row].sum()) / 11
        assert mean[row] == pytest.approx(by_hand)
        square = 8 * (0.1**2 + (0.2 - by_hand) ** 2) + ((similar[row] - by_hand) ** 2).sum()
        assert std[row] == pytest.approx(math.sqrt(square / 11))


def test_background_is_that_of_pooled_numbers() -> None:
    # Eight numbers with mean 0.2 and standard deviation 0.1 stand for the prior.
    prior = np.array([0.1, 0.3] * 4)
    similar = np.random.default_rng(0).normal(0.3, 0.2, (5, 40))
    mean, std = Background(0.2, 0.1).estimate(similar)
    pooled = np.concatenate([np.tile(prior, (5, 1)), similar], axis=1)
    np.testing.assert_allclose(mean, pooled.mean(axis=1))
    np.testing.assert_allclose(std, pooled.std(axis=1))


def test_background_without_a_sample_is_the_prior() -> None:
    mean, std = Background(0.2, 0.1).estimate(np.empty((2, 0)))
    np.testing.assert_allclose(mean, 0.2)
    np.testing.assert_allclose(std, 0.1)


def test_background_of_a_large_sample_is_the_sample() -> None:
    similar = np.random.default_rng(0).normal(0.4, 0.03, (1, 100_000))
    mean, std = Background(0.07, 0.06).estimate(similar)
    assert mean[0] == pytest.approx(0.4, abs=1e-3)
    assert std[0] == pytest.approx(0.03, abs=1e-3)
