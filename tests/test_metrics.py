"""Metrics against values worked out by hand, slow forms of the formulas, and scikit-learn."""

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
from veduta.evaluation.bootstrap import (
    bootstrap_intervals,
    bootstrap_statistic,
    means_of,
    paired_bootstrap,
    percentile_intervals,
    two_sided_p_values,
)
from veduta.evaluation.metrics import (
    RECALL_LEVELS,
    TOP_K,
    NearestPhoto,
    QueryResult,
    average_precision,
    average_precision_at,
    judge,
    judge_ranked,
    precision_at,
    precision_at_recall,
    ranking,
    recall_at,
    top_k_accuracy,
    trapezoidal_average_precision,
)
from veduta.evaluation.summary import ClassSummary, class_table, summarise


def result(label: str, rank: int | None, ap: float, p10: float = 0.1) -> QueryResult:
    count = 0 if rank is None else 1
    hits = [rank is not None and rank <= k for k in TOP_K]
    values = (*hits, ap, p10, p10 * 2, ap / 2)
    return QueryResult(f"{label}.jpg", label, count, values, rank, ())


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

    def test_positives_that_are_not_ranked_count_nothing(self) -> None:
        # Right at rank 2, two more nowhere: (1/2) / 3.
        assert average_precision([0, 1], positives=3) == pytest.approx(1 / 6)
        assert average_precision([0, 0], positives=3) == 0.0
        with pytest.raises(ValueError, match="2 positives are ranked, but there are only 1"):
            average_precision([1, 1], positives=1)


class TestAveragePrecisionAt:
    RANKED = (1, 0, 1, 0, 0, 1)

    def test_by_hand(self) -> None:
        # Of the first three, ranks 1 and 3 are right: (1/1 + 2/3) / min(3, 3).
        assert average_precision_at(self.RANKED, 3, 3) == pytest.approx((1 + 2 / 3) / 3)
        # Four right in the gallery but only two can be among the first two: (1/1) / min(4, 2).
        assert average_precision_at(self.RANKED, 2, 4) == pytest.approx(1 / 2)
        assert average_precision_at(self.RANKED, 100, 3) == average_precision(self.RANKED)
        assert average_precision_at([1] * 150, 100, 150) == 1.0
        assert average_precision_at([0] * 100 + [1], 100, 1) == 0.0

    def test_the_ends(self) -> None:
        assert math.isnan(average_precision_at([0, 0], 100, 0))
        assert average_precision_at([], 100, 2) == 0.0
        with pytest.raises(ValueError, match="only 2"):
            average_precision_at(self.RANKED, 100, 2)
        with pytest.raises(ValueError, match="k is 0"):
            average_precision_at(self.RANKED, 0, 3)


class TestTrapezoidalAveragePrecision:
    def test_by_hand(self) -> None:
        # At rank 1: (1 + 1)/2. At rank 3: before it 1/2, at it 2/3. Over two positives.
        expected = (Fraction(1) + (Fraction(1, 2) + Fraction(2, 3)) / 2) / 2
        assert trapezoidal_average_precision([0, 2]) == pytest.approx(float(expected), abs=1e-15)
        # Never above the plain AP, which has 1 and 2/3.
        assert trapezoidal_average_precision([0, 2]) < average_precision([1, 0, 1])

    def test_the_ends(self) -> None:
        assert trapezoidal_average_precision([0, 1, 2]) == 1.0
        assert trapezoidal_average_precision([0], positives=4) == 0.25
        assert trapezoidal_average_precision([1]) == 0.25  # (0/1 + 1/2) / 2
        assert trapezoidal_average_precision([], positives=2) == 0.0
        assert math.isnan(trapezoidal_average_precision([]))
        for positions in ([1, 0], [2, 2], [-1, 3]):
            with pytest.raises(ValueError, match="ascend"):
                trapezoidal_average_precision(positions)
        with pytest.raises(ValueError, match="only 1"):
            trapezoidal_average_precision([0, 1], positives=1)


