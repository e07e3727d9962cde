"""Metrics against values worked out by hand, and against scikit-learn."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import bootstrap_intervals
from veduta.evaluation.metrics import (
    QueryResult,
    average_precision,
    judge,
    precision_at,
    ranking,
    top_k_accuracy,
)
from veduta.evaluation.summary import ClassSummary, class_table, summarise


def result(label: str, rank: int | None, ap: float, p10: float = 0.1) -> QueryResult:
    return QueryResult(f"{label}.jpg", label, 0 if rank is None else 1, ap, p10, rank, ())


class TestRanking:
    def test_ties_by_row_number(self) -> None:
        assert ranking([0.2, 0.9, 0.2, 0.9, 0.5]).tolist() == [1, 3, 4, 0, 2]

    def test_many_ties_stay_in_order(self) -> None:
        assert ranking(np.zeros(5000, np.float32)).tolist() == list(range(5000))

    def test_integers_and_infinities(self) -> None:
        assert ranking(np.array([3, 200, 0], np.uint8)).tolist() == [1, 0, 2]
        assert ranking([-np.inf, 1.0, np.inf]).tolist() == [2, 1, 0]

    def test_nan_and_matrices_are_refused(self) -> None:
        with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
            ranking([1.0, np.nan])
        with pytest.raises(ValueError, match="one dimension"):
            ranking([[1.0]])


class TestAveragePrecision:
    def test_by_hand(self) -> None:
        # Right at ranks 1, 3 and 6: (1/1 + 2/3 + 3/6) / 3 = 13/18.
        assert average_precision([1, 0, 1, 0, 0, 1]) == pytest.approx(13 / 18, abs=1e-15)

    def test_the_ends(self) -> None:
        assert average_precision([1, 1, 0]) == 1.0
        assert average_precision([0, 0, 0, 1]) == 0.25
        assert math.isnan(average_precision([0, 0]))
        assert math.isnan(average_precision([]))

    def test_ties_follow_the_row_numbers(self) -> None:
        # All scores equal, so the ranking is the row order: right at ranks 2 and 3.
        tied = judge("q", "x", [0.5, 0.5, 0.5], [False, True, True])
        assert tied.ap == pytest.approx((Fraction(1, 2) + Fraction(2, 3)) / 2)
        assert tied.first_correct_rank == 2
        # The same photos in another order rank otherwise: the rule is fixed, not fair.
        assert judge("q", "x", [0.5, 0.5, 0.5], [True, True, False]).ap == 1.0

    @given(
        st.lists(st.booleans(), min_size=1, max_size=60).filter(any),
        st.randoms(use_true_random=False),
    )
    def test_as_scikit_learn_without_ties(self, relevant: list[bool], random) -> None:
        scores = random.sample(range(1000), len(relevant))
        assert judge("q", "x", scores, relevant).ap == pytest.approx(
            average_precision_score(relevant, scores), abs=1e-12
        )


class TestPrecisionAndTopK:
    def test_precision_divides_by_k_always(self) -> None:
        assert precision_at([1, 0, 1, 1], 3) == pytest.approx(2 / 3)
        assert precision_at([1, 1], 10) == 0.2
        with pytest.raises(ValueError, match="1 or more"):
            precision_at([1], 0)

    def test_top_k_leaves_out_queries_without_positives(self) -> None:
        results = [result("a", 1, 1.0), result("b", 3, 0.3), result("c", None, math.nan)]
        assert top_k_accuracy(results, 1) == 0.5
        assert top_k_accuracy(results, 2) == 0.5
        assert top_k_accuracy(results, 3) == 1.0
        assert math.isnan(top_k_accuracy([results[2]], 1))


class TestJudge:
    def test_the_whole_record(self) -> None:
        judged = judge(
            "q.jpg", "x", np.array([0.1, 0.9, 0.4], np.float32), [True, False, True], keep=2
        )
        assert (judged.path, judged.label, judged.positives) == ("q.jpg", "x", 2)
        assert judged.first_correct_rank == 2
        assert judged.p10 == 0.2
        assert judged.ap == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert [(n.row, n.correct) for n in judged.nearest] == [(1, False), (2, True)]
        assert judged.nearest[0].score == pytest.approx(0.9)
        assert [judged.right_within(k) for k in (1, 2, 3)] == [False, True, True]

    def test_the_photo_itself_is_no_answer(self) -> None:
        judged = judge("q", "x", [1.0, 0.5, 0.2], [False, False, True], itself=0)
        assert [near.row for near in judged.nearest] == [1, 2]
        assert judged.first_correct_rank == 2
        assert judged.ap == 0.5

    def test_without_a_positive(self) -> None:
        judged = judge("q", None, [0.3, 0.2], [False, False])
        assert judged.positives == 0
        assert judged.first_correct_rank is None
        assert math.isnan(judged.ap) and math.isnan(judged.p10)
        assert not judged.right_within(10)
        assert len(judged.nearest) == 2

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match="judgements"):
            judge("q", "x", [0.1, 0.2], [True])


class TestBootstrap:
    def test_the_same_seed_gives_the_same_interval(self) -> None:
        values = np.random.default_rng(1).random((50, 2))
        first = bootstrap_intervals(values, seed=7)
        assert np.array_equal(first, bootstrap_intervals(values, seed=7))
        assert not np.array_equal(first, bootstrap_intervals(values, seed=8))

    def test_a_share_has_the_binomial_interval(self) -> None:
        # Resampling 400 queries of which 300 are right draws Binomial(400, 0.75) / 400: its
        # standard deviation is 0.02165, and 1.96 of them lie on either side.
        share = np.repeat([1.0, 0.0], [300, 100])[:, None]
        low, high = bootstrap_intervals(share, resamples=20_000)[0]
        assert low == pytest.approx(0.75 - 1.96 * 0.02165, abs=0.003)
        assert high == pytest.approx(0.75 + 1.96 * 0.02165, abs=0.003)

    def test_columns_are_drawn_together(self) -> None:
        values = np.random.default_rng(2).random((30, 1))
        ends = bootstrap_intervals(np.hstack([values, 1 - values]))
        assert ends[1] == pytest.approx(1 - ends[0][::-1])

    def test_one_query_and_constant_values_have_no_width(self) -> None:
        assert bootstrap_intervals([[0.25, 1.0]]).tolist() == [[0.25, 0.25], [1.0, 1.0]]
        assert bootstrap_intervals(np.full((9, 1), 0.5)) == pytest.approx(np.array([[0.5, 0.5]]))

    def test_blocks_cover_all_resamples(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = np.random.default_rng(3).random((40, 1))
        whole = bootstrap_intervals(values, resamples=101)
        monkeypatch.setattr("veduta.evaluation.bootstrap._COUNTS_AT_ONCE", 40 * 7)
        assert np.array_equal(whole, bootstrap_intervals(values, resamples=101))

    def test_nothing_and_nan_are_refused(self) -> None:
        with pytest.raises(ValueError, match="N of 1 or more"):
            bootstrap_intervals(np.empty((0, 3)))
        with pytest.raises(ValueError, match="finite"):
            bootstrap_intervals([[math.nan]])


class TestSummary:
    RESULTS = (
        result("dome", 1, 0.9, 0.4),
        result("dome", 4, 0.3, 0.2),
        result("tower", 11, 0.0, 0.0),
        result("arch", None, math.nan, math.nan),
    )

    def test_means_are_over_queries_with_positives(self) -> None:
        summary = summarise(self.RESULTS, gallery=20, distractors=5)
        third = pytest.approx(1 / 3)
        assert (summary.top1, summary.top3) == (third, third)
        assert (summary.top5, summary.top10) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
        assert summary.map == pytest.approx(0.4)
        assert summary.p10 == pytest.approx(0.2)
        assert (summary.queries, summary.queries_without_positives) == (3, 1)
        assert (summary.gallery, summary.distractors) == (20, 5)
        for name in ("top1", "top3", "top5", "top10", "map", "p10"):
            low, high = getattr(summary, f"{name}_interval")
            assert low <= getattr(summary, name) <= high

    def test_json(self) -> None:
        summary = summarise(self.RESULTS, gallery=20)
        read = json.loads(json.dumps(summary.as_json(), allow_nan=False))
        assert {"top1", "top3", "top5", "top10", "map", "p10", "queries", "gallery"} <= set(read)
        assert read["map"] == summary.map
        assert read["map_interval"] == list(summary.map_interval)

    def test_no_positive_anywhere(self) -> None:
        with pytest.raises(DatasetError, match="none of the 1 queries has a photo with its label"):
            summarise([self.RESULTS[3]], gallery=20)

    def test_classes(self) -> None:
        assert class_table(self.RESULTS) == [
            ClassSummary("dome", 2, 0.5, pytest.approx(0.6)),
            ClassSummary("tower", 1, 0.0, 0.0),
        ]
