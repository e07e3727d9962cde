"""What the report of a recognition says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veduta.evaluation.bootstrap import Statistic, bootstrap_statistic, percentile_intervals
from veduta.evaluation.calibration_error import brier_score
from veduta.evaluation.classification import Classification, classification_figures
from veduta.evaluation.open_set import risk_coverage
from veduta.evaluation.report_retrieval import calibration_plot
from veduta.evaluation.summary import Interval
from veduta.pages import charts
from veduta.pages.hit import HitTile
from veduta.pages.report_page import (
    MOST_CLASSES,
    Plot,
    ReportPage,
    ReportRow,
    RowGroup,
    classes_title,
)
from veduta.pages.results_page import Figure, ResultRow, Table
from veduta.photos import preview
from veduta.text import count

if TYPE_CHECKING:
    from veduta.evaluation.recognition_run import RecognitionEvaluation, RecognitionResult

__all__ = [
    "Classified",
    "classification_statistic",
    "classified",
    "query_values",
    "recognition_page",
]

_FIGURES = (
    ("GAP", "gap", "global average precision of the guesses, surest first, in one list"),
    (
        "Known named",
        "known_named",
        "of the queries that show a place of the gallery, those that got a name",
    ),
    ("Named right", "named_right", "of those, the share that got the right one"),
    (
        "Unknown rejected",
        "unknown_rejected",
        "of the queries that show no place of the gallery, those answered “unknown”",
    ),
    (
        "Precision of names",
        "named_right_overall",
        "of all names given, also to queries that show no place, the share that is right",
    ),
    (
        "Guessed right",
        "guess_right",
        "of the queries that show a place, those whose likeliest label is right, named or not",
    ),
    ("AUROC", "auroc", "how often a query that shows a place is surer than one that does not"),
)

_QUERY_SIDE, _TILE_SIDE = 480, 224  # pixels, long side
_MOST_IN_MATRIX = 60  # classes; names of more cannot be read
_MOST_CONFUSIONS = 30
_MOST_POINTS = 400  # of a curve; more cannot be seen
_BINS = 20


@dataclass(frozen=True, slots=True)
class Classified:
    """The figures of the classes, with the 95 % bootstrap intervals of two of them."""

    figures: Classification
    accuracy_interval: Interval
    macro_f1_interval: Interval

    def as_json(self) -> dict[str, object]:
        """Return what the JSON file has beside the evaluation's own figures."""
        figures = self.figures.as_json()
        return {
            "accuracy": self.figures.accuracy,
            "accuracy_interval": self.accuracy_interval,
            "macro_f1": self.figures.macro.f1,
            "macro_f1_interval": self.macro_f1_interval,
            **{name: figures[name] for name in ("macro", "weighted", "classes", "confusion")},
        }


def classified(evaluation: RecognitionEvaluation) -> Classified | None:
    """Return the figures of the classes; None when no query shows one and none was named."""
    summary = evaluation.summary
    labels = [r.label for r in evaluation.results]
    answers = [r.guess if r.named else None for r in evaluation.results]
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
    evaluation: RecognitionEvaluation, classes: Classified | None, *, rows: int, **made: Any
) -> ReportPage:
    """Return the page, with `rows` queries: mistakes first, then what went well.

    `classes`: what `classified` returns. `made`: `environment`, `command` and `generated` of
    `ReportPage`.
    """
    summary, results = evaluation.summary, evaluation.results
    figures = [
        Figure(name, getattr(summary, key), getattr(summary, f"{key}_interval"), explanation)
        for name, key, explanation in _FIGURES
    ]
    tables: list[Table] = []
    plots: list[Plot] = []
    if classes is not None:
        figures += _classification_figures(classes)
        tables = list(_tables(classes.figures))
        plots.append(_confusion(classes.figures))
    if results:
        figures += _confidence_figures(evaluation)
    counts = f"{count(summary.known, 'query', 'queries')} that show a place of the gallery"
    counts += f", {summary.unknown:,} that show none, against "
    counts += count(len(evaluation.gallery_paths), "gallery photo")
    if distractors := sum(label is None for label in evaluation.gallery_labels):
        counts += f", {count(distractors, 'distractor')} among them"
    return ReportPage(
        title=f"{evaluation.root.name}: recognition",
        counts=counts,
        method=", ".join(
            f"{name} {evaluation.settings[name]}"
            for name in ("encoder", "method")
            if evaluation.settings.get(name) is not None
        ),
        figures=figures,
        figures_note=f"{count(summary.named, 'query', 'queries')} got a name. Below each figure, "
        f"the 95 % interval of {summary.resamples:,} bootstrap draws of the queries (seed "
        f"{summary.seed}).",
        plots=[*_curves(evaluation), *plots],
        tables=tables,
        groups=_groups(evaluation, rows),
        answers="The gallery photos that decided, nearest first, with their scores:",
        left_out=(*evaluation.notes, *evaluation.problems),
        settings={**evaluation.settings, "time for recognising": f"{evaluation.seconds:.1f} s"},
        **made,
    )


