"""Recognition with strangers among the queries: by hand, in slow form, and as scikit-learn."""

from __future__ import annotations

import itertools
import json
import math
import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from veduta.evaluation.open_set import (
    OPEN_SET_METRICS,
    global_average_precision,
    open_set_figures,
    open_set_statistic,
    risk_coverage,
)


def slow_gap(confidences: list[float], right: list[bool], answerable: int) -> float:
    """1/M Σ P(i) rel(i), rank by rank."""
    rows = sorted(range(len(right)), key=lambda row: (-confidences[row], row))
    total = 0.0
    for rank in range(1, len(rows) + 1):
        if right[rows[rank - 1]]:
            total += sum(right[row] for row in rows[:rank]) / rank
    return total / answerable if answerable else math.nan


class TestGlobalAveragePrecision:
    def test_by_hand(self) -> None:
        # Right at ranks 1 and 3 of the list, four queries show a landmark: (1/1 + 2/3) / 4.
        gap = global_average_precision([0.9, 0.1, 0.5, 0.7], [True, False, True, False], 4)
        assert gap == pytest.approx((1 + 2 / 3) / 4)

    def test_a_prediction_for_a_stranger_costs_what_is_below_it(self) -> None:
        assert global_average_precision([0.9, 0.8], [False, True], 1) == 0.5
        assert global_average_precision([0.8, 0.9], [False, True], 1) == 1.0

    def test_a_query_without_a_prediction_costs_its_share(self) -> None:
        assert global_average_precision([0.9], [True], 2) == 0.5
        assert global_average_precision([], [], 2) == 0.0

    def test_ties_keep_the_order_of_the_rows(self) -> None:
        assert global_average_precision([0.5, 0.5], [True, False], 1) == 1.0
        assert global_average_precision([0.5, 0.5], [False, True], 1) == 0.5
        # Neither is scikit-learn's single step, nor the mean over both orders.
        assert average_precision_score([True, False], [0.5, 0.5]) == 0.5
        many = [0.5] * 4
        assert global_average_precision(many, [True, False, True, False], 2) == pytest.approx(5 / 6)
        assert average_precision_score([True, False, True, False], many) == 0.5

    def test_bad_input(self) -> None:
        assert math.isnan(global_average_precision([0.5], [False], 0))
        with pytest.raises(ValueError, match="2 predictions are right, but only 1"):
            global_average_precision([0.5, 0.4], [True, True], 1)
        with pytest.raises(ValueError, match="1 of 2 confidences are NaN"):
            global_average_precision([0.5, math.nan], [True, True], 2)
        with pytest.raises(ValueError, match="judgements"):
            global_average_precision([0.5], [True, False], 2)

    def test_as_the_formula_in_slow_form(self) -> None:
        rng = np.random.default_rng(31)
        for _ in range(1000):
            size = int(rng.integers(0, 60))
            confidences = rng.integers(0, rng.integers(1, 100), size) / 7
            right = rng.random(size) < rng.choice([0, 0.5, 0.9])
            answerable = int(right.sum() + rng.integers(0, 5))
            assert global_average_precision(confidences, right, answerable) == pytest.approx(
                slow_gap(confidences.tolist(), right.tolist(), answerable), abs=1e-9, nan_ok=True
            )

    def test_as_scikit_learn_where_nothing_is_tied_or_missed(self) -> None:
        rng = np.random.default_rng(32)
        for _ in range(200):
            confidences = rng.permutation(50) / 50
            right = rng.random(50) < 0.5
            gap = global_average_precision(confidences, right, int(right.sum()))
            assert gap == pytest.approx(average_precision_score(right, confidences), abs=1e-9)


class TestRiskCoverage:
    def test_by_hand(self) -> None:
        curve = risk_coverage([0.9, 0.1, 0.8, 0.7], [True, True, False, True])
        # Surest first: right, wrong, right, right.
        assert curve.confidence.tolist() == [0.9, 0.8, 0.7, 0.1]
        assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
        assert curve.risk == pytest.approx(np.array([0, 1 / 2, 1 / 3, 1 / 4]))
        assert curve.area == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
        # At best the wrong one comes last.
        assert curve.optimal_area == pytest.approx(1 / 16)
        assert curve.excess_area == pytest.approx(curve.area - 1 / 16)

    def test_the_ends(self) -> None:
        best = risk_coverage([0.9, 0.8, 0.1], [True, True, False])
        assert best.excess_area == 0.0
        assert risk_coverage([0.9, 0.8], [True, True]).area == 0.0
        assert risk_coverage([0.9, 0.8], [False, False]).area == 1.0
        with pytest.raises(ValueError, match="no answers"):
            risk_coverage([], [])

    def test_ties_are_the_mean_over_all_orders(self) -> None:
        rng = np.random.default_rng(33)
        for _ in range(60):
            confidences = rng.integers(0, 3, 6) / 2
            right = rng.random(6) < 0.5
            areas = []
            for order in itertools.permutations(range(6)):
                if any(confidences[a] < confidences[b] for a, b in itertools.pairwise(order)):
                    continue
                wrong = np.cumsum([not right[row] for row in order])
                areas.append(np.mean(wrong / np.arange(1, 7)))
            assert risk_coverage(confidences, right).area == pytest.approx(np.mean(areas), abs=1e-9)


