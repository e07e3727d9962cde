"""The figures of a whole evaluation, and of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import RESAMPLES, bootstrap_intervals
from veduta.evaluation.metrics import TOP_K, QueryResult, top_k_accuracy

__all__ = ["ClassSummary", "Interval", "Summary", "class_table", "summarise"]

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the queries that have a positive; all in [0, 1].

    `top1` … `top10`
        share of queries with a right answer among the first k.
    `map`
        mean average precision, non-interpolated, over the whole gallery.
    `p10`
        mean of (right answers among the first ten) / 10.
    `recall10`
        mean of (right answers among the first ten) / (all right answers).
    `map100`
        mean average precision at 100, as the Google Landmarks Dataset v2 has it.
    `*_interval`
        lower and upper end of the 95 % bootstrap interval over queries.
    `queries`
        how many queries the means are over.
    `queries_without_positives`
        how many more there were with no right answer in the gallery: in no mean.
    `gallery`
        photos that may be right answers (split `gallery`; in leave-one-out, all photos).
    `distractors`
        photos ranked along with the gallery that are never right.
    `resamples`, `seed`
        of the bootstrap.
    """

    top1: float
    top3: float
    top5: float
    top10: float
    map: float
    p10: float
    recall10: float
    map100: float
    top1_interval: Interval
    top3_interval: Interval
    top5_interval: Interval
    top10_interval: Interval
    map_interval: Interval
    p10_interval: Interval
    recall10_interval: Interval
    map100_interval: Interval
    queries: int
    queries_without_positives: int
    gallery: int
    distractors: int
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, for `json.dump`; intervals as pairs."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """`top1` and `map` over the queries of one label that have a positive."""

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
) -> Summary:
    """Return the figures of all queries.

    Raises `DatasetError` when no query has a positive.
    """
    judged = [result for result in results if result.positives]
    if not judged:
        raise DatasetError(
            f"none of the {len(results)} queries has a photo with its label in the gallery; check "
            "that both spell the labels alike"
        )
    values = np.array(
        [
            [
                *(result.right_within(k) for k in TOP_K),
                result.ap,
                result.p10,
                result.recall10,
                result.ap100,
            ]
            for result in judged
        ],
        dtype=np.float64,
    )
    top1, top3, top5, top10, mean_ap, p10, recall10, map100 = values.mean(axis=0).tolist()
    ends: list[list[float]] = bootstrap_intervals(values, resamples=resamples, seed=seed).tolist()
    intervals: list[Interval] = [(low, high) for low, high in ends]
    return Summary(
        top1=top1,
        top3=top3,
        top5=top5,
        top10=top10,
        map=mean_ap,
        p10=p10,
        recall10=recall10,
        map100=map100,
        top1_interval=intervals[0],
        top3_interval=intervals[1],
        top5_interval=intervals[2],
        top10_interval=intervals[3],
        map_interval=intervals[4],
        p10_interval=intervals[5],
        recall10_interval=intervals[6],
        map100_interval=intervals[7],
        queries=len(judged),
        queries_without_positives=len(results) - len(judged),
        gallery=gallery,
        distractors=distractors,
        resamples=resamples,
        seed=seed,
    )


def class_table(results: Sequence[QueryResult]) -> list[ClassSummary]:
    """Return one row a label that has a query with a positive, in the order of the labels."""
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
