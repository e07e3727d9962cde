"""Revisited Oxford and Paris: by hand, and rank by rank as the paper says it."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

from veduta.errors import DatasetError
from veduta.evaluation.metrics import trapezoidal_average_precision
from veduta.evaluation.revisited import RevisitedQuery, judge_revisited, revisited_figures

SETUPS = {"easy": ("e", "hj"), "medium": ("eh", "j"), "hard": ("h", "ej")}


def slow(ranking: list[int], truth: dict[str, list[int]], setup: str) -> list[float]:
    """AP and P@1, 5, 10 in fractions, from the ranking written as letters."""
    right, out = SETUPS[setup]
    letter = {row: kind[0] for kind in ("easy", "hard", "junk") for row in truth[kind]}
    kept = [letter.get(row, "-") for row in ranking]
    kept = [kind for kind in kept if kind not in out]
    total = sum(kind in right for kind in letter.values())
    if not total:
        return [math.nan] * 4

    def precision(rank: int) -> Fraction:
        if rank == 0:
            return Fraction(1)
        return Fraction(sum(kind in right for kind in kept[:rank]), rank)

    # The curve of precision over recall: a trapezoid at every rank, flat where nothing is found.
    area = Fraction(0)
    for rank in range(1, len(kept) + 1):
        step = Fraction(int(kept[rank - 1] in right), total)
        area += step * (precision(rank - 1) + precision(rank)) / 2
    last = max((rank for rank, kind in enumerate(kept, 1) if kind in right), default=None)
    figures = [area]
    for k in (1, 5, 10):
        figures.append(Fraction(0) if last is None else precision(min(last, k)))
    return [float(figure) for figure in figures]


class TestOneQuery:
    # Best first: junk, easy, wrong, hard, wrong, easy.
    RANKING = (8, 0, 20, 4, 21, 1)
    TRUTH: ClassVar = {"easy": [0, 1], "hard": [4], "junk": [8]}

    def test_by_hand(self) -> None:
        judged = judge_revisited(self.RANKING, self.TRUTH)
        # Easy, without junk and hard: easy, wrong, wrong, easy. (1 + (1/3 + 2/4)/2) / 2.
        assert judged["easy"].ap == pytest.approx((1 + (1 / 3 + 2 / 4) / 2) / 2)
        # Medium: easy, wrong, hard, wrong, easy. Before rank 3 precision is 1/2, before rank 5 2/4.
        medium = (1 + (1 / 2 + 2 / 3) / 2 + (2 / 4 + 3 / 5) / 2) / 3
        assert judged["medium"].ap == pytest.approx(medium)
        # Hard, without junk and easy: wrong, hard, wrong. (0/1 + 1/2) / 2.
        assert judged["hard"].ap == pytest.approx(1 / 4)

    def test_precision_stops_at_the_last_positive(self) -> None:
        judged = judge_revisited(self.RANKING, self.TRUTH)
        assert judged["easy"] == RevisitedQuery(2, judged["easy"].ap, 1.0, 2 / 4, 2 / 4)
        assert (judged["hard"].p1, judged["hard"].p5, judged["hard"].p10) == (0.0, 0.5, 0.5)
        perfect = judge_revisited([1, 0, 20, 21, 22], {"easy": [0, 1], "hard": [], "junk": []})
        assert perfect["easy"].p10 == 1.0

    def test_no_positive_in_a_setup(self) -> None:
        judged = judge_revisited([3, 0, 1], {"easy": [0], "hard": [], "junk": [3]})
        assert judged["hard"].positives == 0
        assert math.isnan(judged["hard"].ap) and math.isnan(judged["hard"].p1)
        assert judged["easy"].ap == 1.0

    def test_positives_that_are_not_ranked(self) -> None:
        judged = judge_revisited([0], {"easy": [0, 1], "hard": [2], "junk": []})
        assert judged["easy"].ap == 0.5
        assert (judged["hard"].ap, judged["hard"].p10) == (0.0, 0.0)

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match="different row numbers"):
            judge_revisited([1, 1], self.TRUTH)
        with pytest.raises(ValueError, match="no hard and no junk"):
            judge_revisited([1], {"easy": [1]})
        with pytest.raises(ValueError, match="of two kinds"):
            judge_revisited([1], {"easy": [1], "hard": [1], "junk": []})


def random_truth(rng: np.random.Generator, size: int) -> dict[str, list[int]]:
    rows = rng.permutation(size).tolist()
    sizes = [int(rng.integers(0, size // 3 + 1)) * int(rng.random() < 0.7) for _ in range(3)]
    bounds = np.cumsum([0, *sizes])
    return {
        kind: rows[start:end]
        for kind, start, end in zip(("easy", "hard", "junk"), bounds, bounds[1:], strict=False)
    }


def test_as_the_paper_in_slow_form() -> None:
    rng = np.random.default_rng(41)
    empty = 0
    for _ in range(1000):
        size = int(rng.integers(1, 40))
        truth = random_truth(rng, size)
        ranking = rng.permutation(size)[: int(rng.integers(1, size + 1))].tolist()
        for setup, judged in judge_revisited(ranking, truth).items():
            found = [judged.ap, judged.p1, judged.p5, judged.p10]
            assert found == pytest.approx(slow(ranking, truth, setup), abs=1e-9, nan_ok=True)
            empty += not judged.positives
    assert empty > 300


def test_trapezoids_equal_the_area_by_numerical_integration() -> None:
    rng = np.random.default_rng(42)
    for _ in range(1000):
        relevant = rng.random(int(rng.integers(1, 60))) < 0.3
        positives = int(relevant.sum()) + int(rng.integers(0, 3))
        ranks = np.arange(1, len(relevant) + 1)
        recall = np.concatenate([[0], np.cumsum(relevant)])
        precision = np.concatenate([[1], np.cumsum(relevant) / ranks])
        middles = (precision[1:] + precision[:-1]) / 2
        area = np.sum(np.diff(recall) * middles) / positives if positives else math.nan
        found = trapezoidal_average_precision(np.flatnonzero(relevant), positives=positives)
        assert found == pytest.approx(area, abs=1e-9, nan_ok=True)


class TestManyQueries:
    RANKINGS = ((0, 1, 2, 3), (3, 2, 1, 0), (0, 1, 2, 3))
    TRUTHS = (
        {"easy": [0], "hard": [], "junk": []},
        {"easy": [0], "hard": [3], "junk": [2]},
        {"easy": [], "hard": [], "junk": [1]},
    )

    def test_means_leave_out_queries_without_positives(self) -> None:
        figures = revisited_figures(iter(self.RANKINGS), iter(self.TRUTHS))
        easy, hard = figures["easy"], figures["hard"]
        # Easy: first 1; second without 3 and 2 is wrong, easy: (0 + 1/2) / 2.
        assert easy.map == pytest.approx((1 + 1 / 4) / 2)
        assert easy.ap[:2].tolist() == [1.0, 0.25] and math.isnan(easy.ap[2])
        assert (easy.queries, easy.queries_without_positives) == (2, 1)
        assert easy.map_interval == (0.25, 1.0)
        assert (easy.mp1, easy.mp10) == (0.5, 0.75)
        assert (hard.map, hard.queries, hard.queries_without_positives) == (1.0, 1, 2)

    def test_json(self) -> None:
        figures = revisited_figures(self.RANKINGS, self.TRUTHS)
        read = json.loads(json.dumps(figures["easy"].as_json(), allow_nan=False))
        assert read["setup"] == "easy" and read["ap"] == [1.0, 0.25, None]
        assert read["mp10_interval"] == [0.5, 1.0]

    def test_a_setup_that_is_empty_has_no_figures(self) -> None:
        figures = revisited_figures(self.RANKINGS[:1], self.TRUTHS[:1])
        assert math.isnan(figures["hard"].map)
        assert figures["hard"].as_json()["map_interval"] == [None, None]
        assert figures["medium"].map == 1.0
        with pytest.raises(DatasetError, match="none of the 1 queries has an easy or a hard"):
            revisited_figures(self.RANKINGS[2:], self.TRUTHS[2:])

    def test_as_many_rankings_as_queries(self) -> None:
        with pytest.raises(ValueError, match="longer"):
            revisited_figures(self.RANKINGS[:2], self.TRUTHS)
