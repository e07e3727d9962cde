"""The figures of each published protocol, by the names and the rules that its papers use.

A figure is the mean of one value of each query. The figures that pool the answers of all queries
are in `veduta.evaluation.pooled_metrics`. Two protocols may give one name to different figures:
`recall10` of place recognition is the share of the queries with a right answer among the first ten,
`recall10` of TREC the mean share of the right answers that are among the first ten. So each
protocol has its own list.

| rule | source |
| --- | --- |
| hit within k | Arandjelović et al., "NetVLAD", CVPR 2016; Oh Song et al., CVPR 2016 |
| nDCG@k, gain = grade, discount log2(rank + 1) | trec_eval, `ndcg_cut` |
| recall@k, MAP@k ÷ all positives | trec_eval, `recall`, `map_cut` |
| MAP@k ÷ min(k, positives) | Weyand et al., CVPR 2020; Kordopatis-Zilos et al., ILIAS, CVPR 2025 |
| MAP@R, R-precision | Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020 |
| AP by trapezoids | Jégou, Douze, Schmid, Holidays, ECCV 2008; Philbin et al., CVPR 2007 |
| N-S | Nistér, Stewénius, "Scalable Recognition with a Vocabulary Tree", CVPR 2006 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from veduta.evaluation.judged_ranking import JudgedRanking
from veduta.evaluation.metrics import trapezoidal_average_precision

__all__ = [
    "NAMING_PROTOCOLS",
    "POOLED_METRICS",
    "POOLING_PROTOCOLS",
    "PROTOCOL_METRICS",
    "FigureText",
    "ProtocolMetric",
    "ndcg_at",
    "shown_metrics",
]


@dataclass(frozen=True, slots=True)
class FigureText:
    """The words for a figure.

    Attributes:
        key: its name in JSON files, in `veduta compare` and on the command line.
        title: its name on a page.
        explanation: what it is, in words.
    """

    key: str
    title: str
    explanation: str


@dataclass(frozen=True, slots=True)
class ProtocolMetric(FigureText):
    """A figure of a protocol: the mean of one value of each query that has a right answer.

    Attributes:
        of_query: returns the value of one query with at least one right answer.
        highest: the highest value that it can have.
    """

    of_query: Callable[[JudgedRanking], float]
    highest: float = 1.0


def ndcg_at(ranking: JudgedRanking, k: int) -> float:
    """Return the normalised discounted cumulative gain within the first k, as trec_eval does.

    The gain of a photo is its grade, and rank r, from 1, divides it by log2(r + 1). The sum is
    divided by that of the best possible ranking (Järvelin, Kekäläinen, "Cumulated gain-based
    evaluation of IR techniques", 2002).

    Args:
        ranking: of a query with a right answer.
        k: how many ranks count.

    Returns:
        A number in [0, 1].
    """
    within = ranking.positions < k
    gain = np.sum(ranking.grades[within] / np.log2(ranking.positions[within] + 2))
    best = -np.sort(-ranking.all_grades)[:k]
    return float(gain / np.sum(best / np.log2(np.arange(len(best)) + 2)))


def _precision_sum(ranking: JudgedRanking, k: int | None = None) -> float:
    """Return the precision at each right photo among the first k, summed."""
    positions = ranking.positions
    if k is not None:
        positions = positions[: positions.searchsorted(k)]
    return float(np.sum(np.arange(1, len(positions) + 1) / (positions + 1)))


def _within(ranking: JudgedRanking, k: int) -> int:
    return int(ranking.positions.searchsorted(k))


def _hit(k: int) -> ProtocolMetric:
    return ProtocolMetric(
        f"recall{k}",
        f"Recall@{k}",
        f"share of the queries with a right photo among the first {k}"
        if k > 1
        else "share of the queries whose first photo is right",
        lambda ranking: float(_within(ranking, k) > 0),
    )


def _hits(*ks: int) -> tuple[ProtocolMetric, ...]:
    return tuple(_hit(k) for k in ks)


def _recall(k: int) -> ProtocolMetric:
    return ProtocolMetric(
        f"recall{k}",
        f"Recall@{k}",
        f"right photos among the first {k}, divided by all right photos",
        lambda ranking: _within(ranking, k) / ranking.positives,
    )


def _ndcg(k: int) -> ProtocolMetric:
    return ProtocolMetric(
        f"ndcg{k}",
        f"nDCG@{k}",
        f"grades of the first {k}, discounted by rank, divided by those of the best ranking",
        lambda ranking: ndcg_at(ranking, k),
    )


def _map_of_all(k: int) -> ProtocolMetric:
    return ProtocolMetric(
        f"map{k}",
        f"MAP@{k}",
        f"precision at each right photo among the first {k}, divided by all right photos",
        lambda ranking: _precision_sum(ranking, k) / ranking.positives,
    )


def _map_within(k: int) -> ProtocolMetric:
    return ProtocolMetric(
        f"map{k}",
        f"mAP@{k}",
        f"precision at each right photo among the first {k}, divided by the right photos or by "
        f"{k}, whichever is less",
        lambda ranking: _precision_sum(ranking, k) / min(ranking.positives, k),
    )


_AP = ProtocolMetric(
    "map",
    "mAP",
    "mean average precision over the whole ranked gallery",
    lambda ranking: _precision_sum(ranking) / ranking.positives,
)
_TRAPEZOIDAL_AP = ProtocolMetric(
    "map",
    "mAP",
    "area under precision and recall by trapezoids, over the whole ranked gallery",
    lambda ranking: trapezoidal_average_precision(ranking.positions, positives=ranking.positives),
)
_MAP_AT_R = ProtocolMetric(
    "map_r",
    "MAP@R",
    "with R right photos, the precision at each one among the first R, divided by R",
    lambda ranking: _precision_sum(ranking, ranking.positives) / ranking.positives,
)
_R_PRECISION = ProtocolMetric(
    "r_precision",
    "R-precision",
    "with R right photos, the share of the first R that is right",
    lambda ranking: _within(ranking, ranking.positives) / ranking.positives,
)
_N_S = ProtocolMetric(
    "n_s",
    "N-S",
    "right photos among the first four, the query itself included",
    lambda ranking: float(_within(ranking, 4)),
    highest=4.0,
)

_PLACES = _hits(1, 5, 10, 20)

PROTOCOL_METRICS: Mapping[str, tuple[ProtocolMetric, ...]] = {
    "qrels": (
        _ndcg(1),
        _ndcg(10),
        _ndcg(100),
        _map_of_all(10),
        _map_of_all(100),
        _map_of_all(1000),
        _recall(1),
        _recall(5),
        _recall(10),
        _recall(100),
    ),
    "places": _PLACES,
    "mapillary": (*_PLACES, *(_map_within(k) for k in (5, 10, 20))),
    "nordland": _PLACES,
    "met": (),
    "instre": (_TRAPEZOIDAL_AP,),
    "ilias": (_map_within(1000), _hit(1)),
    "disc21": (),
    "copydays": (_TRAPEZOIDAL_AP,),
    "sop": (*_hits(1, 10, 100, 1000), _MAP_AT_R, _R_PRECISION),
    "cub": (*_hits(1, 2, 4, 8), _MAP_AT_R, _R_PRECISION),
    "cars": (*_hits(1, 2, 4, 8), _MAP_AT_R, _R_PRECISION),
    "inshop": (*_hits(1, 10, 20, 30), _MAP_AT_R, _R_PRECISION),
    "holidays": (_TRAPEZOIDAL_AP,),
    "ukbench": (_N_S,),
    "gpr1200": (_AP,),
    "google-landmarks": (_map_within(100),),
}
"""Protocol → its figures, in the order in which they are shown."""

POOLING_PROTOCOLS = frozenset({"disc21", "copydays"})
"""The protocols that pool the pairs of all queries."""

NAMING_PROTOCOLS = frozenset({"met"})
"""The protocols that name what a query shows: as its first answer does, with its score."""

POOLED_METRICS: Mapping[str, tuple[FigureText, ...]] = {
    "pairs": (
        FigureText(
            "micro_ap", "µAP", "average precision of all pairs of a query and a photo in one list"
        ),
        FigureText(
            "recall_at_precision90",
            "Recall at precision 0.9",
            "the largest share of the right pairs that a threshold finds with nine of ten right",
        ),
    ),
    "names": (
        FigureText("gap", "GAP", "average precision of the names of all queries in one list"),
        FigureText(
            "gap_without_distractors",
            "GAP without distractors",
            "the same, of the queries alone that show something of the gallery",
        ),
        FigureText(
            "accuracy",
            "Accuracy",
            "share of the queries that show something of the gallery and are named right",
        ),
    ),
}
"""What is pooled → the figures, in the order in which they are shown."""


def shown_metrics(protocol: str) -> tuple[FigureText, ...]:
    """Return the words for all figures of a protocol, in the order in which they are shown.

    Args:
        protocol: its name.
    """
    pooled: tuple[FigureText, ...] = ()
    if protocol in NAMING_PROTOCOLS:
        pooled += POOLED_METRICS["names"]
    if protocol in POOLING_PROTOCOLS:
        pooled += POOLED_METRICS["pairs"]
    return (*PROTOCOL_METRICS[protocol], *pooled)