# What six queries show, the best guess, whether it was given, and the confidence.
LABELS = ("arch", "arch", "dome", "dome", None, None)
GUESSES = ("arch", "dome", "dome", None, "arch", "dome")
ANSWERED = (True, True, False, False, True, False)
CONFIDENCES = (0.9, 0.6, 0.5, math.nan, 0.7, 0.2)


class TestOpenSetFigures:
    def test_by_hand(self) -> None:
        figures = open_set_figures(LABELS, GUESSES, ANSWERED, CONFIDENCES)
        # By confidence: right, stranger, wrong, right, stranger. Four show a place.
        assert figures.gap == pytest.approx((1 + 2 / 4) / 4)
        assert figures.known_named == 0.5
        assert figures.named_right == 0.5
        assert figures.named_right_overall == pytest.approx(1 / 3)
        assert figures.unknown_rejected == 0.5
        assert figures.guess_right == 0.5
        # Known 0.9, 0.6, 0.5 and none, unknown 0.7 and 0.2: 2 + 1 + 1 + 0 of 8 pairs.
        assert figures.auroc == 0.5
        assert (figures.known, figures.unknown, figures.named) == (4, 2, 3)

    def test_intervals_and_json(self) -> None:
        figures = open_set_figures(LABELS * 20, GUESSES * 20, ANSWERED * 20, CONFIDENCES * 20)
        read = json.loads(json.dumps(figures.as_json(), allow_nan=False))
        for name in (metric.key for metric in OPEN_SET_METRICS):
            low, high = read[f"{name}_interval"]
            assert low < read[name] < high
        assert read["known"] == 80
        again = open_set_figures(LABELS * 20, GUESSES * 20, ANSWERED * 20, CONFIDENCES * 20)
        assert again == figures

    def test_no_strangers_and_no_answers(self) -> None:
        figures = open_set_figures(["arch"], ["arch"], [False], [0.5])
        assert (figures.gap, figures.known_named, figures.guess_right) == (1.0, 0.0, 1.0)
        read = figures.as_json()
        for name in ("named_right", "named_right_overall", "unknown_rejected", "auroc"):
            assert read[name] is None and read[f"{name}_interval"] == [None, None]
        strangers = open_set_figures([None], [None], [False], [0.0])
        assert math.isnan(strangers.gap) and strangers.unknown_rejected == 1.0

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match="no queries"):
            open_set_figures([], [], [], [])
        with pytest.raises(ValueError, match="1 labels, 2 guesses"):
            open_set_figures(["a"], ["a", "b"], [True], [0.5])
        with pytest.raises(ValueError, match="query 1 is answered without a guess"):
            open_set_figures(["a", "b"], ["a", None], [True, True], [0.5, 0.5])
        with pytest.raises(ValueError, match="1 of 1 confidences are NaN"):
            open_set_figures(["a"], ["a"], [True], [math.nan])

    @pytest.mark.slow
    def test_draws_are_as_judging_the_drawn_queries(self) -> None:
        """The statistic of counts equals the plain figures of the queries, drawn one by one."""
        rng = np.random.default_rng(35)
        places = np.array(["arch", "dome", "gate", None], dtype=object)
        cases = 0
        while cases < 1000:
            size = int(rng.integers(1, 30))
            labels, guesses = rng.choice(places, size), rng.choice(places, size)
            answered = (rng.random(size) < 0.6) & np.array([g is not None for g in guesses])
            confidences = rng.integers(0, rng.choice([3, 1000]), size) / 10
            statistic = open_set_statistic(labels, guesses, answered, confidences)
            rows = np.sort(rng.integers(size, size=(10, size)), axis=1)
            counts = np.stack([np.bincount(row, minlength=size) for row in rows]).astype(float)
            found = statistic(counts)
            for row, figures in zip(rows, found, strict=True):
                expected = slow_open_set(labels[row], guesses[row], answered[row], confidences[row])
                assert figures.tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)
                cases += 1

    def test_quick_enough_for_thousands_of_queries(self) -> None:
        rng = np.random.default_rng(36)
        labels = rng.choice(np.array(["arch", "dome", None], dtype=object), 352).tolist()
        started = time.perf_counter()
        open_set_figures(labels, ["arch"] * 352, [True] * 352, rng.random(352))
        assert time.perf_counter() - started < 3


def slow_open_set(labels, guesses, answered, confidences) -> list[float]:
    queries = list(zip(labels, guesses, answered, confidences, strict=True))
    known = [query for query in queries if query[0] is not None]
    unknown = [query for query in queries if query[0] is None]
    predicted = [query for query in queries if query[1] is not None]

    def share(part: list, whole: list) -> float:
        return len(part) / len(whole) if whole else math.nan

    right = [query for query in known if query[0] == query[1]]
    named = [query for query in queries if query[2]]
    auroc = math.nan
    if known and unknown:
        scores = [-1.0 if guess is None else score for _, guess, _, score in queries]
        auroc = roc_auc_score([label is not None for label, *_ in queries], scores)
    return [
        slow_gap(
            [query[3] for query in predicted],
            [query[0] is not None and query[0] == query[1] for query in predicted],
            len(known),
        ),
        share([q for q in known if q[2]], known),
        share([q for q in right if q[2]], [q for q in known if q[2]]),
        share([q for q in right if q[2]], named),
        share([q for q in unknown if not q[2]], unknown),
        auroc,
        share(right, known),
    ]