def query_values(evaluation: RecognitionEvaluation) -> Iterator[dict[str, object]]:
    """Yield what the JSON file says of each query, as `veduta.evaluation.comparison` reads it."""
    for result in evaluation.results:
        yield {
            "path": result.path,
            "label": result.label,
            "guess": result.guess,
            "confidence": result.confidence,
            "named": result.named,
            "right": _right(result),
        }


def classification_statistic(
    labels: Sequence[str | None], answers: Sequence[str | None]
) -> Statistic:
    """Return what gives accuracy and macro F1 of draws of N photos: (B, N) counts to (B, 2).

    `labels`, `answers`: (N,), as in `classification_figures`. A class that a draw neither shows nor
    answers is in no mean of that draw.
    """
    names = sorted({name for name in (*labels, *answers) if name is not None})
    number = {name: i for i, name in enumerate(names)}
    right = np.array([a == b for a, b in zip(labels, answers, strict=True)], np.bool_)
    # Every photo counts once for what it shows and once for what it was given.
    shown = [(number[name], row) for row, name in enumerate(labels) if name is not None]
    given = [(number[name], row) for row, name in enumerate(answers) if name is not None]
    times = np.array(sorted(shown + given), np.int64).reshape(-1, 2)
    starts = np.searchsorted(times[:, 0], np.arange(len(names)))
    hits = np.array([(i, row) for i, row in sorted(shown) if right[row]], np.int64).reshape(-1, 2)
    hit, hit_starts = np.unique(hits[:, 0], return_index=True)

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        under = np.add.reduceat(counts[:, times[:, 1]], starts, axis=1)
        over = np.zeros_like(under)
        if len(hit):
            over[:, hit] = 2 * np.add.reduceat(counts[:, hits[:, 1]], hit_starts, axis=1)
        drawn = (under > 0).sum(axis=1)
        f1 = np.divide(over, under, out=np.zeros_like(under), where=under > 0).sum(axis=1)
        macro = np.divide(f1, drawn, out=np.full(len(counts), np.nan), where=drawn > 0)
        return np.stack([counts @ right / counts.sum(axis=1), macro], axis=1)

    return figures


def _right(result: RecognitionResult) -> bool:
    """Return whether the answer, a name or "unknown", is right."""
    return (result.guess if result.named else None) == result.label


def _classification_figures(classes: Classified) -> Iterator[Figure]:
    yield Figure(
        "Accuracy",
        classes.figures.accuracy,
        classes.accuracy_interval,
        "of all queries, the share with the right answer: the name, or “unknown”",
    )
    yield Figure(
        "Macro F1",
        classes.figures.macro.f1,
        classes.macro_f1_interval,
        "mean over the classes of the harmonic mean of precision and recall",
    )


def _confidence_figures(evaluation: RecognitionEvaluation) -> Iterator[Figure]:
    confidences, right = _confidences(evaluation.results)
    yield Figure(
        "Calibration error",
        evaluation.calibration_error,
        None,
        "expected difference between the confidence in a guess and the share that is right; 0 is "
        "best",
    )
    yield Figure(
        "Brier score",
        brier_score(confidences, right),
        None,
        "mean squared distance of the confidence from 1 if the guess is right, from 0 if not; 0 is "
        "best",
    )


