"""More evidence is never less probability, for every calibration that is shipped."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from veduta.encoders import load_encoder
from veduta.index import calibration
from veduta.index.calibration import (
    CERTAIN,
    FARTHEST,
    GENERIC,
    KNEE,
    UNREACHED,
    Background,
    Calibration,
    calibration_of,
    found_terms,
    geometry_terms,
    probability,
    standing_out,
)

ENTRIES: dict[str, dict[str, Any]] = json.loads(calibration.FILE.read_text("utf-8"))["calibrations"]
KNOWN = sorted(ENTRIES)
DEVIATIONS = np.linspace(-5, 15, 81)
COUNTS = np.arange(0, 513.0)


def rises(values: Any) -> bool:
    return bool((np.diff(values) >= 0).all() and values[-1] > values[0])


def test_all_numbers_are_finite_and_of_the_right_number() -> None:
    sizes = {"background": 2, "alike": 2, "pair": 4, "found_alike": 4, "found": 4}
    for entry in ENTRIES.values():
        for name, size in sizes.items():
            assert len(entry[name]) == size
            assert all(isinstance(x, float) and math.isfinite(x) for x in entry[name])
        mean, spread = entry["background"]
        assert -1 < mean < 1 and 0 < spread < 1


@pytest.mark.parametrize("identity", KNOWN)
def test_monotone_in_each_argument(identity: str) -> None:
    known = calibration_of(identity)
    assert rises(known.alike_logit(DEVIATIONS))
    for fixed in (0.0, 10.0, 60.0):
        assert rises(known.pair_logit(DEVIATIONS, np.full(len(DEVIATIONS), fixed)))
    assert rises(known.pair_logit(np.full(len(COUNTS), 2.0), COUNTS))
    logits, near = np.linspace(-12, 12, 97), np.linspace(0, 1, 101)
    for geometry in (False, True):
        assert rises(known.found_logit(logits, np.full(97, 0.3), 4.0, geometry=geometry))
        assert rises(known.found_logit(np.full(101, -1.0), near, 4.0, geometry=geometry))
        best = [
            float(known.found_logit(np.array([-1.0]), np.array([0.3]), x, geometry=geometry)[0])
            for x in logits.tolist()
        ]
        assert rises(np.array(best))


@pytest.mark.parametrize("identity", KNOWN)
def test_clear_cases_are_clear(identity: str) -> None:
    known = calibration_of(identity)
    usual, far = np.array([0.0]), np.array([6.0])
    nothing, much = np.array([0.0]), np.array([80.0])
    assert probability(known.pair_logit(usual, nothing))[0] < 0.02
    assert probability(known.pair_logit(far, much))[0] > 0.98
    assert probability(known.alike_logit(usual))[0] < 0.05
    assert probability(known.alike_logit(far))[0] > 0.8


def test_an_unknown_encoder_gets_the_generic_calibration() -> None:
    assert calibration_of("no such identity") == calibration_of(GENERIC)
    assert calibration_of("") == calibration_of(GENERIC)


@pytest.mark.parametrize("name", ["accurate", "fast"])
def test_embedded_encoders_have_their_own(name: str) -> None:
    """A change of an encoder's identity without a new fit would quietly fall back."""
    assert load_encoder(name).identity in ENTRIES


def test_a_calibration_fitted_anew_is_read(tmp_path: Any, monkeypatch: Any) -> None:
    entry = {**ENTRIES[GENERIC], "alike": [1.0, -99.0]}
    file = tmp_path / "calibrations.json"
    file.write_text(json.dumps({"calibrations": {GENERIC: entry}}))
    monkeypatch.setattr(calibration, "FILE", file)
    calibration.forget()
    try:
        assert calibration_of("x").alike == (1.0, -99.0)
    finally:
        monkeypatch.undo()
        calibration.forget()
    assert calibration_of("x").alike != (1.0, -99.0)


MADE_UP = Calibration(
    background=Background(0.1, 0.05),
    alike=(2.0, -3.0),
    pair=(1.0, 10.0, 100.0, -4.0),
    found_alike=(1.0, 1.0, 1.0, 0.0),
    found=(2.0, 3.0, 5.0, -7.0),
)


def test_models_by_hand() -> None:
    assert MADE_UP.alike_logit(np.array([1.5]))[0] == pytest.approx(2 * 1.5 - 3)
    # Eight that agree are what any two photos have, so twelve count as ln(13) and ln(1 + 12 - 8).
    few, many = MADE_UP.pair_logit(np.array([2.0, 2.0]), np.array([3.0, 12.0]))
    assert few == pytest.approx(2 + 10 * math.log(4) - 4)
    assert many == pytest.approx(2 + 10 * math.log(13) + 100 * math.log(5) - 4)
    found = MADE_UP.found_logit(np.array([1.0]), np.array([0.5]), 2.0, geometry=True)[0]
    assert found == pytest.approx(2 * 1 + 3 * math.log(0.501) + 5 * 2 - 7)
    other = MADE_UP.found_logit(np.array([1.0]), np.array([0.5]), 2.0, geometry=False)[0]
    assert other == pytest.approx(1 + math.log(0.501) + 2)


def test_terms_are_capped_where_more_means_nothing_new() -> None:
    assert standing_out(np.array([FARTHEST, FARTHEST + 1])) == pytest.approx([5, 5.02])
    assert [float(term[0]) for term in geometry_terms(np.array([0.0]))] == [0, 0]
    assert float(geometry_terms(np.array([float(KNEE)]))[1][0]) == 0
    pair, near, best = found_terms(np.array([50.0]), np.array([0.0]), 50.0)
    assert (pair[0], float(best)) == (CERTAIN, CERTAIN)
    assert near[0] == pytest.approx(math.log(UNREACHED)), "no logarithm of nothing"


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
    mean, spread = prior.measured(similar)
    for row in range(2):
        by_hand = (8 * 0.2 + similar[row].sum()) / 11
        assert mean[row] == pytest.approx(by_hand)
        square = 8 * (0.1**2 + (0.2 - by_hand) ** 2) + ((similar[row] - by_hand) ** 2).sum()
        assert spread[row] == pytest.approx(math.sqrt(square / 11))


def test_background_is_that_of_pooled_numbers() -> None:
    # Eight numbers with mean 0.2 and standard deviation 0.1 stand for the prior.
    prior = np.array([0.1, 0.3] * 4)
    similar = np.random.default_rng(0).normal(0.3, 0.2, (5, 40))
    mean, spread = Background(0.2, 0.1).measured(similar)
    pooled = np.concatenate([np.tile(prior, (5, 1)), similar], axis=1)
    np.testing.assert_allclose(mean, pooled.mean(axis=1))
    np.testing.assert_allclose(spread, pooled.std(axis=1))


def test_background_without_a_sample_is_the_prior() -> None:
    mean, spread = Background(0.2, 0.1).measured(np.empty((2, 0)))
    np.testing.assert_allclose(mean, 0.2)
    np.testing.assert_allclose(spread, 0.1)


def test_background_of_a_large_sample_is_the_sample() -> None:
    similar = np.random.default_rng(0).normal(0.4, 0.03, (1, 100_000))
    mean, spread = Background(0.07, 0.06).measured(similar)
    assert mean[0] == pytest.approx(0.4, abs=1e-3)
    assert spread[0] == pytest.approx(0.03, abs=1e-3)