class TestPrecisionAndTopK:
    def test_precision_divides_by_k_always(self) -> None:
        assert precision_at([1, 0, 1, 1], 3) == pytest.approx(2 / 3)
        assert precision_at([1, 1], 10) == 0.2
        with pytest.raises(ValueError, match="1 or more"):
            precision_at([1], 0)

    def test_recall_divides_by_the_positives(self) -> None:
        assert recall_at([1, 0, 1, 1], 3) == pytest.approx(2 / 3)
        assert recall_at([1, 0, 1], 3, positives=8) == 0.25
        assert recall_at([0, 1], 10) == 1.0
        assert math.isnan(recall_at([0, 0], 10))
        with pytest.raises(ValueError, match="1 or more"):
            recall_at([1], 0)
        with pytest.raises(ValueError, match="one dimension"):
            recall_at([[1]], 1)

    def test_top_k_leaves_out_queries_without_positives(self) -> None:
        results = [result("a", 1, 1.0), result("b", 3, 0.3), result("c", None, math.nan)]
        assert top_k_accuracy(results, 1) == 0.5
        assert top_k_accuracy(results, 2) == 0.5
        assert top_k_accuracy(results, 3) == 1.0
        assert math.isnan(top_k_accuracy([results[2]], 1))


class TestPrecisionAtRecall:
    def test_by_hand(self) -> None:
        # Precision 1 at recall 1/2, 2/4 at recall 1.
        curve = precision_at_recall([True, False, False, True])
        assert curve == (1.0,) * 6 + (0.5,) * 5

    def test_it_never_rises(self) -> None:
        # Precision is 1/3, then 2/4: the higher one counts at the recalls before it too.
        assert precision_at_recall([False, False, True, True]) == (0.5,) * 11

    def test_positives_that_are_not_ranked(self) -> None:
        assert precision_at_recall([True], positives=2) == (1.0,) * 6 + (0.0,) * 5
        assert precision_at_recall([False], positives=1) == (0.0,) * 11
        assert precision_at_recall([False]) == ()

    def test_as_the_definition_in_slow_form(self) -> None:
        rng = np.random.default_rng(7)
        for _ in range(300):
            relevant = rng.random(rng.integers(1, 60)) < rng.random()
            positives = int(relevant.sum()) + int(rng.integers(0, 4))
            found = precision_at_recall(relevant, positives=positives)
            if not positives:
                assert found == ()
                continue
            ranks = [
                (Fraction(int(relevant[:k].sum()), positives), Fraction(int(relevant[:k].sum()), k))
                for k in range(1, len(relevant) + 1)
            ]
            slow = [
                max((float(p) for recall, p in ranks if recall >= Fraction(level, 10)), default=0.0)
                for level in range(11)
            ]
            assert found == pytest.approx(slow, abs=1e-12)
            assert len(found) == len(RECALL_LEVELS)


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
        with pytest.raises(ValueError, match="marks of junk"):
            judge("q", "x", [0.1, 0.2], [True, False], junk=[True])

    def test_junk_is_neither_right_nor_wrong(self) -> None:
        # Best first: junk, wrong, right, junk that would be right, right.
        scores = [0.9, 0.8, 0.7, 0.6, 0.5]
        judged = judge(
            "q",
            "x",
            scores,
            [False, False, True, True, True],
            junk=[True, False, False, True, False],
        )
        assert judged.positives == 2
        assert judged.first_correct_rank == 2
        assert judged.ap == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert [near.row for near in judged.nearest] == [1, 2, 4]
        everything = judge("q", "x", scores, [True] * 5, junk=[True] * 5)
        assert everything.positives == 0 and everything.nearest == ()

    def test_junk_and_the_photo_itself(self) -> None:
        judged = judge("q", "x", [3, 2, 1], [True, True, True], itself=0, junk=[False, True, False])
        assert [near.row for near in judged.nearest] == [2]
        assert judged.positives == 1 and judged.ap == 1.0

    def test_a_ranking_that_stops_early(self) -> None:
        near = NearestPhoto(7, math.nan, False)
        judged = judge_ranked("q", "x", [False, True], positives=4, nearest=(near,))
        assert judged.ap == judged.ap100 == pytest.approx(1 / 8)
        assert (judged.p10, judged.recall10) == (0.1, 0.25)
        assert judged.nearest == (near,)
        never = judge_ranked("q", "x", [False, False], positives=4)
        assert (never.ap, never.p10, never.first_correct_rank) == (0.0, 0.0, None)
        assert not never.right_within(10)

    def test_json(self) -> None:
        row = judge_ranked("q.jpg", "x", [0, 0, 1]).as_json()
        assert json.loads(json.dumps(row, allow_nan=False)) == {
            "path": "q.jpg",
            "label": "x",
            "positives": 1,
            "ap": pytest.approx(1 / 3),
            "p10": 0.1,
            "recall10": 1.0,
            "ap100": pytest.approx(1 / 3),
            "right_at_1": False,
            "right_at_3": True,
            "right_at_5": True,
            "right_at_10": True,
            "first_correct_rank": 3,
        }
        empty = judge_ranked("q.jpg", None, [0]).as_json()
        assert [empty[key] for key in ("ap", "p10", "recall10", "ap100")] == [None] * 4

    def test_as_the_formulas_in_slow_form(self) -> None:
        rng = np.random.default_rng(11)
        empty = 0
        for _ in range(1000):
            size = int(rng.integers(1, 260))
            # Few different scores, so that most are tied.
            scores = rng.integers(0, rng.integers(1, 2 * size + 1), size) / 8
            relevant = rng.random(size) < rng.choice([0.0, 0.02, 0.3, 0.9])
            junk = rng.random(size) < rng.choice([0.0, 0.2])
            itself = int(rng.integers(size)) if rng.random() < 0.3 else None
            judged = judge("q", "x", scores, relevant, itself=itself, junk=junk)
            expected = slow_figures(scores.tolist(), relevant.tolist(), junk.tolist(), itself)
            empty += not judged.positives
            found = judged.positives, judged.ap, judged.p10, judged.recall10, judged.ap100
            assert found == pytest.approx(expected[:5], abs=1e-9, nan_ok=True)
            assert [near.row for near in judged.nearest] == expected[5][:10]
            if judged.positives:
                ranked = [bool(relevant[row]) for row in expected[5]]
                theirs = average_precision_score(ranked, -np.arange(len(ranked)))
                assert judged.ap == pytest.approx(theirs, abs=1e-9)
        assert empty > 100


