"""The content of a report of recognition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.evaluation.bootstrap import bootstrap_statistic, percentile_intervals
from veduta.evaluation.calibration_error import brier_score, expected_calibration_error
from veduta.evaluation.classification import (
    Classification,
    classification_figures,
    classification_statistic,
)
from veduta.evaluation.figures import Interval
from veduta.evaluation.open_set import OPEN_SET_METRICS, risk_coverage
from veduta.evaluation.report_parts import (
    beside,
    calibration_plot,
    method_line,
    page_figures,
    result_row,
)
from veduta.pages import charts
from veduta.pages.report_page import (
    MAX_TABLE_CLASSES,
    Plot,
    Provenance,
    ReportPage,
    ReportRow,
    RowGroup,
    classes_title,
)
from veduta.pages.results_page import Figure, Table
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.recognition_run import RecognitionEvaluation, RecognitionResult
    from veduta.evaluation.report_parts import DrawMap

__all__ = ["Classified", "classified", "query_values", "recognition_page"]

_MAX_MATRIX_CLASSES = 60
"""Classes of a confusion matrix; the names of more classes cannot be read."""

_MAX_LISTED_MISTAKES = 30
_MAX_CURVE_POINTS = 400
_CONFIDENCE_BINS = 20
_THRESHOLDS = 201


@dataclass(frozen=True, slots=True)
class Classified:
    """The figures of the classes, with the 95 % bootstrap intervals of two of them.

    Attributes:
        figures: the figures.
        accuracy_interval: of the accuracy.
        macro_f1_interval: of the mean F1 over the classes.
    """

    figures: Classification
    accuracy_interval: Interval
    macro_f1_interval: Interval

    def as_json(self) -> dict[str, object]:
        """Return the keys of the JSON file that the evaluation itself does not have."""
        figures = self.figures.as_json()
        return {
            "accuracy": self.figures.accuracy,
            "accuracy_interval": self.accuracy_interval,
            "macro_f1": self.figures.macro.f1,
            "macro_f1_interval": self.macro_f1_interval,
            **{name: figures[name] for name in ("macro", "weighted", "classes", "confusion")},
        }


def classified(evaluation: RecognitionEvaluation) -> Classified | None:
    """Return the figures of the classes; None if no query shows a class and none got a name."""
    summary = evaluation.summary
    labels = [r.label for r in evaluation.results]
    answers = [r.answer for r in evaluation.results]
    if not any(name is not None for name in (*labels, *answers)):
        return None
    drawn = bootstrap_statistic(
        classification_statistic(labels, answers),
        len(labels),
        resamples=summary.resamples,
        seed=summary.seed,
    )
    accuracy, macro = percentile_intervals(drawn).tolist()
    return Classified(
        classification_figures(labels, answers), (accuracy[0], accuracy[1]), (macro[0], macro[1])
    )


def recognition_page(
    evaluation: RecognitionEvaluation,
    classes: Classified | None,
    *,
    rows: int,
    provenance: Provenance | None = None,
    draw_map: DrawMap | None = None,
) -> ReportPage:
    """Return the page of an evaluation.

    Args:
        evaluation: the evaluation.
        classes: the result of `classified`.
        rows: queries with pictures: mistakes first, then right answers.
        provenance: how the evaluation was made.
        draw_map: draws the map of the nearest photos; None: they have none.

    Returns:
        The content of the page.
    """
    summary, results = evaluation.summary, evaluation.results
    shown = sorted(OPEN_SET_METRICS, key=lambda metric: metric.display_order)
    figures = page_figures(shown, summary, evaluation.descriptor_alone)
    tables: list[Table] = []
    plots: list[Plot] = []
    if classes is not None:
        figures += _classification_figures(classes, evaluation.descriptor_alone_results)
        tables = list(_tables(classes.figures))
        plots.append(_confusion(classes.figures))
    if results:
        figures += _confidence_figures(evaluation)
    named_by_model = "model" in evaluation.settings
    settings_at_the_top = ("model" if named_by_model else "encoder", "method")
    shown_things = "class of the model" if named_by_model else "place of the gallery"
    counts = f"{count(summary.known, 'query', 'queries')} that show a {shown_things}"
    counts += f", {summary.unknown:,} that show none"
    if evaluation.gallery_paths:
        counts += f", against {count(len(evaluation.gallery_paths), 'gallery photo')}"
    if distractors := sum(label is None for label in evaluation.gallery_labels):
        counts += f", {count(distractors, 'distractor')} among them"
    return ReportPage(
        title=f"{evaluation.root.name}: recognition",
        counts=counts,
        method=f"{method_line(evaluation.settings, settings_at_the_top)}; named by: "
        f"{evaluation.answered_by}",
        figures=figures,
        figures_note=f"{count(summary.named, 'query', 'queries')} got a name. Below each figure, "
        f"the 95 % interval of {summary.resamples:,} bootstrap draws of the queries (seed "
        f"{summary.seed}).",
        plots=[*_curves(evaluation), *plots],
        tables=tables,
        groups=_groups(evaluation, rows, draw_map),
        answers=(
            "The gallery photos that decided, nearest first, with their scores:"
            if evaluation.gallery_paths
            else ""
        ),
        left_out=(*evaluation.notes, *evaluation.problems),
        settings={**evaluation.settings, "time for recognising": f"{evaluation.seconds:.1f} s"},
        provenance=provenance or Provenance(),
    )


def query_values(evaluation: RecognitionEvaluation) -> Iterator[dict[str, object]]:
    """Yield the object of each query in the JSON file; `compare` reads it."""
    alone = evaluation.descriptor_alone_results
    for number, result in enumerate(evaluation.results):
        query: dict[str, object] = {
            "path": result.path,
            "label": result.label,
            **_answer_as_json(result),
        }
        if alone:
            query["descriptor_alone"] = _answer_as_json(alone[number])
        yield query


def _answer_as_json(result: RecognitionResult) -> dict[str, object]:
    return {
        "guess": result.guess,
        "confidence": result.confidence,
        "named": result.named,
        "right": result.answered_right,
    }


def _classification_figures(
    classes: Classified, alone: Sequence[RecognitionResult]
) -> Iterator[Figure]:
    labels, answers = [r.label for r in alone], [r.answer for r in alone]
    shows_classes = any(name is not None for name in (*labels, *answers))
    bare = classification_figures(labels, answers) if shows_classes else None
    yield Figure(
        "Accuracy",
        classes.figures.accuracy,
        classes.accuracy_interval,
        "of all queries, the share with the right answer: the name, or “unknown”",
        beside(bare.accuracy) if bare else "",
    )
    yield Figure(
        "Macro F1",
        classes.figures.macro.f1,
        classes.macro_f1_interval,
        "mean over the classes of the harmonic mean of precision and recall",
        beside(bare.macro.f1) if bare else "",
    )


def _confidence_figures(evaluation: RecognitionEvaluation) -> Iterator[Figure]:
    confidences, right = _confidences(evaluation.results)
    alone = evaluation.descriptor_alone_results
    bare_confidences, bare_right = _confidences(alone)
    bare_error = expected_calibration_error(bare_confidences, bare_right) if alone else math.nan
    yield Figure(
        "Calibration error",
        evaluation.calibration_error,
        None,
        "expected difference between the confidence in a guess and the share that is right; 0 is "
        "best",
        beside(bare_error) if alone else "",
    )
    yield Figure(
        "Brier score",
        brier_score(confidences, right),
        None,
        "mean squared distance of the confidence from 1 if the guess is right, from 0 if not; 0 is "
        "best",
        beside(brier_score(bare_confidences, bare_right)) if alone else "",
    )


def _confidences(results: Sequence[RecognitionResult]) -> tuple[list[float], list[bool]]:
    return [r.confidence for r in results], [r.right for r in results]


def _curves(evaluation: RecognitionEvaluation) -> Iterator[Plot]:
    results = evaluation.results
    if not results:
        return
    yield _risk_coverage(results)
    yield _thresholds(evaluation)
    yield calibration_plot(*_confidences(results), title="Calibration", answers="guesses")
    edges = np.linspace(0.0, 1.0, _CONFIDENCE_BINS + 1)
    groups = {
        "known, guessed right": [r.confidence for r in results if r.right],
        "known, guessed wrong": [
            r.confidence for r in results if r.label is not None and not r.right
        ],
        "unknown": [r.confidence for r in results if r.label is None],
    }
    yield Plot(
        charts.lines(
            "Confidence",
            {
                name: (edges, np.append(heights := np.histogram(values, edges)[0], heights[-1]))
                for name, values in groups.items()
                if values
            },
            x_label="confidence in the guess",
            y_label="queries",
            x_range=(0, 1),
            steps=True,
            fill=True,
        ),
        "The confidence in the guesses, for queries that show a place of the gallery and for "
        "those that do not.",
    )


def _risk_coverage(results: Sequence[RecognitionResult]) -> Plot:
    confidences = [r.confidence if r.guess is not None else -np.inf for r in results]
    right = [r.right for r in results]
    curve = risk_coverage(confidences, right)
    answered = np.arange(1, len(results) + 1)
    best = np.maximum(0, answered - sum(right)) / answered
    named = [r for r in results if r.named]
    wrong = sum(not r.right for r in named)
    marks, in_use = [], ""
    if named:
        share, risk = len(named) / len(results), wrong / len(named)
        marks = [(share, risk, "in use")]
        in_use = f" In use: {share:.1%} of the queries are named, {risk:.1%} of these wrong."
    points = _curve_points(len(results))
    return Plot(
        charts.lines(
            "Risk and coverage",
            {
                "surest first": (curve.coverage[points], curve.risk[points]),
                "best possible": (curve.coverage[points], best[points]),
            },
            x_label="coverage: share of the queries that are named",
            y_label="risk: share of those that is wrong",
            x_range=(0, 1),
            y_range=(0, max(0.02, float(curve.risk.max()) * 1.08)),
            marks=marks,
        ),
        "The share of wrong names if more of the queries are named, unknown queries among them. "
        f"Area under the curve {curve.area:.4f}; this is {curve.excess_area:.4f} more than with "
        f"the best possible order of the same guesses.{in_use}",
    )


def _thresholds(evaluation: RecognitionEvaluation) -> Plot:
    """Return the shares of named and rejected queries at each threshold."""
    thresholds = np.linspace(0.0, 1.0, _THRESHOLDS)

    def share_named(results: Sequence[RecognitionResult]) -> NDArray[np.float64]:
        ascending = np.sort([r.confidence if r.guess is not None else -np.inf for r in results])
        named = len(results) - np.searchsorted(ascending, thresholds, side="left")
        return np.asarray(named / len(results), np.float64)

    known = [r for r in evaluation.results if r.label is not None]
    unknown = [r for r in evaluation.results if r.label is None]
    series = {}
    if known:
        series["known: named"] = (thresholds, share_named(known))
        right = [r for r in known if r.right]
        share = len(right) / len(known)
        named_right = share_named(right) * share if right else np.zeros(len(thresholds))
        series["known: named right"] = (thresholds, named_right)
    if unknown:
        series["unknown: rejected"] = (thresholds, 1.0 - share_named(unknown))
    threshold = evaluation.settings.get("threshold")
    marks, in_use = [], ""
    if isinstance(threshold, float):
        in_use = f" In use: {threshold:.3f}."
        if known:
            marks = [(threshold, sum(r.named for r in known) / len(known), "in use")]
    return Plot(
        charts.lines(
            "Thresholds",
            series,
            x_label="confidence from which on a name is given",
            y_label="share of those queries",
            x_range=(0, 1),
            y_range=(0, 1.02),
            marks=marks,
        ),
        f"The result of other thresholds on the same queries.{in_use}",
    )


def _confusion(classes: Classification) -> Plot:
    """Return the confusion matrix; of many classes, those with the most mistakes."""
    names = [row.label for row in classes.classes]
    unknown = _unknown_name(names)
    cells = classes.cells
    mistakes = cells[cells[:, 0] != cells[:, 1]]
    caption = "Rows: what the query shows; columns: what it was named as."
    chosen = np.arange(len(names) + 1)
    if len(names) > _MAX_MATRIX_CLASSES:
        errors = np.zeros(len(names) + 1, np.int64)
        for column in (0, 1):
            np.add.at(errors, mistakes[:, column], mistakes[:, 2])
        most = np.argsort(-errors[:-1], kind="stable")[:_MAX_MATRIX_CLASSES]
        chosen = np.append(np.sort(most), len(names))
        caption += (
            f" {_MAX_MATRIX_CLASSES} of {len(names):,} classes, those with most mistakes; the "
            "table has all."
        )
    position = np.full(len(names) + 1, -1)
    position[chosen] = np.arange(len(chosen))
    inside = (position[cells[:, 0]] >= 0) & (position[cells[:, 1]] >= 0)
    table = np.zeros((len(chosen), len(chosen)), np.int64)
    table[position[cells[inside, 0]], position[cells[inside, 1]]] = cells[inside, 2]
    shown = [*names, unknown]
    if not table[-1].any() and not table[:, -1].any():
        table, chosen = table[:-1, :-1], chosen[:-1]
    else:
        caption += f" “{unknown}” as a row: shows none of the places; as a column: was not named."
    wide = len(chosen) > 12
    chart = charts.matrix("Confusion matrix", table, [shown[i] for i in chosen])
    return Plot(chart, caption, wide=wide)


def _tables(classes: Classification) -> Iterator[Table]:
    names = [row.label for row in classes.classes]
    weakest_first = sorted(classes.classes, key=lambda row: (row.f1, row.label))
    yield Table(
        classes_title(len(names)),
        ("class", "queries", "precision", "recall", "F1"),
        [
            (
                row.label,
                row.support,
                row.precision if row.answered else float("nan"),
                row.recall if row.support else float("nan"),
                row.f1,
            )
            for row in weakest_first[:MAX_TABLE_CLASSES]
        ],
    )
    cells = classes.cells
    mistakes = cells[cells[:, 0] != cells[:, 1]]
    if not len(mistakes):
        return
    shown = [*names, _unknown_name(names)]
    order = np.lexsort((mistakes[:, 1], mistakes[:, 0], -mistakes[:, 2]))
    title = "Most frequent mistakes"
    if len(mistakes) > _MAX_LISTED_MISTAKES:
        title += f" ({_MAX_LISTED_MISTAKES} of {len(mistakes):,} kinds)"
    yield Table(
        title,
        ("shows", "named as", "queries"),
        [
            (shown[label], shown[answer], photos)
            for label, answer, photos in mistakes[order[:_MAX_LISTED_MISTAKES]].tolist()
        ],
    )


def _unknown_name(names: Sequence[str]) -> str:
    """Return a name for "none of the classes" that no class has: "unknown", or "(unknown)"."""
    name = "unknown"
    while name in names:
        name = f"({name})"
    return name


def _groups(
    evaluation: RecognitionEvaluation, rows: int, draw_map: DrawMap | None
) -> list[RowGroup]:
    surest = sorted(evaluation.results, key=lambda r: (-r.confidence, r.path))
    groups = {
        "Wrongly named": [r for r in surest if r.named and not r.answered_right],
        "Wrongly left unknown": [r for r in surest if r.label is not None and not r.named],
        "Named right": [r for r in surest if r.named and r.answered_right],
    }
    shares = _share_out(rows, {title: len(chosen) for title, chosen in groups.items()})
    return [
        RowGroup(
            title,
            f"{min(shares[title], len(chosen))} of {len(chosen):,}, surest first.",
            _rows(evaluation, chosen[: shares[title]], draw_map),
        )
        for title, chosen in groups.items()
        if shares[title]
    ]


def _share_out(rows: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return how many of the rows each group gets: equal numbers, and never more than it has."""
    shares = dict.fromkeys(sizes, 0)
    while rows and (open_groups := [name for name in sizes if shares[name] < sizes[name]]):
        for name in open_groups[:rows]:
            shares[name] += 1
            rows -= 1
    return shares


def _rows(
    evaluation: RecognitionEvaluation,
    results: Sequence[RecognitionResult],
    draw_map: DrawMap | None,
) -> Iterator[ReportRow]:
    for result in results:
        row = result_row(
            evaluation,
            result.path,
            result.nearest,
            label="shows none of the places" if result.label is None else f"shows {result.label}",
            judged=result.label is not None,
            draw_map=draw_map,
        )
        yield ReportRow(row, _answer(result), result.answered_right)


def _answer(result: RecognitionResult) -> str:
    if result.guess is None:
        return "unknown: no labelled photo resembles it"
    if result.named:
        return f"named {result.guess}, confidence {result.confidence:.2f}"
    return f"unknown; the guess was {result.guess}, confidence {result.confidence:.2f}"


def _curve_points(points: int) -> NDArray[np.int64]:
    """Return the points of a curve that are drawn; more of them cannot be seen."""
    if points <= _MAX_CURVE_POINTS:
        return np.arange(points)
    return np.unique(np.linspace(0, points - 1, _MAX_CURVE_POINTS).round().astype(np.int64))