def _confidences(results: Sequence[RecognitionResult]) -> tuple[list[float], list[bool]]:
    return [r.confidence for r in results], [r.right for r in results]


def _curves(evaluation: RecognitionEvaluation) -> Iterator[Plot]:
    results = evaluation.results
    if not results:
        return
    yield _risk_coverage(results)
    yield _thresholds(evaluation)
    yield calibration_plot(*_confidences(results), title="Calibration", of="guesses")
    edges = np.linspace(0.0, 1.0, _BINS + 1)
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
        "How sure the guesses are, for queries that show a place of the gallery and for those that "
        "do not.",
    )


def _risk_coverage(results: Sequence[RecognitionResult]) -> Plot:
    confidences = [r.confidence if r.guess is not None else -np.inf for r in results]
    right = [r.right for r in results]
    curve = risk_coverage(confidences, right)
    answered = np.arange(1, len(results) + 1)
    best = np.maximum(0, answered - sum(right)) / answered
    named = [r for r in results if r.named]
    wrong = sum(not r.right for r in named)
    marks, said = [], ""
    if named:
        share, risk = len(named) / len(results), wrong / len(named)
        marks = [(share, risk, "in use")]
        said = f" In use: {share:.1%} of the queries are named, {risk:.1%} of these wrong."
    some = _thinned(len(results))
    return Plot(
        charts.lines(
            "Risk and coverage",
            {
                "surest first": (curve.coverage[some], curve.risk[some]),
                "best possible": (curve.coverage[some], best[some]),
            },
            x_label="coverage: share of the queries that are named",
            y_label="risk: share of those that is wrong",
            x_range=(0, 1),
            y_range=(0, max(0.02, float(curve.risk.max()) * 1.08)),
            marks=marks,
        ),
        "What naming more of the queries costs, unknown ones among them. Area under the curve "
        f"{curve.area:.4f}, of which {curve.excess_area:.4f} more than the best possible order of "
        f"the same guesses.{said}",
    )


def _thresholds(evaluation: RecognitionEvaluation) -> Plot:
    """Return what each threshold on the confidence would have done."""
    thresholds = np.linspace(0.0, 1.0, 201)

    def reaching(results: Sequence[RecognitionResult]) -> NDArray[np.float64]:
        reached = np.sort([r.confidence if r.guess is not None else -np.inf for r in results])
        above = len(results) - np.searchsorted(reached, thresholds, side="left")
        return np.asarray(above / len(results), np.float64)

    known = [r for r in evaluation.results if r.label is not None]
    unknown = [r for r in evaluation.results if r.label is None]
    series = {}
    if known:
        series["known: named"] = (thresholds, reaching(known))
        rightly = [r for r in known if r.right]
        share = len(rightly) / len(known)
        named = reaching(rightly) * share if rightly else np.zeros(len(thresholds))
        series["known: named right"] = (thresholds, named)
    if unknown:
        series["unknown: rejected"] = (thresholds, 1.0 - reaching(unknown))
    used = evaluation.settings.get("threshold")
    marks, said = [], ""
    if isinstance(used, float):
        said = f" In use: {used:.3f}."
        if known:
            marks = [(used, sum(r.named for r in known) / len(known), "in use")]
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
        f"What other thresholds would have done with the same queries.{said}",
    )