def slow_figures(
    scores: list[float], relevant: list[bool], junk: list[bool], itself: int | None
) -> tuple[int, float, float, float, float, list[int]]:
    """The definitions, rank by rank: positives, AP, P@10, recall@10, AP@100, and the ranking."""
    rows = [row for row in range(len(scores)) if row != itself and not junk[row]]
    rows.sort(key=lambda row: (-scores[row], row))
    positives = sum(relevant[row] for row in rows)
    if not positives:
        return 0, math.nan, math.nan, math.nan, math.nan, rows

    def precision(rank: int) -> float:
        return sum(relevant[row] for row in rows[:rank]) / rank

    whole = [precision(rank) for rank in range(1, len(rows) + 1) if relevant[rows[rank - 1]]]
    first = [
        precision(rank) for rank in range(1, min(100, len(rows)) + 1) if relevant[rows[rank - 1]]
    ]
    in10 = sum(relevant[row] for row in rows[:10])
    ap100 = sum(first) / min(positives, 100)
    return positives, sum(whole) / positives, in10 / 10, in10 / positives, ap100, rows


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
        monkeypatch.setattr("veduta.evaluation.bootstrap._MAX_COUNTS_IN_MEMORY", 40 * 7)
        assert np.array_equal(whole, bootstrap_intervals(values, resamples=101))

    def test_nothing_and_nan_are_refused(self) -> None:
        with pytest.raises(ValueError, match="N of 1 or more"):
            bootstrap_intervals(np.empty((0, 3)))
        with pytest.raises(ValueError, match="finite"):
            bootstrap_intervals([[math.nan]])

    def test_as_drawing_the_rows_themselves(self) -> None:
        values = np.random.default_rng(4).random((40, 2))
        drawn = np.random.default_rng(0).integers(40, size=(300, 40))
        expected = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975], axis=0).T
        assert bootstrap_intervals(values, resamples=300) == pytest.approx(expected, abs=1e-12)

    def test_undefined_draws_are_left_out(self) -> None:
        figures = np.array([[1.0, math.nan], [math.nan, math.nan], [3.0, math.nan]])
        assert percentile_intervals(figures, level=0.5)[0].tolist() == [1.5, 2.5]
        assert np.isnan(percentile_intervals(figures)[1]).all()

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(ValueError, match="0 queries"):
            bootstrap_statistic(means_of(np.empty((0, 1))), 0)


