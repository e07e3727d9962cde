"""The figures of protocols, compared with trec_eval, scikit-learn and plain loops."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veduta.datasets.protocols import open_protocol
from veduta.evaluation.judged_ranking import (
    JudgedRanking,
    judge_order,
    judge_scores,
    ranked_down_to,
)
from veduta.evaluation.pooled_metrics import (
    PairPool,
    micro_average_precision,
    pair_statistic,
    recall_at_precision,
)
from veduta.evaluation.protocol_metrics import PROTOCOL_METRICS, shown_metrics

EXACT = 1e-12


def figure(protocol: str, key: str) -> Callable[[JudgedRanking], float]:
    (metric,) = (each for each in PROTOCOL_METRICS[protocol] if each.key == key)
    return metric.of_query


def ranking_of(letters: str, missing: int = 0) -> JudgedRanking:
    """Return the ranking of a word: r for right, - for wrong; some right photos are not in it."""
    positions = np.array([at for at, letter in enumerate(letters) if letter == "r"], np.int64)
    count = len(positions)
    return JudgedRanking(positions, np.ones(count), np.ones(count + missing))


def random_words(cases: int = 1000) -> Iterator[tuple[str, int]]:
    random = np.random.default_rng(3)
    for _ in range(cases):
        word = "".join(random.choice(["r", "-"], random.integers(1, 60), p=[0.3, 0.7]))
        missing = int(random.integers(0, 4))
        if "r" in word or missing:
            yield word, missing


def naive_scores(
    scores: list[float], right: dict[int, float], left_out: list[int]
) -> tuple[list[int], list[float], list[float]]:
    """Return the ranks and grades of the right photos, and all grades, from a whole sort."""
    order = sorted(range(len(scores)), key=lambda photo: (-scores[photo], photo))
    return naive_order(order, right, left_out)


def naive_order(
    order: list[int], right: dict[int, float], left_out: list[int]
) -> tuple[list[int], list[float], list[float]]:
    kept = [photo for photo in order if photo not in left_out]
    counted = {photo: grade for photo, grade in right.items() if photo not in left_out}
    seen: set[int] = set()
    ranks, grades = [], []
    for rank, photo in enumerate(kept):
        if photo in counted and photo not in seen:
            ranks.append(rank)
            grades.append(counted[photo])
        seen.add(photo)
    return ranks, grades, sorted(counted.values())


def random_judgements(random: np.random.Generator, gallery: int) -> tuple[dict[int, float], Any]:
    right = random.permutation(gallery)[: random.integers(0, gallery + 1)]
    grades = {int(photo): float(random.integers(1, 4)) for photo in right}
    left_out = random.permutation(gallery)[: random.integers(0, min(4, gallery))]
    return grades, left_out.astype(np.int64)


def check_ranking(
    judged: JudgedRanking, wanted: tuple[list[int], list[float], list[float]]
) -> None:
    assert judged.positions.tolist() == wanted[0]
    assert judged.grades.tolist() == wanted[1]
    assert sorted(judged.all_grades.tolist()) == wanted[2]
    assert judged.positives == len(wanted[2])
    assert judged.positions.dtype == np.int64


class TestRankings:
    @pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8])
    def test_scores(self, kind: type) -> None:
        random = np.random.default_rng(1)
        for _ in range(500):
            gallery = int(random.integers(1, 30))
            scores = random.integers(0, 6, gallery).astype(kind)
            right, left_out = random_judgements(random, gallery)
            judged = judge_scores(
                scores,
                np.array([*right], np.int64),
                np.array([*right.values()], np.float64),
                left_out,
            )
            check_ranking(judged, naive_scores(scores.tolist(), right, left_out.tolist()))

    def test_photos_that_rank_last(self) -> None:
        scores = np.array([-math.inf, 2.0, -math.inf, 1.0])
        judged = judge_scores(scores, np.array([0, 2]), np.array([1.0, 3.0]))
        check_ranking(judged, ([2, 3], [1.0, 3.0], [1.0, 3.0]))

    def test_a_score_that_is_no_number(self) -> None:
        with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
            judge_scores([1.0, math.nan], np.array([0]), np.ones(1))

    def test_rankings(self) -> None:
        random = np.random.default_rng(2)
        repeated = 0
        for _ in range(1000):
            gallery = int(random.integers(1, 30))
            order = random.integers(0, gallery, random.integers(0, 2 * gallery))
            repeated += len(np.unique(order)) < len(order)
            right, left_out = random_judgements(random, gallery)
            judged = judge_order(
                order,
                np.array([*right], np.int64),
                np.array([*right.values()], np.float64),
                left_out,
            )
            check_ranking(judged, naive_order(order.tolist(), right, left_out.tolist()))
        assert repeated > 500

    def test_a_photo_that_is_listed_again_is_a_wrong_one(self) -> None:
        judged = judge_order([4, 4, 2, 4], np.array([2, 4]), np.array([1.0, 2.0]))
        check_ranking(judged, ([0, 2], [2.0, 1.0], [1.0, 2.0]))


@pytest.fixture(scope="module")
def trec_eval() -> Callable[[dict, dict], dict[str, dict[str, float]]]:
    """Return what computes the figures of the protocol `qrels` with trec_eval."""
    package = pytest.importorskip("pytrec_eval")

    def evaluated(qrels: dict, run: dict) -> dict[str, dict[str, float]]:
        measures = {"ndcg_cut.1,10,100", "map_cut.10,100,1000", "recall.1,5,10,100"}
        found = package.RelevanceEvaluator(qrels, measures).evaluate(run)
        return {
            query: {
                name.replace("_cut_", "").replace("_", ""): value for name, value in row.items()
            }
            for query, row in found.items()
        }

    return evaluated


class TestTrecEval:
    def test_random_cases(self, trec_eval: Any) -> None:
        random = np.random.default_rng(4)
        tied = compared = beyond_1000 = 0
        while compared < 1000:
            # The large ones are for the figures of the first 100 and of the first 1000.
            largest = int(random.choice([40, 400, 3000], p=[0.9, 0.07, 0.03]))
            gallery = int(random.integers(1, largest))
            names = sorted({f"d{number}" for number in range(gallery)}, reverse=True)
            scores = random.integers(0, 8, gallery).astype(float)
            judged_rows = random.permutation(gallery)[: random.integers(1, gallery + 1)]
            grades = {int(row): int(random.integers(-1, 4)) for row in judged_rows}
            # A ranking may lack photos, as one of the first hundred of a large gallery does.
            listed = np.flatnonzero(random.random(gallery) < random.choice([0.5, 1.0]))
            positive = {row: grade for row, grade in grades.items() if grade > 0}
            if not positive or not len(listed):
                continue
            compared += 1
            tied += len(np.unique(scores[listed])) < len(listed)
            order = listed[np.argsort(-scores[listed], kind="stable")]
            right = np.array([*positive], np.int64)
            values = np.array([*positive.values()], np.float64)
            judged = judge_order(order, right, values)
            beyond_1000 += bool((judged.positions >= 1000).any())
            if len(listed) == gallery:
                again = judge_scores(scores, right, values)
                np.testing.assert_array_equal(again.positions, judged.positions)
            wanted = trec_eval(
                {"q": {names[row]: grade for row, grade in grades.items()}},
                {"q": {names[row]: float(scores[row]) for row in listed}},
            )["q"]
            metrics = PROTOCOL_METRICS["qrels"]
            assert {metric.key for metric in metrics} == set(wanted)
            for metric in metrics:
                found = metric.of_query(judged)
                assert found == pytest.approx(wanted[metric.key], abs=EXACT), metric.key
        assert tied > 700
        assert beyond_1000 >= 5

    def test_the_gallery_that_is_read_has_the_order_of_trec_eval(
        self, tmp_path: Path, trec_eval: Any
    ) -> None:
        random = np.random.default_rng(5)
        letters = ["a", "B", "é", "z", "1", "10", "2", "東", "\U0001f600", "-", "_"]
        names = sorted({a + b for a in letters for b in letters})
        (tmp_path / "qrels").mkdir()
        for file, ids in (("corpus", names), ("queries", ["q1", "q2", "q3"])):
            lines = (json.dumps({"_id": each, "image": "x.jpg"}) for each in ids)
            (tmp_path / f"{file}.jsonl").write_text("\n".join(lines), "utf-8")
        qrels = {
            query: {name: int(random.integers(0, 3)) for name in random.choice(names, 20)}
            for query in ("q1", "q2", "q3")
        }
        rows = [f"{q}\t{name}\t{grade}" for q, of in qrels.items() for name, grade in of.items()]
        text = "\n".join(["query-id\tcorpus-id\tscore", *rows])
        (tmp_path / "qrels" / "test.tsv").write_text(text, "utf-8")
        judged = open_protocol(tmp_path)
        scores = {
            query: dict(zip(names, random.integers(0, 3, len(names)).tolist(), strict=True))
            for query in qrels
        }
        run = {q: {name: float(score) for name, score in row.items()} for q, row in scores.items()}
        wanted = trec_eval(qrels, run)
        for number, query in enumerate(judged.queries):
            ranking = judge_scores(
                [scores[query][name] for name in judged.gallery],
                judged.positives.of_query(number),
                judged.positives.grades_of(number),
            )
            for metric in PROTOCOL_METRICS["qrels"]:
                found = metric.of_query(ranking)
                assert found == pytest.approx(wanted[query][metric.key], abs=EXACT), metric.key

    def test_trec_eval_keeps_single_precision(self, trec_eval: Any) -> None:
        """This is why the figures of scores that differ by less can differ."""
        qrels = {"q": {"a": 1, "b": 0}}
        assert trec_eval(qrels, {"q": {"a": 1 + 1e-6, "b": 1.0}})["q"]["recall1"] == 1
        assert trec_eval(qrels, {"q": {"a": 1 + 1e-8, "b": 1.0}})["q"]["recall1"] == 0

    def test_queries_without_a_right_photo_count_0_there(self, trec_eval: Any) -> None:
        found = trec_eval({"q": {"a": 0}}, {"q": {"a": 1.0}})
        assert set(found["q"].values()) == {0.0}


class TestScikitLearn:
    def test_average_precision_without_ties(self) -> None:
        sklearn_metrics = pytest.importorskip("sklearn.metrics")
        random = np.random.default_rng(6)
        average_precision = figure("gpr1200", "map")
        for _ in range(300):
            gallery = int(random.integers(2, 60))
            scores = random.permutation(gallery).astype(float)
            right = random.random(gallery) < 0.3
            if not right.any():
                continue
            rows = np.flatnonzero(right)
            wanted = sklearn_metrics.average_precision_score(right, scores)
            found = average_precision(judge_scores(scores, rows, np.ones(len(rows))))
            assert found == pytest.approx(wanted, abs=EXACT)
            pooled = micro_average_precision(scores, right, len(rows))
            assert pooled == pytest.approx(wanted, abs=EXACT)


class TestPlainLoops:
    @pytest.mark.parametrize(
        ("protocol", "k"),
        [("sop", 1), ("sop", 10), ("cub", 2), ("cub", 8), ("inshop", 30), ("places", 5)],
    )
    def test_hits(self, protocol: str, k: int) -> None:
        hit = figure(protocol, f"recall{k}")
        for word, missing in random_words():
            assert hit(ranking_of(word, missing)) == float("r" in word[:k])

    def test_n_s(self) -> None:
        n_s = figure("ukbench", "n_s")
        for word, missing in random_words():
            assert n_s(ranking_of(word, missing)) == word[:4].count("r")

    @pytest.mark.parametrize("protocol", ["holidays", "instre", "copydays"])
    def test_trapezoids(self, protocol: str) -> None:
        area_of = figure(protocol, "map")
        for word, missing in random_words():
            total = word.count("r") + missing
            area, found, before = Fraction(0), 0, Fraction(1)
            for rank, letter in enumerate(word, start=1):
                found += letter == "r"
                precision = Fraction(found, rank)
                if letter == "r":
                    area += (before + precision) / 2 / total
                before = precision
            assert area_of(ranking_of(word, missing)) == pytest.approx(float(area), abs=EXACT)

    @pytest.mark.parametrize(
        ("protocol", "k"),
        [("mapillary", 5), ("mapillary", 10), ("mapillary", 20), ("google-landmarks", 100)],
    )
    def test_map_within_k(self, protocol: str, k: int) -> None:
        value_of = figure(protocol, f"map{k}")
        for word, missing in random_words():
            total, found, value = word.count("r") + missing, 0, Fraction(0)
            for rank, letter in enumerate(word[:k], start=1):
                if letter == "r":
                    found += 1
                    value += Fraction(found, rank)
            wanted = float(value / min(k, total))
            assert value_of(ranking_of(word, missing)) == pytest.approx(wanted, abs=EXACT)

    def test_map_at_r_and_r_precision(self) -> None:
        map_at_r, r_precision = figure("sop", "map_r"), figure("sop", "r_precision")
        for word, missing in random_words():
            total, found, value = word.count("r") + missing, 0, Fraction(0)
            for rank, letter in enumerate(word[:total], start=1):
                if letter == "r":
                    found += 1
                    value += Fraction(found, rank)
            ranking = ranking_of(word, missing)
            assert map_at_r(ranking) == pytest.approx(float(value / total), abs=EXACT)
            assert r_precision(ranking) == pytest.approx(found / total, abs=EXACT)

    def test_perfect_rankings_have_the_highest_value(self) -> None:
        ranking = ranking_of("rrrr" + "-" * 20)
        for protocol, metrics in PROTOCOL_METRICS.items():
            for metric in metrics:
                if protocol != "qrels" or not metric.key.startswith("recall"):
                    assert metric.of_query(ranking) == pytest.approx(metric.highest), protocol

    def test_every_key_is_there_once(self) -> None:
        for protocol in PROTOCOL_METRICS:
            keys = [text.key for text in shown_metrics(protocol)]
            assert keys
            assert len(set(keys)) == len(keys)


def naive_pooled(
    pairs: list[tuple[float, bool]], positives: int, precision: float = 0.9
) -> tuple[float, float]:
    """Return µAP and the recall at a precision, by a loop over the thresholds."""
    value, found, recall = Fraction(0), 0, Fraction(0)
    for rank, (_, right) in enumerate(sorted(pairs, key=lambda each: (-each[0], each[1])), 1):
        found += right
        if right:
            value += Fraction(found, rank)
        if found / rank >= precision:
            recall = max(recall, Fraction(found, positives))
    return float(value / positives), float(recall)


def random_pairs(random: np.random.Generator, queries: int) -> list[tuple[int, float, bool]]:
    return [
        (query, float(random.integers(0, 12)), bool(random.random() < 0.5))
        for query in range(queries)
        for _ in range(random.integers(0, 8))
    ]


class TestPooled:
    def test_wrong_pairs_come_first_among_equal_scores(self) -> None:
        # Best first: right; wrong, right; right.
        scores, right = [3.0, 2.0, 2.0, 1.0], [True, True, False, True]
        assert micro_average_precision(scores, right, 4) == pytest.approx(
            (1 + 2 / 3 + 3 / 4) / 4, abs=EXACT
        )
        assert recall_at_precision(scores, right, 4) == 1 / 4
        assert recall_at_precision(scores, right, 4, precision=0.75) == 3 / 4

    def test_random_pairs(self) -> None:
        random = np.random.default_rng(7)
        for _ in range(500):
            pairs = random_pairs(random, 6)
            scores = [score for _, score, _ in pairs]
            right = [judged for _, _, judged in pairs]
            positives = sum(right) + int(random.integers(0, 3))
            if not positives:
                continue
            precision = float(random.choice([0.5, 0.75, 0.9, 1.0]))
            ap, recall = naive_pooled(list(zip(scores, right, strict=True)), positives, precision)
            assert micro_average_precision(scores, right, positives) == pytest.approx(ap, abs=EXACT)
            found = recall_at_precision(scores, right, positives, precision=precision)
            assert found == pytest.approx(recall, abs=EXACT)

    def test_a_threshold_does_not_part_equal_scores(self) -> None:
        """The recall is one that a threshold reaches, and the best of those."""
        random = np.random.default_rng(8)
        for _ in range(300):
            pairs = random_pairs(random, 5)
            scores = np.array([score for _, score, _ in pairs])
            right = np.array([judged for _, _, judged in pairs], np.bool_)
            if not right.any():
                continue
            above = [scores >= threshold for threshold in np.unique(scores)]
            wanted = max(
                (right[rows].sum() / right.sum() for rows in above if right[rows].mean() >= 0.75),
                default=0.0,
            )
            found = recall_at_precision(scores, right, int(right.sum()), precision=0.75)
            assert found == pytest.approx(wanted, abs=EXACT)

    def test_without_right_pairs(self) -> None:
        assert math.isnan(micro_average_precision([1.0], [False], 0))
        assert math.isnan(recall_at_precision([1.0], [False], 0))
        with pytest.raises(ValueError, match="1 right pairs are listed, but there are 0"):
            micro_average_precision([1.0], [True], 0)

    @pytest.mark.parametrize("limit", [1, 2, 5, 17])
    def test_a_pool_that_streams_keeps_what_one_list_has(self, limit: int) -> None:
        random = np.random.default_rng(9)
        compacted = 0
        for _ in range(300):
            pairs = random_pairs(random, 10)
            pool = PairPool(limit)
            for query in range(10):
                rows = [each for each in pairs if each[0] == query]
                pool.add(query, [score for _, score, _ in rows], [judged for *_, judged in rows])
            compacted += len(pairs) > 2 * limit
            # Python's sort is stable: of equal scores and judgements the first query comes first.
            wanted = sorted(pairs, key=lambda each: (-each[1], each[2]))[:limit]
            scores, right, queries = pool.sorted()
            assert (
                list(zip(queries.tolist(), scores.tolist(), right.tolist(), strict=True)) == wanted
            )
        assert compacted > 100

    def test_an_empty_pool(self) -> None:
        scores, right, queries = PairPool().sorted()
        assert (len(scores), len(right), len(queries)) == (0, 0, 0)


class TestPairStatistic:
    def draws(self) -> Iterator[tuple[list[tuple[int, float, bool]], np.ndarray, float]]:
        random = np.random.default_rng(10)
        for _ in range(300):
            pairs = random_pairs(random, 6)
            beyond = random.integers(0, 3, 6)
            positives = beyond + np.bincount([q for q, _, right in pairs if right], minlength=6)
            if positives.sum():
                yield pairs, positives, float(random.choice([0.5, 0.75, 0.9, 1.0]))

    def statistic(
        self, pairs: list[tuple[int, float, bool]], positives: np.ndarray, precision: float
    ) -> Callable[[np.ndarray], np.ndarray]:
        pool = PairPool()
        for query, score, right in pairs:
            pool.add(query, [score], [right])
        _, right, queries = pool.sorted()
        return pair_statistic(right, queries, positives, precision=precision)

    def test_each_query_once_gives_the_plain_figures(self) -> None:
        for pairs, positives, precision in self.draws():
            scores = [score for _, score, _ in pairs]
            right = [judged for *_, judged in pairs]
            total = int(positives.sum())
            found = self.statistic(pairs, positives, precision)(np.ones((1, 6)))[0]
            assert found[0] == pytest.approx(
                micro_average_precision(scores, right, total), abs=EXACT
            )
            assert found[1] == pytest.approx(
                recall_at_precision(scores, right, total, precision=precision), abs=EXACT
            )

    def test_counts_are_queries_that_are_there_again(self) -> None:
        random = np.random.default_rng(11)
        drawn_again = 0
        for pairs, positives, precision in self.draws():
            counts = random.multinomial(6, np.full(6, 1 / 6), size=3).astype(np.float64)
            drawn_again += int(counts.max() > 1)
            found = self.statistic(pairs, positives, precision)(counts)
            assert found.shape == (3, 2)
            for row, times in enumerate(counts.astype(int)):
                total = int(times @ positives)
                if not total:
                    assert np.isnan(found[row]).all()
                    continue
                repeated = [(s, right) for q, s, right in pairs for _ in range(times[q])]
                wanted = naive_pooled(repeated, total, precision)
                assert found[row] == pytest.approx(wanted, abs=EXACT)
        assert drawn_again > 200


def test_a_ranking_down_to_some_photos_is_the_beginning_of_the_whole_ranking() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        scores = rng.integers(0, 12, 40).astype(np.float32)
        wanted = rng.choice(40, 3, replace=False)
        whole = np.argsort(-scores, kind="stable")
        last = int(np.flatnonzero(scores[whole] >= scores[wanted].min())[-1])
        assert ranked_down_to(scores, wanted).tolist() == whole[: last + 1].tolist()
    assert not len(ranked_down_to(np.ones(3), np.empty(0, np.int64)))
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        ranked_down_to([np.nan, 1], np.array([1]))
