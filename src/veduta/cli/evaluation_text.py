"""The text that `veduta evaluate` prints."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from veduta.cli.printing import say
from veduta.errors import readable
from veduta.text import count, printable

if TYPE_CHECKING:
    from veduta.evaluation import (
        Evaluation,
        ProtocolEvaluation,
        RecognitionEvaluation,
        RevisitedEvaluation,
    )
    from veduta.evaluation.figures import Figures
    from veduta.evaluation.report_recognition import Classified

__all__ = ["print_evaluation"]

_WIDTH = 80
_MAX_LISTED_CLASSES = 40
_MAX_LABEL_LENGTH = 30

_FIGURE_WIDTH = 28
"""Characters of a value with its interval, or of the words for what answered."""


def print_evaluation(
    evaluation: Evaluation | RecognitionEvaluation | RevisitedEvaluation | ProtocolEvaluation,
) -> None:
    """Print the figures on standard output, and what was left out on standard error.

    Args:
        evaluation: of any task.
    """
    from veduta.evaluation import Evaluation, ProtocolEvaluation, RecognitionEvaluation

    notes: tuple[str, ...] = ()
    if isinstance(evaluation, Evaluation):
        _print_retrieval(evaluation)
        notes = evaluation.notes
    elif isinstance(evaluation, RecognitionEvaluation):
        _print_recognition(evaluation)
        notes = evaluation.notes
    elif isinstance(evaluation, ProtocolEvaluation):
        _print_protocol(evaluation)
        notes = evaluation.notes
    else:
        _print_revisited(evaluation)
        notes = evaluation.notes
    for note in (*notes, *evaluation.problems):
        say(f"note: {note}", err=True)


def _print_retrieval(evaluation: Evaluation) -> None:
    from veduta.evaluation.metrics import METRICS
    from veduta.evaluation.summary import class_table

    summary = evaluation.summary
    distractors = f" + {summary.distractors:,} distractors" if summary.distractors else ""
    queries = summary.queries + summary.queries_without_positives
    shown = summary.queries or queries
    say(f"{shown:,} queries, {summary.gallery:,} gallery photos{distractors}")
    if not summary.queries:
        say("no photo with the label of a query in the gallery: ranked, and not judged")
    elif without := summary.queries_without_positives:
        say(f"{without:,} queries without a right answer left out")
    _print_answered_by("ranked by", evaluation.answered_by, evaluation.settings.get("encoder"))
    _print_figures(
        summary,
        [metric.key for metric in METRICS],
        evaluation.answered_by,
        evaluation.descriptor_alone,
    )
    classes = sorted(class_table(evaluation.results), key=lambda row: (row.map, row.label))
    if len(classes) > 1:
        say("", "  class, weakest first            queries   top1    mAP")
        for row in classes[:_MAX_LISTED_CLASSES]:
            label = _class_name(row.label)
            say(f"  {label:{_MAX_LABEL_LENGTH}}  {row.queries:7,}  {row.top1:.3f}  {row.map:.3f}")
        if len(classes) > _MAX_LISTED_CLASSES:
            more = len(classes) - _MAX_LISTED_CLASSES
            say(f"  … and {more:,} more: --json or --report list all.")


def _print_recognition(evaluation: RecognitionEvaluation) -> None:
    from veduta.evaluation.open_set import OPEN_SET_METRICS
    from veduta.evaluation.report_recognition import classified

    summary, settings = evaluation.summary, evaluation.settings
    known, unknown = count(summary.known, "photo"), count(summary.unknown, "photo")
    say(f"{known} of known places, {unknown} of none")
    model = settings.get("model")
    by = f"{evaluation.answered_by} ({printable(model)})" if model else evaluation.answered_by
    _print_answered_by("named by", by, None if model else settings.get("encoder"))
    ordered = sorted(OPEN_SET_METRICS, key=lambda metric: metric.display_order)
    _print_figures(
        summary,
        [metric.key for metric in ordered],
        evaluation.answered_by,
        evaluation.descriptor_alone,
    )
    say(f"  {'calibration error':19} {evaluation.calibration_error:.3f}")
    for line in _confidence_lines(settings):
        say(f"  {line}")
    classes = classified(evaluation)
    if classes is not None:
        _print_classes(classes)


def _confidence_lines(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield from which confidence on photos are named, and what the confidence was fitted on."""
    threshold, precision = settings["threshold"], settings["precision"]
    if precision is None:
        yield "every photo is named: none shows something else (--precision sets a threshold)"
    else:
        named = "never" if threshold is None else f"from a confidence of {threshold:.2f} on"
        yield f"named {named}, for a precision of {precision:.0%}"
    learned_from = count(settings["learned_from"], "held-out photo")
    if "model" in settings and settings["learned"]:
        yield f"confidence calibrated on {learned_from}"
    elif "model" in settings:
        yield "confidence of the network itself, not calibrated on validation photos"
    elif settings["learned"]:
        yield f"confidence calibrated on {learned_from} of the gallery"
    else:
        yield from textwrap.wrap(settings["why_not_learned"], 76)


