"""Compare systems query by query: the difference of each figure, its interval and its p-value.

Reports of the same task are compared on the queries that all of them have. The systems are drawn
together (`veduta.evaluation.bootstrap`), so a query that is hard for all of them adds nothing to
the difference. With more than two systems, the p-values of one figure are corrected for the number
of comparisons (Holm, "A simple sequentially rejective multiple test procedure", 1979). They are not
corrected across figures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from veduta.errors import DatasetError, readable
from veduta.evaluation import metrics
from veduta.evaluation.bootstrap import (
    RESAMPLES,
    Statistic,
    bootstrap_statistic,
    means_of,
    percentile_intervals,
    two_sided_p_values,
)
from veduta.evaluation.figures import Interval, json_value
from veduta.evaluation.open_set import OPEN_SET_METRICS, open_set_statistic
from veduta.evaluation.protocol_comparison import compared_protocol
from veduta.evaluation.protocol_metrics import PROTOCOL_METRICS
from veduta.text import count
from veduta.validation import InvalidValue, convert, read_json

__all__ = [
    "ComparedFigure",
    "Comparison",
    "compare",
    "holm",
    "notes_by_name",
    "read_report",
    "report_task",
]

_REMEDY = "write one with `veduta evaluate DATASET --report DIR` and name its report.json"

_Row = Mapping[str, Any]
_T = TypeVar("_T")


class _Query(msgspec.Struct):
    path: str
    label: str | None = None


class _ReportFile(msgspec.Struct):
    """The part of a report that all tasks have; other keys are ignored."""

    task: str
    queries: list[_Query]
    protocol: str | None = None
    set: str | None = None


class _RecognizedQuery(msgspec.Struct):
    label: str | None
    guess: str | None
    named: bool
    confidence: float | None


_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """One figure of one system: a row of the table.

    Attributes:
        metric: the key of the figure.
        system: the name of the system.
        value: over the queries that are compared; NaN if it is undefined.
        interval: 95 % bootstrap interval of the value.
        difference: the value minus that of the first system; None for the first system, like the
            three that follow.
        difference_interval: 95 % bootstrap interval of the difference.
        p_value: two-sided.
        p_holm: the p-value corrected for the number of systems.
    """

    metric: str
    system: str
    value: float
    interval: Interval
    difference: float | None = None
    difference_interval: Interval | None = None
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two or more systems on the same queries.

    Attributes:
        task: `retrieve` or `recognize`, or the set of a published protocol.
        systems: their names; the others are compared with the first one.
        queries: how many are compared.
        figures: one for each metric and system, metric by metric.
        notes: what was left out, and how the reports differ besides the systems.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
    """

    task: str
    systems: tuple[str, ...]
    queries: int
    figures: tuple[ComparedFigure, ...]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return the comparison as JSON types; NaN as null."""
        return {
            "task": self.task,
            "systems": list(self.systems),
            "queries": self.queries,
            "figures": [json_value(asdict(figure)) for figure in self.figures],
            "notes": list(self.notes),
            "resamples": self.resamples,
            "seed": self.seed,
        }


def read_report(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON object in a file.

    Args:
        file: `report.json` of a report.

    Returns:
        Its content; `compare` checks it.

    Raises:
        DatasetError: the file cannot be read, or it holds no JSON object.
    """
    try:
        return read_json(file, dict[str, Any])
    except OSError as error:
        raise DatasetError(f"{readable(file)}: {error.strerror or error}; {_REMEDY}") from None
    except InvalidValue as error:
        raise DatasetError(f"{readable(file)}: no report: {error}; {_REMEDY}") from None


