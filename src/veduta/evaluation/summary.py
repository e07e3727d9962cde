"""Summarise the results of all queries: the mean of each metric, over all and of each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veduta.errors import DatasetError
from veduta.evaluation import metrics
from veduta.evaluation.bootstrap import RESAMPLES, bootstrap_intervals
from veduta.evaluation.figures import Figures, Measured, measured
from veduta.evaluation.metrics import QueryResult, top_k_accuracy

__all__ = ["ClassSummary", "Summary", "class_table", "summarise"]


@dataclass(frozen=True, slots=True)
class Summary(Figures):
    """The figures of a retrieval: means over the queries that have a positive, in [0, 1].

    Each metric of `veduta.evaluation.metrics.METRICS` is an attribute by its key: `summary.top1`,
    `summary.map`, `summary.map_interval`.

    Attributes:
        figures: of each metric, the mean and the 95 % bootstrap interval over queries.
        queries: how many queries the means are over.
        queries_without_positives: how many more queries have no right answer in the gallery. They
            are in no mean.
        gallery: photos that may be right answers: those of the split `gallery`, or all photos in
            leave-one-out.
        distractors: photos ranked along with the gallery that are never right.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
    """

    figures: Mapping[str, Measured]
    queries: int
    queries_without_positives: int
    gallery: int
    distractors: int
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return all figures, intervals and counts by their names, as JSON types."""
        return {
            **self.figures_as_json(),
            "queries": self.queries,
            "queries_without_positives": self.queries_without_positives,
            "gallery": self.gallery,
            "distractors": self.distractors,
            "resamples": self.resamples,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """The figures of one class, over its queries that have a positive.

    Attributes:
        label: the class.
        queries: how many.
        top1: share of them whose first answer is right.
        map: mean average precision.
    """

    label: str
    queries: int
    top1: float
    map: float


def summarise(
    results: Sequence[QueryResult],
    *,
    gallery: int,
    distractors: int = 0,
    resamples: int = RESAMPLES,
    seed: int = 0,
    need_positives: bool = True,
) -> Summary:
    """Return the figures of all queries.

    Args:
        results: one a query.
        gallery: how many photos may be right answers.
        distractors: how many photos are ranked with them and never right.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
        need_positives: whether queries without any positive are refused. If not, all figures of
            such queries are NaN.

    Returns:
        The figures with their intervals.

    Raises:
        DatasetError: no query has a positive.
    """
    judged = [result for result in results if result.positives]
    keys = [metric.key for metric in metrics.METRICS]
    if judged:
        values = np.array([result.values for result in judged], dtype=np.float64)
        figures = measured(
            keys,
            values.mean(axis=0).tolist(),
            bootstrap_intervals(values, resamples=resamples, seed=seed).tolist(),
        )
    elif need_positives:
        raise DatasetError(
            f"none of the {len(results)} queries has a photo with its label in the gallery; check "
            "that both spell the labels alike, or rank without judging: --dict or --matrix"
        )
    else:
        figures = measured(keys, [math.nan] * len(keys), [(math.nan, math.nan)] * len(keys))
    return Summary(
        figures=figures,
        queries=len(judged),
        queries_without_positives=len(results) - len(judged),
        gallery=gallery,
        distractors=distractors,
        resamples=resamples,
        seed=seed,
    )


def class_table(results: Sequence[QueryResult]) -> list[ClassSummary]:
    """Return one row for each label that has a query with a positive, sorted by label."""
    of_label: dict[str, list[QueryResult]] = {}
    for result in results:
        if result.positives and result.label is not None:
            of_label.setdefault(result.label, []).append(result)
    return [
        ClassSummary(
            label=label,
            queries=len(group),
            top1=top_k_accuracy(group, 1),
            map=float(np.mean([result.ap for result in group])),
        )
        for label, group in sorted(of_label.items())
    ]