def _print_classes(classified: Classified) -> None:
    """Print the classification report of the answers."""
    figures = classified.figures
    say("", f"  class, weakest first{'':11} photos  precision  recall     F1")
    weakest_first = sorted(figures.classes, key=lambda row: (row.f1, row.label))
    for row in weakest_first[:_MAX_LISTED_CLASSES]:
        averages = f"{row.precision:9.3f}  {row.recall:6.3f}  {row.f1:5.3f}"
        say(f"  {_class_name(row.label):{_MAX_LABEL_LENGTH}} {row.support:7,}  {averages}")
    if len(weakest_first) > _MAX_LISTED_CLASSES:
        more = len(weakest_first) - _MAX_LISTED_CLASSES
        say(f"  … and {more:,} more: --json or --report list all.")
    for name, mean in (("macro average", figures.macro), ("weighted average", figures.weighted)):
        averages = f"{mean.precision:9.3f}  {mean.recall:6.3f}  {mean.f1:5.3f}"
        say(f"  {name:{_MAX_LABEL_LENGTH}} {figures.photos:7,}  {averages}")
    low, high = classified.accuracy_interval
    say(
        f"  {'accuracy of the answers':{_MAX_LABEL_LENGTH}} {figures.photos:7,}  "
        f"{figures.accuracy:9.3f}  95 % [{low:.3f}, {high:.3f}]"
    )


def _print_revisited(evaluation: RevisitedEvaluation) -> None:
    from veduta.evaluation.revisited import REVISITED_METRICS

    distractors = f" + {evaluation.distractors:,} distractors" if evaluation.distractors else ""
    queries = count(len(evaluation.queries), "query", "queries")
    name = printable(evaluation.name)
    say(f"{name}: {queries}, {evaluation.gallery:,} gallery photos{distractors}")
    _print_answered_by("ranked by", evaluation.answered_by, evaluation.settings.get("encoder"))
    titles = "  ".join(f"{metric.title:5}" for metric in REVISITED_METRICS)
    say(f"           {titles}  {'queries':>8}")
    for setups in (evaluation.setups, evaluation.descriptor_alone or {}):
        if setups is not evaluation.setups and setups:
            say("  descriptor alone:")
        for name, setup in setups.items():
            if setup.queries:
                values = "  ".join(f"{figure.value:.3f}" for figure in setup.figures.values())
                say(f"  {name:7}  {values}  {setup.queries:8,}")


def _print_protocol(evaluation: ProtocolEvaluation) -> None:
    from veduta.evaluation.protocol_metrics import PROTOCOL_METRICS, shown_metrics

    judged, figures = evaluation.judged, evaluation.figures
    regular = len(judged.gallery) - judged.distractors
    distractors = f" + {judged.distractors:,} distractors" if judged.distractors else ""
    say(f"{judged.name}: {figures.queries:,} queries, {regular:,} gallery photos{distractors}")
    if without := figures.queries_without_positives:
        say(f"{count(without, 'query', 'queries')} without a right answer left out")
    _print_answered_by("ranked by", evaluation.answered_by, evaluation.settings.get("encoder"))
    keys = [metric.key for metric in shown_metrics(judged.protocol)]
    _print_figures(figures, keys, evaluation.answered_by, evaluation.descriptor_alone)
    if figures.with_all_queries and without:
        say("  queries without a right answer counted as wrong:")
        for key, value in figures.with_all_queries.items():
            say(f"  {key:{max(map(len, keys))}} {value:.3f}")
    of_each_query = [metric.key for metric in PROTOCOL_METRICS[judged.protocol]]
    for name, rows in figures.tables.items():
        columns = ["first answer"] if name == "distance" else _fitting(of_each_query)
        title = "within" if name == "distance" else name
        say("", f"  {title:{_MAX_LABEL_LENGTH}}  queries  {'  '.join(columns)}")
        ordered = sorted(rows, key=lambda row: row[2]) if name == "class" else rows
        for group, queries, values in ordered[:_MAX_LISTED_CLASSES]:
            cells = "  ".join(
                f"{value:{len(column)}.3f}" for column, value in zip(columns, values, strict=False)
            )
            say(f"  {_class_name(group):{_MAX_LABEL_LENGTH}}  {queries:7,}  {cells}")
        if len(rows) > _MAX_LISTED_CLASSES:
            more = len(rows) - _MAX_LISTED_CLASSES
            say(f"  … and {more:,} more: --json or --report list all.")


def _fitting(columns: Sequence[str]) -> list[str]:
    """Return the first columns that fit beside the names of groups and the number of queries."""
    left = _WIDTH - _MAX_LABEL_LENGTH - len("    queries")
    fitting: list[str] = []
    for column in columns:
        left -= len(column) + 2
        if left < 0:
            break
        fitting.append(column)
    return fitting


def _class_name(label: str) -> str:
    name = printable(label)
    return name if len(name) <= _MAX_LABEL_LENGTH else name[: _MAX_LABEL_LENGTH - 1] + "…"


def _print_answered_by(verb: str, answered_by: str, encoder: object) -> None:
    say(f"{verb}: {answered_by}")
    if encoder is not None:
        say(f"encoder: {readable(str(encoder))}")


def _print_figures(
    summary: Figures, keys: Sequence[str], answered_by: str, alone: Figures | None
) -> None:
    """Print a line a figure, with the same figure by the descriptor alone beside it."""
    from veduta.evaluation.answered_by import DESCRIPTOR_ALONE

    width = max(map(len, keys))
    if alone is not None and any(_figure(summary, key) for key in keys):
        say(f"  {'':{width}} {answered_by:{_FIGURE_WIDTH}}  {DESCRIPTOR_ALONE}")
    for key in keys:
        text = _figure(summary, key)
        if text:
            other = f"  {_figure(alone, key) or '–'}" if alone is not None else ""
            say(f"  {key:{width}} {text:{_FIGURE_WIDTH}}{other}".rstrip())


def _figure(summary: Figures, key: str) -> str:
    """Return a value with its interval; "" if it is undefined."""
    value, (low, high) = summary.figures[key]
    return f"{value:.3f}   95 % [{low:.3f}, {high:.3f}]" if math.isfinite(value) else ""
