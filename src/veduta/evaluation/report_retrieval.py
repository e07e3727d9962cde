"""The content of a report of retrieval."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from veduta.evaluation import metrics
from veduta.evaluation.answered_by import DESCRIPTOR_ALONE
from veduta.evaluation.metrics import RECALL_LEVELS, QueryResult
from veduta.evaluation.report_environment import provenance_of
from veduta.evaluation.report_parts import (
    calibration_plot,
    first_right_plot,
    method_line,
    page_figures,
    result_row,
)
from veduta.evaluation.summary import class_table
from veduta.pages import charts
from veduta.pages.contact_sheet import write_sheet
from veduta.pages.report_page import (
    MAX_TABLE_CLASSES,
    Plot,
    Provenance,
    ReportPage,
    ReportRow,
    RowGroup,
    classes_title,
    write_report_page,
)
from veduta.pages.results_page import ResultRow, Table
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.report_parts import DrawMap
    from veduta.evaluation.retrieval_run import Evaluation
    from veduta.evaluation.summary import Summary

__all__ = [
    "evenly_sampled",
    "query_row",
    "query_values",
    "retrieval_page",
    "write_contact_sheet",
    "write_sampled_page",
]

_CALIBRATED_RERANK_MODES = ("global", "geometry")
"""The re-ranking modes whose scores are probabilities."""

_SETTINGS_AT_THE_TOP = ("encoder", "method", "distance", "project", "rerank")

_AP_BINS = 20

_SHEET_FIGURES = ("top1", "top3", "top5", "top10", "map")
_SHEET_FIGURES_OF_TWO = ("top1", "map")
"""Figures in the title of a contact sheet, of one ranking or of two; more do not fit."""

_SHEET_QUERY_SIDE_PIXELS, _SHEET_TILE_SIDE_PIXELS = 640, 256


def retrieval_page(
    evaluation: Evaluation,
    *,
    rows: int,
    evenly: bool = False,
    provenance: Provenance | None = None,
    draw_map: DrawMap | None = None,
) -> ReportPage:
    """Return the page of an evaluation.

    Args:
        evaluation: the evaluation.
        rows: queries with pictures.
        evenly: whether these queries are spread evenly from the weakest to the strongest. If not,
            half of them are the weakest and half the strongest.
        provenance: how the evaluation was made.
        draw_map: draws the map of the first answers; None: they have none.

    Returns:
        The content of the page.
    """
    summary, results = evaluation.summary, evaluation.results
    judged = sorted((r for r in results if r.positives), key=lambda r: (r.ap, r.path))
    classes = sorted(class_table(results), key=lambda row: (row.map, row.label))
    table = Table(
        classes_title(len(classes)),
        ("class", "queries", "top-1", "mAP"),
        [(row.label, row.queries, row.top1, row.map) for row in classes[:MAX_TABLE_CLASSES]],
    )
    groups = _weakest_and_strongest(judged, rows)
    if evenly:
        groups = [("Queries", "From the weakest to the strongest.", evenly_sampled(results, rows))]
    return ReportPage(
        title=f"{evaluation.root.name}: retrieval",
        counts=_counts(summary),
        method=f"{method_line(evaluation.settings, _SETTINGS_AT_THE_TOP)}; ranked by: "
        f"{evaluation.answered_by}",
        figures=page_figures(metrics.METRICS, summary, evaluation.descriptor_alone),
        figures_note=f"Means over {count(summary.queries, 'query', 'queries')}. Below each, the "
        f"95 % interval of {summary.resamples:,} bootstrap draws of the queries (seed "
        f"{summary.seed}).",
        plots=list(_plots(evaluation, judged)),
        tables=[table] if classes else [],
        groups=[
            RowGroup(title, note, _report_rows(evaluation, chosen, draw_map))
            for title, note, chosen in groups
            if chosen
        ],
        answers="The first answers, best first, with their scores:",
        left_out=list(_left_out(evaluation)),
        settings={**evaluation.settings, "time for ranking": f"{evaluation.seconds:.1f} s"},
        provenance=provenance or Provenance(),
    )


def write_sampled_page(
    evaluation: Evaluation,
    file: str | os.PathLike[str],
    *,
    rows: int,
    command: str,
    draw_map: DrawMap | None = None,
) -> None:
    """Write the page with queries spread evenly from the weakest to the strongest.

    Args:
        evaluation: the evaluation.
        file: the HTML file to write.
        rows: queries with pictures.
        command: the command line.
        draw_map: draws the map of the first answers; None: they have none.

    Raises:
        OSError: the file cannot be written.
    """
    provenance = provenance_of(command)
    page = retrieval_page(
        evaluation, rows=rows, evenly=True, provenance=provenance, draw_map=draw_map
    )
    write_report_page(file, page)


def write_contact_sheet(evaluation: Evaluation, file: str | os.PathLike[str], *, rows: int) -> None:
    """Write a contact sheet of queries spread evenly from the weakest to the strongest.

    Args:
        evaluation: the evaluation.
        file: the PNG file to write.
        rows: queries, at most `veduta.pages.contact_sheet.MAX_ROWS`.

    Raises:
        ValueError: there is no row, or there are too many.
        OSError: the file cannot be written.
    """
    shown = [
        query_row(
            evaluation,
            result,
            query_side=_SHEET_QUERY_SIDE_PIXELS,
            tile_side=_SHEET_TILE_SIDE_PIXELS,
        )
        for result in evenly_sampled(evaluation.results, rows)
    ]
    write_sheet(file, shown, title=f"{evaluation.root.name}: {_sheet_figures(evaluation)}")


def _sheet_figures(evaluation: Evaluation) -> str:
    """Return the figures in the title of a contact sheet, and what the answers come from."""
    alone = evaluation.descriptor_alone
    if alone is None:
        return f"{_some(evaluation.summary, _SHEET_FIGURES)} by {evaluation.answered_by}"
    others = ", ".join(f"{alone.figures[key].value:.3f}" for key in _SHEET_FIGURES_OF_TWO)
    return (
        f"{_some(evaluation.summary, _SHEET_FIGURES_OF_TWO)} by {evaluation.answered_by}; "
        f"{DESCRIPTOR_ALONE} {others}"
    )


def _some(summary: Summary, keys: Sequence[str]) -> str:
    return ", ".join(
        f"{metric.title} {summary.figures[metric.key].value:.3f}"
        for metric in metrics.METRICS
        if metric.key in keys
    )


def query_values(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    """Yield the object of each query in the JSON file; `compare` reads it."""
    alone = evaluation.descriptor_alone_results
    for number, result in enumerate(evaluation.results):
        query = result.as_json()
        if alone:
            query["descriptor_alone"] = alone[number].values_as_json()
        yield query


def evenly_sampled(results: Sequence[QueryResult], number: int) -> list[QueryResult]:
    """Return at most `number` results, spread evenly from the worst AP to the best, worst first.

    Queries without a positive come last, and only if all results are returned.

    Args:
        results: of any queries.
        number: 1 or more.

    Returns:
        The chosen results.
    """
    judged = sorted((r for r in results if r.positives), key=lambda r: (r.ap, r.path))
    if len(results) <= number:
        return judged + [r for r in results if not r.positives]
    if len(judged) <= number:
        return judged
    if number < 2:
        return judged[:number]
    return [judged[round(i * (len(judged) - 1) / (number - 1))] for i in range(number)]


def query_row(
    evaluation: Evaluation,
    result: QueryResult,
    draw_map: DrawMap | None = None,
    **sides: int,
) -> ResultRow:
    """Return a query with its first answers; `draw_map` and `sides` are as for `result_row`."""
    return result_row(
        evaluation,
        result.path,
        result.nearest,
        label=result.label,
        note=_note(result),
        judged=bool(result.positives),
        draw_map=draw_map,
        **sides,
    )


def _report_rows(
    evaluation: Evaluation, results: Iterable[QueryResult], draw_map: DrawMap | None
) -> Iterator[ReportRow]:
    for result in results:
        yield ReportRow(query_row(evaluation, result, draw_map))


def _note(result: QueryResult) -> str:
    if not result.positives:
        return "no right answer in the gallery"
    right = sum(near.correct for near in result.nearest[:10])
    shown = min(10, len(result.nearest))
    return (
        f"first right at rank {result.first_correct_rank} · {right} of the first {shown} right · "
        f"average precision {result.ap:.2f}"
    )


def _counts(summary: Summary) -> str:
    """Return how many queries and photos the figures are over, without a full stop."""
    text = f"{count(summary.queries, 'query', 'queries')} against "
    text += count(summary.gallery, "gallery photo")
    if summary.distractors:
        text += f" and {count(summary.distractors, 'distractor')}"
    if summary.queries_without_positives:
        left_out = count(summary.queries_without_positives, "query", "queries")
        text += f"; {left_out} without a right answer in the gallery left out"
    return text


def _plots(evaluation: Evaluation, judged: Sequence[QueryResult]) -> Iterator[Plot]:
    if not judged:
        return
    yield _precision_recall(judged)
    yield first_right_plot(
        [result.first_correct_rank for result in judged],
        evaluation.summary.gallery + evaluation.summary.distractors,
        "Top-k accuracy for every k: the share of the queries that have a right answer by rank k.",
    )
    heights, edges = np.histogram([r.ap for r in judged], _AP_BINS, (0.0, 1.0))
    yield Plot(
        charts.histogram(
            "Average precision", heights, edges, x_label="average precision", y_label="queries"
        ),
        "The distribution of the average precision of single queries.",
    )
    calibrated = evaluation.settings.get("score_kind", "probability") == "probability"
    reranked = evaluation.settings.get("rerank") in _CALIBRATED_RERANK_MODES
    if calibrated and reranked and judged[0].nearest:
        answers = [near for r in judged for near in r.nearest]
        yield calibration_plot(
            [near.score for near in answers],
            [near.correct for near in answers],
            title="Calibration of the scores",
            answers=f"answers, the first {max(len(r.nearest) for r in judged)} of each query,",
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


def _weakest_and_strongest(
    judged: Sequence[QueryResult], rows: int
) -> list[tuple[str, str, list[QueryResult]]]:
    """Return titles, notes and results: half of the rows from either end of `judged`."""
    weakest = list(judged[: -(-rows // 2)])
    strongest = _varied_classes_first(judged[len(weakest) :])[: rows // 2]
    return [
        ("Weakest queries", "Lowest average precision first.", weakest),
        ("Strongest queries", "Highest average precision first.", strongest),
    ]


def _varied_classes_first(results: Sequence[QueryResult]) -> list[QueryResult]:
    """Return results best first; of equal AP, each class once before any class a second time."""
    seen: Counter[tuple[str | None, float]] = Counter()
    keys = []
    for result in results:
        seen[result.label, result.ap] += 1
        keys.append((-result.ap, seen[result.label, result.ap], result.path))
    return [results[i] for i in sorted(range(len(results)), key=keys.__getitem__)]


def _left_out(evaluation: Evaluation) -> Iterator[str]:
    summary = evaluation.summary
    if summary.queries_without_positives:
        without = count(summary.queries_without_positives, "query", "queries")
        yield f"{without} without a right answer in the gallery: counted, and in no mean"
    yield from evaluation.notes
    yield from evaluation.problems
