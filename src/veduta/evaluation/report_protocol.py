"""The content of a report of a published protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from veduta.evaluation.figures import json_value
from veduta.evaluation.protocol_metrics import PROTOCOL_METRICS, FigureText, shown_metrics
from veduta.evaluation.report_parts import first_right_plot, method_line, page_figures, result_row
from veduta.pages import charts
from veduta.pages.report_page import (
    MAX_TABLE_CLASSES,
    Plot,
    Provenance,
    ReportPage,
    ReportRow,
    RowGroup,
)
from veduta.pages.results_page import ResultRow, Table
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.protocol_judge import ProtocolQuery
    from veduta.evaluation.protocol_run import ProtocolEvaluation

__all__ = ["protocol_page", "query_values"]

_CURVE_POINTS = 400

_TABLE_TITLES = {
    "class": "The classes, weakest first",
    "distance": "The distance of the first answer",
}


def protocol_page(
    evaluation: ProtocolEvaluation, *, rows: int, provenance: Provenance | None = None
) -> ReportPage:
    """Return the page of an evaluation.

    Args:
        evaluation: the evaluation.
        rows: queries with pictures: half of them the weakest, half the strongest.
        provenance: how the evaluation was made.

    Returns:
        The content of the page.
    """
    judged, figures = evaluation.judged, evaluation.figures
    metrics = shown_metrics(judged.protocol)
    return ReportPage(
        title=f"{judged.name}: retrieval by its published protocol",
        counts=_counts(evaluation),
        method=f"{method_line(evaluation.settings, ('encoder', 'distance', 'rerank', 'file'))}; "
        f"ranked by: {evaluation.answered_by}".removeprefix("; "),
        figures=page_figures(metrics, figures, evaluation.descriptor_alone),
        figures_note="Below each, the 95 % bootstrap interval over queries.",
        plots=list(_plots(evaluation)),
        tables=list(_tables(evaluation, metrics)),
        groups=[
            RowGroup(title, note, [ReportRow(_row(evaluation, result)) for result in chosen])
            for title, note, chosen in _weakest_and_strongest(evaluation, rows)
            if chosen
        ],
        answers="The first answers, best first, with their scores:",
        left_out=[*_convention(evaluation), *evaluation.notes, *evaluation.problems],
        settings={**evaluation.settings, "time for ranking": f"{evaluation.seconds:.1f} s"},
        provenance=provenance or Provenance(),
        right_words="right by the protocol",
        wrong_words="not right",
    )


def query_values(evaluation: ProtocolEvaluation) -> Iterator[dict[str, object]]:
    """Yield the object of each query in the JSON file; `compare` reads it.

    Its `path` is the id of the query. Each figure of the protocol that has a value of each query is
    there by its key, null without a right answer. Where names are pooled, `guess` and `confidence`
    are there too; where pairs are pooled, `pairs`: [score, whether the pair is right] of each pair
    that counts.

    Args:
        evaluation: the evaluation.
    """
    protocol = evaluation.judged.protocol
    keys = [metric.key for metric in PROTOCOL_METRICS[protocol]]
    pairs: list[list[list[object]]] = []
    if evaluation.pairs is not None:
        pairs = [[] for _ in evaluation.results]
        columns = (column.tolist() for column in evaluation.pairs)
        for score, right, query in zip(*columns, strict=True):
            pairs[query].append([score, right])
    for number, result in enumerate(evaluation.results):
        values = result.values or (None,) * len(keys)
        row: dict[str, object] = {
            "path": result.id,
            "label": result.label,
            "positives": result.positives,
            **{key: json_value(value) for key, value in zip(keys, values, strict=True)},
            "first_correct_rank": result.first_correct_rank,
        }
        if not math.isnan(result.confidence):
            row |= {"guess": result.guess, "confidence": result.confidence}
        if pairs:
            row["pairs"] = pairs[number]
        yield row


def _counts(evaluation: ProtocolEvaluation) -> str:
    judged, figures = evaluation.judged, evaluation.figures
    gallery = len(judged.gallery) - judged.distractors
    text = f"{count(figures.queries, 'query', 'queries')} against {count(gallery, 'gallery photo')}"
    return text + (f" and {count(judged.distractors, 'distractor')}" if judged.distractors else "")


def _convention(evaluation: ProtocolEvaluation) -> Iterator[str]:
    """Yield how queries without a right answer are counted."""
    figures = evaluation.figures
    if not figures.queries_without_positives:
        return
    without = count(figures.queries_without_positives, "query", "queries")
    text = f"{without} without a right answer in the gallery: in no mean"
    if figures.with_all_queries:
        others = ", ".join(f"{key} {value:.3f}" for key, value in figures.with_all_queries.items())
        text += f". Counted as wrong, the figures are {others}"
    yield text


def _plots(evaluation: ProtocolEvaluation) -> Iterator[Plot]:
    judged = [result for result in evaluation.results if result.positives]
    yield first_right_plot(
        [result.first_correct_rank for result in judged],
        len(evaluation.judged.gallery),
        "The share of the queries that have a right answer by rank k.",
    )
    if evaluation.pairs is not None and len(evaluation.pairs[0]):
        right = evaluation.pairs[1]
        positives = sum(result.positives for result in evaluation.results)
        found = np.cumsum(right)
        chosen = np.unique(np.linspace(0, len(right) - 1, _CURVE_POINTS).astype(np.int64))
        yield Plot(
            charts.lines(
                "Precision and recall of all pairs",
                {"pairs": (found[chosen] / positives, found[chosen] / (chosen + 1))},
                x_label="recall",
                y_label="precision",
                x_range=(0, 1),
                y_range=(0, 1.02),
            ),
            f"All thresholds on the scores of {len(right):,} pairs. Of equal scores the wrong ones "
            "come first.",
        )


def _tables(evaluation: ProtocolEvaluation, metrics: Sequence[FigureText]) -> Iterator[Table]:
    titles = [metric.title for metric in metrics if metric.key in evaluation.figures.figures]
    per_query = titles[: len(PROTOCOL_METRICS[evaluation.judged.protocol])]
    for name, rows in evaluation.figures.tables.items():
        title = _TABLE_TITLES.get(name, f"By {name}")
        if name == "distance":
            unit = "m" if evaluation.judged.query_places.shape[1] == 2 else "frames"
            yield Table(
                title,
                (f"within ({unit})", "queries", "first answer"),
                [(group, queries, values[0]) for group, queries, values in rows],
            )
            continue
        ordered = sorted(rows, key=lambda row: row[2]) if name == "class" else rows
        yield Table(
            title,
            (name, "queries", *per_query),
            [(group, queries, *values) for group, queries, values in ordered[:MAX_TABLE_CLASSES]],
        )


def _weakest_and_strongest(
    evaluation: ProtocolEvaluation, rows: int
) -> list[tuple[str, str, list[ProtocolQuery]]]:
    judged = [result for result in evaluation.results if result.positives]
    judged.sort(key=lambda r: (-(r.first_correct_rank or math.inf), r.values, r.id))
    weakest = judged[: -(-rows // 2)]
    strongest = judged[len(weakest) :][::-1][: rows // 2]
    return [
        ("Weakest queries", "Those whose first right answer has the highest rank.", weakest),
        ("Strongest queries", "Those whose first right answers come first.", strongest),
    ]


def _row(evaluation: ProtocolEvaluation, result: ProtocolQuery) -> ResultRow:
    note = (
        f"first right at rank {result.first_correct_rank}"
        if result.first_correct_rank
        else "no right answer ranked"
    )
    return result_row(evaluation, result.path, result.nearest, label=result.label, note=note)