def _confusion(classes: Classification) -> Plot:
    """Return the confusion matrix; of very many classes, those that took part in most mistakes."""
    names = [row.label for row in classes.classes]
    outside = _outside(names)
    cells = classes.cells
    mistakes = cells[cells[:, 0] != cells[:, 1]]
    caption = "Rows: what the query shows; columns: what it was named as."
    chosen = np.arange(len(names) + 1)
    if len(names) > _MOST_IN_MATRIX:
        errors = np.zeros(len(names) + 1, np.int64)
        for column in (0, 1):
            np.add.at(errors, mistakes[:, column], mistakes[:, 2])
        most = np.argsort(-errors[:-1], kind="stable")[:_MOST_IN_MATRIX]
        chosen = np.append(np.sort(most), len(names))
        caption += (
            f" {_MOST_IN_MATRIX} of {len(names):,} classes, those with most mistakes; the table "
            "has all."
        )
    place = np.full(len(names) + 1, -1)
    place[chosen] = np.arange(len(chosen))
    inside = (place[cells[:, 0]] >= 0) & (place[cells[:, 1]] >= 0)
    table = np.zeros((len(chosen), len(chosen)), np.int64)
    table[place[cells[inside, 0]], place[cells[inside, 1]]] = cells[inside, 2]
    shown = [*names, outside]
    if not table[-1].any() and not table[:, -1].any():
        table, chosen = table[:-1, :-1], chosen[:-1]
    else:
        caption += f" “{outside}” as a row: shows none of the places; as a column: was not named."
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
            for row in weakest_first[:MOST_CLASSES]
        ],
    )
    cells = classes.cells
    mistakes = cells[cells[:, 0] != cells[:, 1]]
    if not len(mistakes):
        return
    outside = [*names, _outside(names)]
    order = np.lexsort((mistakes[:, 1], mistakes[:, 0], -mistakes[:, 2]))
    title = "Most frequent mistakes"
    if len(mistakes) > _MOST_CONFUSIONS:
        title += f" ({_MOST_CONFUSIONS} of {len(mistakes):,} kinds)"
    yield Table(
        title,
        ("shows", "named as", "queries"),
        [
            (outside[shown], outside[given], times)
            for shown, given, times in mistakes[order[:_MOST_CONFUSIONS]].tolist()
        ],
    )


def _outside(names: Sequence[str]) -> str:
    """Return what to call what is none of the classes, even if a class is called "unknown"."""
    name = "unknown"
    while name in names:
        name = f"({name})"
    return name


def _groups(evaluation: RecognitionEvaluation, rows: int) -> list[RowGroup]:
    surest = sorted(evaluation.results, key=lambda r: (-r.confidence, r.path))
    groups = {
        "Wrongly named": [r for r in surest if r.named and not _right(r)],
        "Wrongly left unknown": [r for r in surest if r.label is not None and not r.named],
        "Named right": [r for r in surest if r.named and _right(r)],
    }
    shares = _shares({title: len(chosen) for title, chosen in groups.items()}, rows)
    return [
        RowGroup(
            title,
            f"{min(shares[title], len(chosen))} of {len(chosen):,}, surest first.",
            _rows(evaluation, chosen[: shares[title]]),
        )
        for title, chosen in groups.items()
        if shares[title]
    ]


def _shares(sizes: Mapping[str, int], rows: int) -> dict[str, int]:
    """Return how many of the rows each group gets: as many each, and what some do not need."""
    shares = dict.fromkeys(sizes, 0)
    left = rows
    while left and (wanting := [name for name in sizes if shares[name] < sizes[name]]):
        for name in wanting[:left]:
            shares[name] += 1
            left -= 1
    return shares


def _rows(
    evaluation: RecognitionEvaluation, results: Sequence[RecognitionResult]
) -> Iterator[ReportRow]:
    for result in results:
        tiles = [
            HitTile(
                name=evaluation.gallery_paths[near.row].rsplit("/", 1)[-1],
                label=evaluation.gallery_labels[near.row],
                score=near.score,
                correct=near.correct if result.label is not None else None,
                thumbnail=preview(evaluation.root / evaluation.gallery_paths[near.row], _TILE_SIDE),
            )
            for near in result.nearest
        ]
        row = ResultRow(
            name=result.path.rsplit("/", 1)[-1],
            label="shows none of the places" if result.label is None else f"shows {result.label}",
            photo=preview(evaluation.root / result.path, _QUERY_SIDE),
            tiles=tiles,
        )
        yield ReportRow(row, _answer(result), _right(result))


def _answer(result: RecognitionResult) -> str:
    if result.guess is None:
        return "unknown: nothing speaks for any label"
    if result.named:
        return f"named {result.guess}, confidence {result.confidence:.2f}"
    return f"unknown; the guess was {result.guess}, confidence {result.confidence:.2f}"


def _thinned(points: int) -> NDArray[np.int64]:
    """Return which points of a curve to draw."""
    if points <= _MOST_POINTS:
        return np.arange(points)
    return np.unique(np.linspace(0, points - 1, _MOST_POINTS).round().astype(np.int64))