class TestPairedBootstrap:
    def test_equal_systems(self) -> None:
        values = np.random.default_rng(5).random((30, 2))
        paired = paired_bootstrap(values, values)
        assert paired.difference.tolist() == [0.0, 0.0]
        assert paired.interval.tolist() == [[0.0, 0.0], [0.0, 0.0]]
        assert paired.p_value.tolist() == [1.0, 1.0]

    def test_always_better(self) -> None:
        # No draw is at or below 0: p = 2 (1 + 0) / (R + 1).
        first = np.zeros((5, 1))
        paired = paired_bootstrap(first, first + 0.25, resamples=999)
        assert paired.difference.tolist() == [0.25]
        assert paired.interval.tolist() == [[0.25, 0.25]]
        assert paired.p_value.tolist() == [2 / 1000]

    def test_the_p_value_by_hand(self) -> None:
        # Of 9 draws one is below 0, one is 0, seven are above: 2 (1 + 2) / 10.
        drawn = np.array([-1, 0, 1, 1, 1, 1, 1, 1, 1.0])[:, None]
        assert two_sided_p_values(drawn).tolist() == [pytest.approx(0.6)]
        assert two_sided_p_values(-drawn).tolist() == [pytest.approx(0.6)]
        assert np.isnan(two_sided_p_values([[math.nan]])).all()
        with_nan = np.vstack([drawn, [[math.nan]]])
        assert two_sided_p_values(with_nan).tolist() == [pytest.approx(0.6)]

    def test_the_systems_are_drawn_together(self) -> None:
        # Queries differ a lot, the systems by a little on each: apart, the intervals overlap.
        rng = np.random.default_rng(6)
        first = rng.random((60, 1))
        second = first + 0.02 + 0.01 * rng.standard_normal((60, 1))
        paired = paired_bootstrap(first, second)
        assert 0.01 < paired.interval[0, 0] < paired.interval[0, 1] < 0.03
        assert paired.p_value[0] < 0.01
        assert bootstrap_intervals(first)[0, 1] > bootstrap_intervals(second)[0, 0]
        turned = paired_bootstrap(second, first)
        assert turned.difference == pytest.approx(-paired.difference)
        assert turned.interval[0] == pytest.approx(-paired.interval[0][::-1])

    def test_the_p_value_is_that_of_the_sign_when_queries_are_many(self) -> None:
        # 1 or -1 on 400 queries with mean 0.1: z = 0.1 / (0.995 / 20) = 2.01, two-sided p = 0.044.
        second = np.repeat([1.0, -1.0], [220, 180])[:, None]
        paired = paired_bootstrap(np.zeros((400, 1)), second, resamples=20_000)
        assert paired.p_value[0] == pytest.approx(0.044, abs=0.01)

    def test_chance_is_seldom_called_better(self) -> None:
        # Systems of equal quality differ with p < 0.05 about once in twenty times.
        rng = np.random.default_rng(7)
        first, second = rng.random((2, 80, 400))
        share = (paired_bootstrap(first, second).p_value < 0.05).mean()
        assert 0.02 < share < 0.09

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match="shapes"):
            paired_bootstrap([[1.0]], [[1.0], [2.0]])


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
        assert summary.recall10 == pytest.approx(0.4)
        assert summary.map100 == pytest.approx(0.2)
        assert (summary.queries, summary.queries_without_positives) == (3, 1)
        assert (summary.gallery, summary.distractors) == (20, 5)
        for name in ("top1", "top3", "top5", "top10", "map", "p10", "recall10", "map100"):
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