def compare(
    reports: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    only: Collection[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two or more reports, query by query.

    Args:
        reports: as `veduta evaluate --report` writes them: `task`, and `queries`, a list of
            objects. Each has a `path` and a `label` (null for none). For `retrieve` each also has
            the `query_key` of all `veduta.evaluation.metrics.METRICS`, null if the gallery has no
            right answer. For `protocol` and `revisited` each has what
            `veduta.evaluation.report_protocol` and `report_revisited` write. For `recognize` each
            has `guess` (null for none), the `confidence` in it, and `named`, whether it was given
            as the answer; `label` is null if the gallery does not have it.
        names: one a report, such as its file; messages use them.
        only: the keys of the figures that are compared; None: all that the reports have.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The comparison of all reports with the first.

    Raises:
        DatasetError: something is no report, tasks differ, a query is in a report twice, labels of
            a query differ, no query is in all reports, or no figure is.
        ValueError: there are fewer than two reports, or the names are not as many and different.
    """
    names = tuple(names or (f"report {number}" for number in range(1, len(reports) + 1)))
    if len(reports) < 2 or len(names) != len(reports) or len(set(names)) < len(names):
        raise ValueError(f"{len(reports)} reports with the names {names}; wanted 2 or more of both")
    named_reports = list(zip(reports, names, strict=True))
    task = _shared_task([report_task(report, name) for report, name in named_reports], names)
    rows = [_rows_by_path(report, name) for report, name in named_reports]
    paths = [path for path in rows[0] if all(path in others for others in rows[1:])]
    if not paths:
        raise DatasetError(
            f"no query is in all of {', '.join(names)}; compare reports of the same dataset"
        )
    _check_labels(paths, rows, names)
    notes = _differences(reports, rows, names, len(paths))
    table = [[by_path[path] for path in paths] for by_path in rows]
    if task == "retrieve":
        keys, statistic, queries = _retrieval(table, names, notes)
    elif task != "recognize":
        keys, statistic, queries = compared_protocol(reports[0], table, names)
    else:
        keys, statistic, queries = _recognition(table, names, only)
    shape = (-1, len(names), len(keys))
    values = statistic(np.ones((1, queries))).reshape(shape)[0]
    drawn = bootstrap_statistic(statistic, queries, resamples=resamples, seed=seed).reshape(shape)
    figures = _figures(keys, names, values, drawn)
    if only is not None:
        figures = [figure for figure in figures if figure.metric in only]
    return Comparison(
        task=task,
        systems=names,
        queries=queries,
        figures=tuple(figures),
        notes=tuple(notes),
        resamples=resamples,
        seed=seed,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number.

    Of m p-values the smallest is multiplied by m, the next by m - 1 and so on. No corrected value
    is below that of a smaller p-value, and none is above 1.

    Args:
        p_values: any number; NaN stays NaN and is not counted.

    Returns:
        The corrected p-values in the same order.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        corrected[i] = least
    return corrected


def _figures(
    keys: Sequence[str],
    names: Sequence[str],
    values: NDArray[np.float64],
    drawn: NDArray[np.float64],
) -> list[ComparedFigure]:
    """Return the rows from (S, M) values and (R, S, M) draws."""
    figures = []
    for column, metric in enumerate(keys):
        ends = percentile_intervals(drawn[:, :, column]).tolist()
        differences = drawn[:, 1:, column] - drawn[:, :1, column]
        difference_ends = percentile_intervals(differences).tolist()
        p_values: list[float] = two_sided_p_values(differences).tolist()
        corrected = holm(p_values)
        for row, name in enumerate(names):
            value = float(values[row, column])
            interval = (ends[row][0], ends[row][1])
            if row == 0:
                figures.append(ComparedFigure(metric, name, value, interval))
                continue
            figures.append(
                ComparedFigure(
                    metric=metric,
                    system=name,
                    value=value,
                    interval=interval,
                    difference=value - float(values[0, column]),
                    difference_interval=(
                        difference_ends[row - 1][0],
                        difference_ends[row - 1][1],
                    ),
                    p_value=p_values[row - 1],
                    p_holm=corrected[row - 1],
                )
            )
    return figures


def report_task(report: object, name: str) -> str:
    """Return the task of a report: "retrieve", "recognize", or the set of a published protocol.

    Reports of the same task can be compared.

    Args:
        report: the content of a `report.json`.
        name: for messages.

    Raises:
        DatasetError: it is no report, or one of another task.
    """
    try:
        facts = convert(report, _ReportFile)
    except InvalidValue as error:
        raise DatasetError(f"{name}: no report: {error}; {_REMEDY}") from None
    if facts.task in ("retrieve", "recognize"):
        return facts.task
    if facts.task == "revisited":
        return f"{facts.set}, easy, medium and hard"
    if facts.task == "protocol" and facts.protocol in PROTOCOL_METRICS:
        return f"{facts.set} by the protocol {facts.protocol}"
    known = "'retrieve', 'recognize', 'protocol' or 'revisited'"
    raise DatasetError(f"{name}: the task is {facts.task!r}; wanted {known}")


def _shared_task(tasks: Sequence[str], names: Sequence[str]) -> str:
    if len(set(tasks)) > 1:
        each = ", ".join(f"{name} is of {task}" for name, task in zip(names, tasks, strict=True))
        raise DatasetError(f"the reports are of different tasks: {each}; compare like with like")
    return tasks[0]


def _rows_by_path(report: Mapping[str, Any], name: str) -> dict[str, _Row]:
    by_path: dict[str, _Row] = {}
    for row in report["queries"]:
        if row["path"] in by_path:
            raise DatasetError(f"{name}: has the query {readable(row['path'])} twice")
        by_path[row["path"]] = row
    return by_path


def notes_by_name(notes: Iterable[tuple[str, str]]) -> list[str]:
    """Return each note once, after the names that it is about.

    Args:
        notes: pairs of a name and a note about it.

    Returns:
        The notes in the order in which they come first, such as "a, b: optimistic".
    """
    names_of: dict[str, list[str]] = {}
    for name, note in notes:
        names_of.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in names_of.items()]


def _check_labels(
    paths: Sequence[str], rows: Sequence[Mapping[str, _Row]], names: Sequence[str]
) -> None:
    for path in paths:
        label = rows[0][path].get("label")
        for by_path, name in zip(rows[1:], names[1:], strict=True):
            if (other := by_path[path].get("label")) != label:
                raise DatasetError(
                    f"{readable(path)} shows {label!r} in {names[0]} and {other!r} in {name}; "
                    "compare reports with the same labels"
                )


def _differences(
    reports: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, _Row]],
    names: Sequence[str],
    shared: int,
) -> list[str]:
    """Return notes on how the reports differ besides the systems."""
    notes = notes_by_name(
        (name, f"{count(left, 'query', 'queries')} left out that not every report has")
        for by_path, name in zip(rows, names, strict=True)
        if (left := len(by_path) - shared)
    )
    for key, what in (("gallery", "gallery photos"), ("distractors", "distractors")):
        sizes = [report.get(key) for report in reports]
        if any(size != sizes[0] for size in sizes):
            each = ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
            notes.append(f"the number of {what} differs: {each}")
    return notes


def _retrieval(
    table: Sequence[Sequence[_Row]], names: Sequence[str], notes: list[str]
) -> tuple[list[str], Statistic, int]:
    """Return the keys of the metrics, the means of (S, M) and how many queries they are over."""
    compared = []
    for metric in metrics.METRICS:
        lacking = [
            name
            for rows, name in zip(table, names, strict=True)
            if any(metric.query_key not in row for row in rows)
        ]
        if not lacking:
            compared.append(metric)
        elif metric.query_key == "ap":  # without it the queries without a positive are not known
            raise DatasetError(f"{lacking[0]}: not every query has its ap; {_REMEDY}")
        else:
            notes.append(
                f"no {metric.key}: {', '.join(lacking)} does not have {metric.query_key} of each "
                "query"
            )
    value_types = [(metric.query_key, bool | _Share | None) for metric in compared]
    query_type = msgspec.defstruct("_RankedQuery", value_types)
    values = []
    for rows, name in zip(table, names, strict=True):
        checked = [msgspec.structs.astuple(_checked(row, query_type, name)) for row in rows]
        values.append(np.array(checked, dtype=np.float64))  # None becomes NaN
    judged = ~np.isnan(values).any(axis=(0, 2))
    if not judged.any():
        raise DatasetError("no query has a right answer in the gallery in all of the reports")
    if left := int((~judged).sum()):
        what = count(left, "query", "queries")
        notes.append(f"{what} left out that have no right answer in the gallery in some report")
    columns = np.concatenate(values, axis=1)[judged]
    return [metric.key for metric in compared], means_of(columns), int(judged.sum())


def _recognition(
    table: Sequence[Sequence[_Row]], names: Sequence[str], only: Collection[str] | None
) -> tuple[list[str], Statistic, int]:
    """Return the keys of the metrics, the statistic of (S, M), and the number of queries."""
    statistics = []
    for rows, name in zip(table, names, strict=True):
        queries = [_checked(row, _RecognizedQuery, name) for row in rows]
        try:
            statistic = open_set_statistic(
                [query.label for query in queries],
                [query.guess for query in queries],
                [query.named for query in queries],
                [math.nan if q.confidence is None else q.confidence for q in queries],
                only=only,
            )
        except ValueError as error:
            raise DatasetError(f"{name}: {error}") from None
        statistics.append(statistic)

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([statistic(counts) for statistic in statistics], axis=1)

    keys = [metric.key for metric in OPEN_SET_METRICS if only is None or metric.key in only]
    return keys, figures, len(table[0])


def _checked(row: _Row, kind: type[_T], name: str) -> _T:
    """Return a query of a report as a declared type."""
    try:
        return convert(row, kind)
    except InvalidValue as error:
        raise DatasetError(f"{name}: {readable(row['path'])}: {error}; {_REMEDY}") from None
