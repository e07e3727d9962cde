"""Judge the answers to the queries of a published protocol, one query after the other.

Nothing holds queries × gallery: of each query stay its values, its first answers, and for figures
that pool all queries its pairs that may count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.datasets.judged_set import JudgedSet
from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import (
    RESAMPLES,
    bootstrap_intervals,
    bootstrap_statistic,
    percentile_intervals,
)
from veduta.evaluation.figures import Figures, Measured, measured
from veduta.evaluation.judged_ranking import JudgedRanking, judge_order, judge_scores
from veduta.evaluation.metrics import NearestPhoto
from veduta.evaluation.open_set import gap_statistic, global_average_precision
from veduta.evaluation.pooled_metrics import (
    PairPool,
    micro_average_precision,
    pair_statistic,
    recall_at_precision,
)
from veduta.evaluation.protocol_metrics import (
    NAMING_PROTOCOLS,
    POOLED_METRICS,
    POOLING_PROTOCOLS,
    PROTOCOL_METRICS,
)

__all__ = ["Answer", "GivenOrder", "ProtocolFigures", "ProtocolJudge", "ProtocolQuery"]


_PLACE_PROTOCOLS = frozenset({"places", "mapillary", "nordland"})
"""The protocols whose papers differ in what a query without a right answer counts as."""

_LIMITS_METRES = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)
_LIMITS_FRAMES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True, slots=True, eq=False)
class GivenOrder:
    """A ranking that may lack some of the gallery, as other programs write it.

    Attributes:
        rows: (R,) int64 positions in the gallery, best first.
        scores: (R,) float64 of these; None if the file has none.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None


Answer: TypeAlias = NDArray[np.floating[Any]] | GivenOrder
"""(G,) scores of the whole gallery, or a ranking that may lack some of it."""


@dataclass(frozen=True, slots=True)
class ProtocolQuery:
    """The result of one query.

    Attributes:
        id: of the query.
        path: of its photo.
        label: what it shows; None if it shows nothing of the gallery or the protocol has no labels.
        positives: how many photos of the gallery are right.
        values: of each figure of the protocol, in the order of its list; empty without positives.
        first_correct_rank: from 1; None if no answer is right.
        nearest: the first answers, best first. A ranking without scores has NaN for each.
        guess: the label of the first answer, where the protocol names what a query shows.
        confidence: the score of the first answer, where the protocol names; NaN without an answer.
    """

    id: str
    path: str
    label: str | None
    positives: int
    values: tuple[float, ...]
    first_correct_rank: int | None
    nearest: tuple[NearestPhoto, ...]
    guess: str | None = None
    confidence: float = math.nan


@dataclass(frozen=True, slots=True)
class ProtocolFigures(Figures):
    """The figures of a protocol.

    Each figure is an attribute by its key: `figures.recall1`, `figures.recall1_interval`.

    Attributes:
        figures: of each metric, the value and the 95 % bootstrap interval over queries.
        with_all_queries: figure → its mean if a query without a right answer counts as wrong, where
            papers differ in that; empty where they do not.
        queries: how many queries have a right answer.
        queries_without_positives: how many more have none.
        tables: name of a grouping → rows of (group, queries, value of each figure).
    """

    figures: Mapping[str, Measured]
    with_all_queries: Mapping[str, float]
    queries: int
    queries_without_positives: int
    tables: Mapping[str, Sequence[tuple[str, int, tuple[float, ...]]]]


