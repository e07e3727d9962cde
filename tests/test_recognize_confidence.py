"""Confidence and its thresholds, against scikit-learn and trying all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from veduta.errors import QueryError
from veduta.recognize.confidence import Confidence, LabelledExample, fit
from veduta.recognize.unknown import PRECISIONS


def random_examples(seed: int = 0, number: int = 300) -> list[LabelledExample]:
    """Return questions with three candidates each, of two features that speak for the answer."""
    rng = np.random.default_rng(seed)
    made = []
    for at in range(number):
        right = np.zeros(3, np.bool_)
        if at % 3:
            right[rng.integers(3)] = True
        features = rng.standard_normal((3, 2)) * (1, 5) + right[:, None] * (1.5, 4)
        made.append(LabelledExample(features, right, float(rng.uniform(0.1, 2))))
    return made


def sklearn_weights(
    made: Sequence[LabelledExample], columns: Sequence[int], shrink: float = 1e-4
) -> NDArray[np.float64]:
    """Return what scikit-learn makes of the same questions, on some of their features."""
    features = np.concatenate([question.features for question in made])[:, columns]
    right = np.concatenate([question.right for question in made])
    weight = np.concatenate([np.full(len(q.right), q.weight) for q in made])
    mean, spread = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=1 / (shrink * len(right)), tol=1e-10, max_iter=10_000)
    model.fit((features - mean) / spread, right, sample_weight=weight / weight.mean())
    slopes = model.coef_[0] / spread
    return np.append(slopes, model.intercept_[0] - slopes @ mean)


class TestConfidence:
    def test_the_fit_is_that_of_scikit_learn(self) -> None:
        made = random_examples()
        fitted = fit(made)
        assert fitted.weights == pytest.approx(sklearn_weights(made, [0, 1]), rel=1e-4)
        assert fitted.examples == 300

    def test_what_speaks_against_itself_is_left_out(self) -> None:
        """A feature that would count against a name weighs nothing, and the rest is fitted anew."""
        made = [
            replace(q, features=np.column_stack([q.features[:, 0], -q.features[:, 1]]))
            for q in random_examples()
        ]
        weights = fit(made).weights
        assert weights[1] == 0
        assert weights[::2] == pytest.approx(sklearn_weights(made, [0]), rel=1e-4)

    def test_nothing_speaks_for_anything(self) -> None:
        made = [replace(q, features=-q.features) for q in random_examples()]
        *slopes, constant = fit(made).weights
        assert slopes == [0, 0]
        weight = np.array([q.weight for q in made])
        share = (weight * [q.right.sum() for q in made]).sum() / (3 * weight).sum()
        assert constant == pytest.approx(math.log(share / (1 - share)), rel=1e-6)

    def test_confidence_is_the_logistic_of_the_weighted_features(self) -> None:
        model = Confidence((2.0, 0.5, -1.0), (0.0,) * len(PRECISIONS), 9)
        found = model.probabilities(np.array([[0.5, 1.0], [0.0, 0.0], [1e9, 0.0], [-1e9, 0.0]]))
        expected = [1 / (1 + math.exp(-0.5)), 1 / (1 + math.e), 1, 0]
        assert found == pytest.approx(expected, abs=1e-12)
        assert model.probabilities(np.empty((0, 2))).shape == (0,)

    def test_perfectly_apart(self) -> None:
        """Answers that evidence tells apart without an error do not run away to infinity."""
        yes = [LabelledExample(np.array([[1.0]]), np.array([True]), 1.0)] * 20
        no = [LabelledExample(np.array([[0.0]]), np.array([False]), 1.0)] * 20
        fitted = fit(yes + no)
        likely = fitted.probabilities(np.array([[1.0], [0.0]]))
        assert likely[0] > 0.9 and likely[1] < 0.1
        assert np.isfinite(fitted.weights).all()
        assert fitted.threshold(0.99) == pytest.approx(likely.mean())

    @pytest.mark.parametrize("right", [True, False])
    def test_one_kind_of_question_alone(self, right: bool) -> None:
        made = [LabelledExample(np.array([[float(at)]]), np.array([right]), 1.0) for at in range(9)]
        with pytest.raises(ValueError, match="with a right candidate and examples without one"):
            fit(made)

    def test_no_question(self) -> None:
        with pytest.raises(ValueError, match="examples"):
            fit([])

    def test_questions_without_candidates_are_never_answered(self) -> None:
        empty = LabelledExample(np.empty((0, 2)), np.empty(0, np.bool_), 5.0)
        made = random_examples()
        fitted = fit(made + [empty] * 7)
        assert fitted.examples == 307
        assert fitted.weights == fit(made).weights
        assert fitted.thresholds == fit(made).thresholds


def by_hand(
    confidences: Sequence[float], right: Sequence[bool], weights: Sequence[float], wanted: float
) -> float:
    """Return half way from the lowest right answer from which on answers are precise to the next.

    Below the last right answer there are only wrong ones to be had. 2 if none is that precise.
    """
    reached = []
    for least in (value for value, good in zip(confidences, right, strict=True) if good):
        named = [i for i, confidence in enumerate(confidences) if confidence >= least]
        total = sum(weights[i] for i in named)
        if sum(weights[i] for i in named if right[i]) >= wanted * total - 1e-12:
            reached.append(least)
    if not reached:
        return 2.0
    below = [value for value in confidences if value < min(reached)]
    return (min(reached) + max(below, default=0.0)) / 2


class TestThresholds:
    @staticmethod
    def fitted(
        features: Sequence[float], right: Sequence[bool], weights: Sequence[float]
    ) -> tuple[Confidence, list[float]]:
        """Return the model of questions with one candidate each, and their confidences."""
        made = [
            LabelledExample(np.array([[value]]), np.array([good]), weight)
            for value, good, weight in zip(features, right, weights, strict=True)
        ]
        model = fit(made)
        return model, model.probabilities(np.array(features)[:, None]).tolist()

    @pytest.mark.parametrize("seed", range(12))
    def test_against_trying_them_all(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        features = (rng.integers(0, 12, 60) / 4).tolist()  # many ties
        right = (rng.uniform(0, 4, 60) < np.array(features)).tolist()
        weights = rng.uniform(0.2, 3, 60).tolist()
        model, confidences = self.fitted(features, right, weights)
        for wanted in PRECISIONS:
            expected = by_hand(confidences, right, weights, wanted)
            assert model.threshold(wanted) == expected

    def test_equal_confidences_stand_or_fall_together(self) -> None:
        # At 3: 2 of 2. At 2: 3 of 4 right, in whatever order they are asked. At 1: 3 of 5, but
        # nothing right is there.
        features, right = [3.0, 3.0, 2.0, 2.0, 1.0], [True, True, True, False, False]
        model, (at_3, _, at_2, _, at_1) = self.fitted(features, right, [1.0] * 5)
        assert model.threshold(0.76) == (at_3 + at_2) / 2
        assert model.threshold(0.75) == (at_2 + at_1) / 2
        assert model.threshold(0.6) == (at_2 + at_1) / 2

    def test_weights_count(self) -> None:
        # At 3: 5 of 5. At 2: 6 of 15, which are two of three.
        features, right = [3.0, 2.0, 2.0, 1.0], [True, False, True, False]
        model, (at_3, at_2, _, _) = self.fitted(features, right, [5.0, 9.0, 1.0, 1.0])
        assert model.threshold(0.5) == (at_3 + at_2) / 2
        model, (_, at_2, _, at_1) = self.fitted(features, right, [1.0] * 4)
        assert model.threshold(0.5) == (at_2 + at_1) / 2

    def test_never_falls_with_the_precision(self) -> None:
        for seed in range(5):
            assert (np.diff(fit(random_examples(seed, 80)).thresholds) >= 0).all()

    def test_never_reached(self) -> None:
        features, right = [3.0, 3.0, 2.0, 1.0], [True, False, True, False]
        model, _ = self.fitted(features, right, [1.0, 2.0, 1.0, 1.0])
        assert model.threshold(0.99) > 1

    @pytest.mark.parametrize(("wanted", "at"), [(0.5, 0), (0.9, 40), (0.905, 41), (0.99, 49)])
    def test_between_two_precisions_the_higher_one_counts(self, wanted: float, at: int) -> None:
        model = Confidence((1.0, 0.0), tuple(number / 100 for number in range(50)), 9)
        assert model.threshold(wanted) == at / 100

    @pytest.mark.parametrize("wanted", [math.nan, 0.0, 0.49, 1.0, 90.0, -1.0, math.inf])
    def test_a_precision_that_cannot_be_had(self, wanted: float) -> None:
        model = Confidence((1.0, 0.0), (0.5,) * len(PRECISIONS), 9)
        with pytest.raises(QueryError, match=r"from 0\.5 to 0\.99"):
            model.threshold(wanted)
