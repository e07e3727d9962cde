"""Parts that the reports of all tasks have: figures, rows of photos, and the calibration plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veduta.evaluation.answered_by import DESCRIPTOR_ALONE
from veduta.evaluation.calibration_error import reliability
from veduta.evaluation.metrics import NearestPhoto
from veduta.pages import charts
from veduta.pages.hit import HitTile
from veduta.pages.report_page import Plot
from veduta.pages.results_page import Figure, ResultRow
from veduta.photos import preview

if TYPE_CHECKING:
    from veduta.evaluation.figures import Figures
    from veduta.evaluation.metrics import Metric
    from veduta.evaluation.open_set import OpenSetMetric
    from veduta.evaluation.protocol_metrics import FigureText
    from veduta.evaluation.protocol_run import ProtocolEvaluation
    from veduta.evaluation.recognition_run import RecognitionEvaluation
    from veduta.evaluation.retrieval_run import Evaluation

__all__ = [
    "DrawMap",
    "beside",
    "calibration_plot",
    "first_right_plot",
    "method_line",
    "page_figures",
    "result_row",
]

_QUERY_SIDE_PIXELS, _TILE_SIDE_PIXELS = 480, 224

_MAX_RANKS = 100

_MAP_PICTURES = 3
"""How many photos of a query have a picture of the map of their similarity, if these are drawn."""

DrawMap = Callable[[Path, Path], bytes | None]
"""A function from a query and a photo to the map of their similarity, a JPEG; None: no picture.

`veduta.explanation.map_pictures.map_drawer` gives one.
"""


def page_figures(
    metrics: Iterable[Metric | OpenSetMetric | FigureText],
    summary: Figures,
    alone: Figures | None = None,
) -> list[Figure]:
    """Return the figures of a page, in the order of the metrics.

    Args:
        metrics: which figures.
        summary: their values.
        alone: the values of the descriptor alone, which stand beside; None if there are none.
    """
    return [
        Figure(
            metric.title,
            summary.figures[metric.key].value,
            summary.figures[metric.key].interval,
            metric.explanation,
            beside(alone.figures[metric.key].value) if alone else "",
        )
        for metric in metrics
    ]


def beside(value: float) -> str:
    """Return what stands beside a figure: the same one by the descriptor alone."""
    return f"{DESCRIPTOR_ALONE}: {value:.3f}" if math.isfinite(value) else f"{DESCRIPTOR_ALONE}: –"


def method_line(settings: Mapping[str, object], names: Iterable[str]) -> str:
    """Return the settings of these names as one line; those without a value are left out."""
    return ", ".join(f"{name} {settings[name]}" for name in names if settings.get(name) is not None)


def result_row(
    evaluation: Evaluation | RecognitionEvaluation | ProtocolEvaluation,
    path: str,
    nearest: Sequence[NearestPhoto],
    *,
    label: str | None,
    note: str = "",
    judged: bool = True,
    draw_map: DrawMap | None = None,
    query_side: int = _QUERY_SIDE_PIXELS,
    tile_side: int = _TILE_SIDE_PIXELS,
) -> ResultRow:
    """Return a query with its nearest photos, read from their files.

    Args:
        evaluation: has the paths and labels of the gallery.
        path: of the query.
        nearest: the photos to show.
        label: a line below the name of the query, or None.
        note: another line.
        judged: whether the photos are marked as right or wrong.
        draw_map: draws the map of the first photos; None: they have none.
        query_side: pixels of the long side of the query.
        tile_side: pixels of the long side of the photos.

    Returns:
        The row. Photos that cannot be read have no picture.
    """
    query = evaluation.root / path
    tiles = [
        HitTile(
            name=_file_name(evaluation.gallery_paths[near.row]),
            label=evaluation.gallery_labels[near.row],
            score=near.score,
            correct=near.correct if judged else None,
            thumbnail=preview(evaluation.root / evaluation.gallery_paths[near.row], tile_side),
            map=draw_map(query, evaluation.root / evaluation.gallery_paths[near.row])
            if draw_map and rank < _MAP_PICTURES
            else None,
        )
        for rank, near in enumerate(nearest)
    ]
    photo = preview(query, query_side)
    return ResultRow(_file_name(path), label, photo, tiles, note)


def calibration_plot(
    confidences: Sequence[float], right: Sequence[bool], *, title: str, answers: str
) -> Plot:
    """Return the reliability diagram of N ≥ 1 answers, with a dot for each bin.

    Args:
        confidences: (N,) in [0, 1].
        right: (N,).
        title: of the chart.
        answers: what the answers are, for the caption.

    Returns:
        The chart with its caption.
    """
    bins = reliability(confidences, right)
    filled = bins.counts > 0
    chart = charts.points(
        title,
        bins.confidence[filled],
        bins.share_right[filled],
        np.sqrt(bins.counts[filled]),  # dots sized by the counts themselves would be too small
        x_label="confidence",
        y_label="share that is right",
        diagonal=True,
    )
    return Plot(
        chart,
        f"{len(confidences):,} {answers} in {len(bins.counts)} bins of confidence; a larger dot "
        "stands for more answers. On the dotted line a confidence of 0.8 is right eight times in "
        f"ten. Expected calibration error {bins.expected_error:.3f}.",
    )


def first_right_plot(ranks_of_first: Sequence[int | None], gallery: int, caption: str) -> Plot:
    """Return the share of the queries with a right answer within the first k, for each k.

    Args:
        ranks_of_first: (Q,) the rank of the first right answer of each query, from 1; None if no
            answer is right. There is at least one query.
        gallery: how many photos are ranked.
        caption: of the chart.

    Returns:
        The chart with its caption.
    """
    ranks = np.arange(1, min(_MAX_RANKS, max(gallery, 1)) + 1)
    first = np.sort([rank or np.inf for rank in ranks_of_first])
    chart = charts.lines(
        "A right answer within the first k",
        {"queries": (ranks, np.searchsorted(first, ranks, side="right") / len(first))},
        x_label="k",
        y_label="share of the queries",
        y_range=(0, 1.02),
        log_x=True,
        steps=True,
    )
    return Plot(chart, caption)


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