class ProtocolJudge:
    """Takes the answers to the queries of a set, and returns the figures."""

    def __init__(self, judged: JudgedSet, *, keep: int = 10) -> None:
        """Begin with the first query.

        Args:
            judged: the set.
            keep: how many of the first answers each result holds.
        """
        self.judged = judged
        self.metrics = PROTOCOL_METRICS[judged.protocol]
        self.results: list[ProtocolQuery] = []
        self._keep = keep
        self._pool = PairPool() if judged.protocol in POOLING_PROTOCOLS else None
        self._names = judged.protocol in NAMING_PROTOCOLS
        self._distances: list[float] = []
        self._group_values: dict[str, dict[str, list[tuple[float, ...]]]] = {}

    def add(self, number: int, answer: Answer) -> None:
        """Judge the answer to a query.

        Args:
            number: of the query.
            answer: (G,) scores of the whole gallery, or a ranking.

        Raises:
            DatasetError: the protocol needs scores, and the ranking has none.
        """
        judged = self.judged
        right, grades = judged.positives.of_query(number), judged.positives.grades_of(number)
        left_out = judged.left_out(number)
        ranking = _judged(answer, right, grades, left_out)
        rows, scores = _first(answer, self._keep, left_out)
        is_right = np.isin(rows, right)
        guess, confidence = None, math.nan
        if self._names and len(rows):
            self._need_scores(answer)
            guess, confidence = judged.gallery_labels[int(rows[0])], float(scores[0])
        if self._pool is not None:
            self._need_scores(answer)
            pair_scores, pair_right = _pairs(answer, right, left_out)
            self._pool.add(len(self.results), pair_scores, pair_right)
        if len(judged.query_places):
            self._distances.append(_distance(judged, number, rows))
        self._add_groups(number, answer, left_out)
        values: tuple[float, ...] = ()
        if ranking.positives:
            values = tuple(metric.of_query(ranking) for metric in self.metrics)
        first = int(ranking.positions[0]) + 1 if len(ranking.positions) else None
        self.results.append(
            ProtocolQuery(
                id=judged.queries[number],
                path=judged.query_paths[number],
                label=judged.query_labels[number] if judged.query_labels else None,
                positives=ranking.positives,
                values=values,
                first_correct_rank=first,
                nearest=tuple(
                    NearestPhoto(row, score, bool(correct))
                    for row, score, correct in zip(
                        rows.tolist(), scores.tolist(), is_right, strict=True
                    )
                ),
                guess=guess,
                confidence=confidence,
            )
        )

    @property
    def pools(self) -> bool:
        """Whether the protocol pools the pairs of all queries."""
        return self._pool is not None

    def figures(self, *, resamples: int = RESAMPLES, seed: int = 0) -> ProtocolFigures:
        """Return the figures of all queries that were added.

        Args:
            resamples: draws of the bootstrap.
            seed: of the bootstrap.

        Raises:
            DatasetError: no query has a right answer in the gallery.
        """
        results = self.results
        judged = [result for result in results if result.positives]
        if not judged:
            raise DatasetError(
                f"none of the {len(results)} queries of {self.judged.name} has a right photo in "
                "the gallery"
            )
        figures: dict[str, Measured] = {}
        if self.metrics:
            values = np.array([result.values for result in judged])
            figures |= measured(
                [metric.key for metric in self.metrics],
                values.mean(axis=0).tolist(),
                bootstrap_intervals(values, resamples=resamples, seed=seed).tolist(),
            )
        if self._names:
            figures |= _naming_figures(results, resamples, seed)
        if self._pool is not None:
            figures |= self._pooled_figures(resamples, seed)
        share = len(judged) / len(results)
        counts_all = self.judged.protocol in _PLACE_PROTOCOLS
        return ProtocolFigures(
            figures=figures,
            with_all_queries=(
                {key: figure.value * share for key, figure in figures.items()} if counts_all else {}
            ),
            queries=len(judged),
            queries_without_positives=len(results) - len(judged),
            tables=self._tables(),
        )

    def pooled_pairs(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
        """Return the pairs that count, as `PairPool.sorted`; none if pairs are not pooled."""
        return (self._pool or PairPool()).sorted()

    def _need_scores(self, answer: Answer) -> None:
        if isinstance(answer, GivenOrder) and answer.scores is None:
            raise DatasetError(
                f"the protocol {self.judged.protocol} compares the answers of different queries by "
                "their scores, and the ranking has none; write a TREC run or a CSV file with scores"
            )

    def _pooled_figures(self, resamples: int, seed: int) -> dict[str, Measured]:
        scores, right, queries = self.pooled_pairs()
        of_query = np.array([result.positives for result in self.results], np.int64)
        positives = int(of_query.sum())
        statistic = pair_statistic(right, queries, of_query)
        drawn = bootstrap_statistic(statistic, len(of_query), resamples=resamples, seed=seed)
        values = [
            micro_average_precision(scores, right, positives),
            recall_at_precision(scores, right, positives),
        ]
        keys = [metric.key for metric in POOLED_METRICS["pairs"]]
        return measured(keys, values, percentile_intervals(drawn).tolist())

    def _add_groups(
        self,
        number: int,
        answer: Answer,
        left_out: NDArray[np.int64],
    ) -> None:
        """Judge a query by the positives of each group alone; the others are taken out."""
        positives = self.judged.positives
        part = slice(int(positives.starts[number]), int(positives.starts[number + 1]))
        right, grades = positives.positions[part], positives.grades[part]
        for grouping, names in self.judged.groups.items():
            of_right = np.array(names[part])
            for group in np.unique(of_right).tolist():
                inside = of_right == group
                ranking = _judged(
                    answer, right[inside], grades[inside], np.append(left_out, right[~inside])
                )
                values = tuple(metric.of_query(ranking) for metric in self.metrics)
                groups = self._group_values.setdefault(grouping, {})
                groups.setdefault(group, []).append(values)

    def _tables(self) -> dict[str, list[tuple[str, int, tuple[float, ...]]]]:
        tables: dict[str, list[tuple[str, int, tuple[float, ...]]]] = {}
        for grouping, groups in self._group_values.items():
            tables[grouping] = [_mean_row(name, groups[name]) for name in sorted(groups)]
        if self.metrics and self.judged.query_labels and self.judged.gallery_labels:
            of_label: dict[str, list[tuple[float, ...]]] = {}
            for result in self.results:
                if result.positives and result.label is not None:
                    of_label.setdefault(result.label, []).append(result.values)
            if any(len(values) > 1 for values in of_label.values()):
                tables["class"] = [_mean_row(name, of_label[name]) for name in sorted(of_label)]
        if self._distances:
            distances = np.array(self._distances)
            limits = _LIMITS_METRES if self.judged.query_places.shape[1] == 2 else _LIMITS_FRAMES
            tables["distance"] = [
                (f"{limit:g}", len(distances), (float((distances <= limit).mean()),))
                for limit in limits
            ]
        return tables


def _judged(
    answer: Answer,
    right: NDArray[np.int64],
    grades: NDArray[np.float64],
    left_out: NDArray[np.int64],
) -> JudgedRanking:
    if isinstance(answer, GivenOrder):
        return judge_order(answer.rows, right, grades, left_out)
    return judge_scores(answer, right, grades, left_out)


def _first(
    answer: Answer, keep: int, left_out: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first answers and their scores, best first."""
    if isinstance(answer, GivenOrder):
        stays = np.flatnonzero(~np.isin(answer.rows, left_out))[:keep]
        scores = np.full(len(stays), math.nan) if answer.scores is None else answer.scores[stays]
        return answer.rows[stays], scores
    values = np.array(answer)
    allowed = len(values) - len(np.unique(left_out))
    values[left_out] = -np.inf
    keep = min(keep, allowed)
    if not keep:
        return np.empty(0, np.int64), np.empty(0)
    least = np.partition(values, -keep)[-keep]
    candidates = np.flatnonzero(values >= least)
    candidates = candidates[~np.isin(candidates, left_out)]
    order = candidates[np.argsort(-values[candidates], kind="stable")][:keep]
    return order, values[order].astype(np.float64)


def _pairs(
    answer: Answer,
    right: NDArray[np.int64],
    left_out: NDArray[np.int64],
) -> tuple[ArrayLike, NDArray[np.bool_]]:
    """Return the score of each pair of a query, and whether it is right."""
    if isinstance(answer, GivenOrder):
        rows, scores = answer.rows, np.asarray(answer.scores, np.float64)
        stays = ~np.isin(rows, left_out)
        return scores[stays], np.isin(rows[stays], right)
    stays, is_right = np.ones(len(answer), np.bool_), np.zeros(len(answer), np.bool_)
    stays[left_out] = False
    is_right[right] = True
    return answer[stays], is_right[stays]


def _distance(judged: JudgedSet, number: int, rows: NDArray[np.int64]) -> float:
    """Return how far the first answer is from the query, in metres or frames."""
    if not len(rows):
        return math.inf
    offset = judged.query_places[number] - judged.gallery_places[int(rows[0])]
    return float(np.linalg.norm(offset))


def _mean_row(name: str, values: Sequence[tuple[float, ...]]) -> tuple[str, int, tuple[float, ...]]:
    return name, len(values), tuple(np.mean(values, axis=0).tolist())


def _naming_figures(
    results: Sequence[ProtocolQuery], resamples: int, seed: int
) -> dict[str, Measured]:
    """Return GAP over all queries, GAP over those that show something known, and accuracy."""
    known = np.array([result.label is not None and result.positives > 0 for result in results])
    answered = np.array([not math.isnan(result.confidence) for result in results])
    confidences = np.array([result.confidence for result in results])
    confidences[~answered] = -math.inf
    right = np.array([bool(k) and r.guess == r.label for r, k in zip(results, known, strict=True)])
    figures: dict[str, Measured] = {}
    keys = [metric.key for metric in POOLED_METRICS["names"]]
    for key, chosen in zip(keys, (np.ones(len(known), np.bool_), known, known), strict=True):
        if key == "accuracy":
            values = right[known][:, None].astype(np.float64)
            interval = bootstrap_intervals(values, resamples=resamples, seed=seed)[0].tolist()
            figures[key] = Measured(float(values.mean()), (interval[0], interval[1]))
            continue
        of = (confidences[chosen], right[chosen], known[chosen], answered[chosen])
        statistic = gap_statistic(*of)
        drawn = bootstrap_statistic(statistic, int(chosen.sum()), resamples=resamples, seed=seed)
        low, high = percentile_intervals(drawn)[0].tolist()
        both = chosen & answered
        value = global_average_precision(confidences[both], right[both], int(known.sum()))
        figures[key] = Measured(value, (low, high))
    return figures
