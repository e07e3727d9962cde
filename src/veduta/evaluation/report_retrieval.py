"""What the report of a retrieval says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.evaluation.calibration_error import reliability
from veduta.evaluation.metrics import RECALL_LEVELS, QueryResult
from veduta.evaluation.report import FIGURES, counts, result_rows
from veduta.evaluation.summary import class_table
from veduta.pages import charts
from veduta.pages.report_page import (
    MOST_CLASSES,
    Plot,
    ReportPage,
    ReportRow,
    RowGroup,
    classes_title,
)
from veduta.pages.results_page import Figure, Table
from veduta.photos import preview
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.retrieval_run import Evaluation

__all__ = ["calibration_plot", "query_values", "retrieval_page"]

_PROBABILITIES = ("global", "geometry")
"""The ways of ranking whose scores are probabilities."""

_METHOD = ("encoder", "method", "distance", "project", "rerank")
"""The settings that are named at the top."""

_QUERY_SIDE, _TILE_SIDE = 480, 224  # pixels, long side
_MOST_RANKS = 100
_AP_BINS = 20


def retrieval_page(evaluation: Evaluation, *, rows: int, **made: Any) -> ReportPage:
    """Return the page, with `rows` queries: half of them the weakest, half the strongest.

    `made`: `environment`, `command` and `generated` of `ReportPage`.
    """
    summary, results = evaluation.summary, evaluation.results
    judged = sorted((r for r in results if r.positives), key=lambda r: (r.ap, r.path))
    classes = sorted(class_table(results), key=lambda row: (row.map, row.label))
    table = Table(
        classes_title(len(classes)),
        ("class", "queries", "top-1", "mAP"),
        [(row.label, row.queries, row.top1, row.map) for row in classes[:MOST_CLASSES]],
    )
    return ReportPage(
        title=f"{evaluation.root.name}: retrieval",
        counts=counts(summary),
        method=", ".join(
            f"{name} {evaluation.settings[name]}"
            for name in _METHOD
            if evaluation.settings.get(name) is not None
        ),
        figures=[
            Figure(name, getattr(summary, key), getattr(summary, f"{key}_interval"), explanation)
            for name, key, explanation in FIGURES
        ],
        figures_note=f"Means over {count(summary.queries, 'query', 'queries')}. Below each, the "
        f"95 % interval of {summary.resamples:,} bootstrap draws of the queries (seed "
        f"{summary.seed}).",
        plots=list(_plots(evaluation, judged)),
        tables=[table] if classes else [],
        groups=_groups(evaluation, judged, rows),
        answers="The first answers, best first, with their scores:",
        left_out=list(_left_out(evaluation)),
        settings={**evaluation.settings, "time for ranking": f"{evaluation.seconds:.1f} s"},
        **made,
    )


def query_values(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    """Yield what the JSON file says of each query, as `veduta.evaluation.comparison` reads it."""
    for result in evaluation.results:
        yield result.as_json()


def calibration_plot(
    confidences: Sequence[float], right: Sequence[bool], *, title: str, of: str
) -> Plot:
    """Return the reliability diagram of N ≥ 1 answers, a dot a bin.

    `confidences`: (N,) in [0, 1]. `right`: (N,). `of`: what the answers are, for the caption.
    """
    bins = reliability(confidences, right)
    filled = bins.counts > 0
    chart = charts.points(
        title,
        bins.confidence[filled],
        bins.share_right[filled],
        np.sqrt(bins.counts[filled]),  # by the counts alone all but the fullest bins would vanish
        x_label="confidence",
        y_label="share that is right",
        diagonal=True,
    )
    return Plot(
        chart,
        f"{len(confidences):,} {of} in {len(bins.counts)} bins of confidence; a larger dot stands "
        "for more. On the dotted line a confidence of 0.8 is right eight times in ten. Expected "
        f"calibration error {bins.expected_error:.3f}.",
    )


def _plots(evaluation: Evaluation, judged: Sequence[QueryResult]) -> Iterator[Plot]:
    if not judged:
        return
    yield _precision_recall(judged)
    gallery = evaluation.summary.gallery + evaluation.summary.distractors
    ranks = np.arange(1, min(_MOST_RANKS, max(gallery, 1)) + 1)
    first = np.sort([r.first_correct_rank or np.inf for r in judged])
    yield Plot(
        charts.lines(
            "A right answer within the first k",
            {"queries": (ranks, np.searchsorted(first, ranks, side="right") / len(judged))},
            x_label="k",
            y_label="share of the queries",
            y_range=(0, 1.02),
            log_x=True,
            steps=True,
        ),
        "Top-k accuracy for every k: the share of the queries that have a right answer by rank k.",
    )
    heights, edges = np.histogram([r.ap for r in judged], _AP_BINS, (0.0, 1.0))
    yield Plot(
        charts.histogram(
            "Average precision", heights, edges, x_label="average precision", y_label="queries"
        ),
        "How the average precision of single queries is spread around the mean.",
    )
    if evaluation.settings.get("rerank") in _PROBABILITIES and judged[0].nearest:
        answers = [near for r in judged for near in r.nearest]
        yield calibration_plot(
            [near.score for near in answers],
            [near.correct for near in answers],
            title="Calibration of the scores",
            of=f"answers, the first {max(len(r.nearest) for r in judged)} of each query,",
        )


def _precision_recall(judged: Sequence[QueryResult]) -> Plot:
    precision = np.mean([r.precision_at_recall for r in judged], axis=0)
    return Plot(
        charts.lines(
            "Precision and recall",
            {"queries": (RECALL_LEVELS, precision)},
            x_label="recall",
            y_label="precision",
            x_range=(0, 1),
            y_range=(0, 1.02),
        ),
        "Interpolated precision at 11 recalls, mean over the queries: the highest precision at any "
        "rank that has found at least that share of the right answers.",
    )


def _groups(evaluation: Evaluation, judged: Sequence[QueryResult], rows: int) -> list[RowGroup]:
    weak = judged[: -(-rows // 2)]
    strong = _one_class_at_a_time(judged[len(weak) :])[: rows // 2]
    groups = (
        ("Weakest queries", "Lowest average precision first.", weak),
        ("Strongest queries", "Highest average precision first.", strong),
    )
    return [
        RowGroup(title, said, _rows(evaluation, chosen)) for title, said, chosen in groups if chosen
    ]


def _one_class_at_a_time(results: Sequence[QueryResult]) -> list[QueryResult]:
    """Return them best first; of those with one AP, each class once before any a second time."""
    seen: Counter[tuple[str | None, float]] = Counter()
    turns = []
    for result in results:
        seen[result.label, result.ap] += 1
        turns.append((-result.ap, seen[result.label, result.ap], result.path))
    return [results[i] for i in sorted(range(len(results)), key=turns.__getitem__)]


def _rows(evaluation: Evaluation, results: Iterable[QueryResult]) -> Iterator[ReportRow]:
    rows = result_rows(
        results,
        evaluation.gallery_paths,
        evaluation.gallery_labels,
        query_photo=lambda path: preview(evaluation.root / path, _QUERY_SIDE),
        thumbnail=lambda path: preview(evaluation.root / path, _TILE_SIDE),
    )
    return map(ReportRow, rows)


def _left_out(evaluation: Evaluation) -> Iterator[str]:
    summary = evaluation.summary
    if summary.queries_without_positives:
        without = count(summary.queries_without_positives, "query", "queries")
        yield f"{without} without a right answer in the gallery: counted, and in no mean"
    yield from evaluation.notes
    yield from evaluation.problems
