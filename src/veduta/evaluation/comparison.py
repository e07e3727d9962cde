"""Whether one system is better than another, or was lucky with the queries.

Reports of the same task are compared on the queries that all of them share. The systems are drawn
together (`veduta.evaluation.bootstrap`), so what makes a query hard for all of them cancels out.
With more than two, the p-values of one figure are corrected for the number of comparisons (Holm, "A
simple sequentially rejective multiple test procedure", 1979); across figures they are not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.errors import DatasetError, readable
from veduta.evaluation.bootstrap import (
    RESAMPLES,
    Statistic,
    bootstrap_statistic,
    means_of,
    percentile_intervals,
    two_sided_p_values,
)
from veduta.evaluation.metrics import TOP_K
from veduta.evaluation.open_set import OPEN_SET_FIGURES, open_set_statistic
from veduta.evaluation.summary import Interval
from veduta.text import count

__all__ = ["ComparedFigure", "Comparison", "compare", "holm", "read_report"]

_RETRIEVAL = {
    **{f"top{k}": f"right_at_{k}" for k in TOP_K},
    "map": "ap",
    "p10": "p10",
    "recall10": "recall10",
    "map100": "ap100",
}
"""From a figure to the value of each query that it is the mean of."""

_RECOGNITION = ("label", "guess", "named", "confidence")

_REMEDY = "write one with `veduta evaluate DATASET --report DIR` and name its report.json"

_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """One figure of one system: a row of the table.

    `value`, `interval`: over the queries that are compared. `difference`: above the first system's
    value, with `difference_interval` and the two-sided `p_value`; `p_holm` is corrected for the
    number of systems. These four are None for the first system. Intervals are 95 %, from the
    bootstrap. A figure that is undefined is NaN.
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

    `task`: `retrieve` or `recognize`. `systems`: their names, the first is what the others are
    compared to. `queries`: how many are compared. `figures`: one a metric and system, metric by
    metric. `notes`: what was left out, and what makes the reports unlike each other. `resamples`,
    `seed`: of the bootstrap.
    """

    task: str
    systems: tuple[str, ...]
    queries: int
    figures: tuple[ComparedFigure, ...]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def as_json(self) -> dict[str, object]:
        """Return all of it for `json.dump`; NaN as null."""
        return {
            "task": self.task,
            "systems": list(self.systems),
            "queries": self.queries,
            "figures": [
                {name: _plain(value) for name, value in asdict(figure).items()}
                for figure in self.figures
            ],
            "notes": list(self.notes),
            "resamples": self.resamples,
            "seed": self.seed,
        }


def read_report(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON object in `file`.

    Raises `DatasetError` when it cannot be read or is no JSON object.
    """
    try:
        with open(file, encoding="utf-8-sig") as text:
            report = json.load(text)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: {error.strerror or error}; {_REMEDY}") from None
    except (ValueError, RecursionError) as error:  # what is no UTF-8 is a ValueError too
        raise DatasetError(f"{readable(file)}: no JSON ({error}); {_REMEDY}") from None
    if not isinstance(report, dict):
        raise DatasetError(f"{readable(file)}: {_found(report)} and no report; {_REMEDY}")
    return report


def compare(
    reports: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two or more reports, query by query.

    Args:
        reports: as `veduta evaluate --report` writes them: `task`, and `queries`, a list of
            objects. Each has a `path` and a `label` (null for none). For `retrieve` also `ap`,
            `p10`, `recall10`, `ap100`, `right_at_1`, `_3`, `_5`, `_10`, the numbers null where the
            gallery has no right answer. For `recognize` also `guess` (null for none), `confidence`
            in it, and `named`, whether it was given as the answer; a `label` is null when the
            gallery does not have it.
        names: one a report, such as its file; messages use them.
        resamples, seed: of the bootstrap.

    Raises:
        DatasetError: something is no report, tasks differ, a query is in a report twice, labels of
            a query differ, no query is in all reports, or no figure is.
        ValueError: fewer than two reports, or names that are not as many and different.
    """
    names = tuple(names or (f"report {number}" for number in range(1, len(reports) + 1)))
    if len(reports) < 2 or len(names) != len(reports) or len(set(names)) < len(names):
        raise ValueError(f"{len(reports)} reports with the names {names}; wanted 2 or more of both")
    task = _shared_task(reports, names)
    rows = [_queries(report, name) for report, name in zip(reports, names, strict=True)]
    paths = [path for path in rows[0] if all(path in others for others in rows[1:])]
    if not paths:
        raise DatasetError(
            f"no query is in all of {', '.join(names)}; compare reports of the same dataset"
        )
    _check_labels(paths, rows, names)
    notes = _differences(reports, rows, names, len(paths))
    table = [[of_path[path] for path in paths] for of_path in rows]
    if task == "retrieve":
        metrics, statistic, queries = _retrieval(table, names, notes)
    else:
        metrics, statistic, queries = _recognition(table, names)
    shape = (-1, len(names), len(metrics))
    values = statistic(np.ones((1, queries))).reshape(shape)[0]
    drawn = bootstrap_statistic(statistic, queries, resamples=resamples, seed=seed).reshape(shape)
    return Comparison(
        task=task,
        systems=names,
        queries=queries,
        figures=tuple(_figures(metrics, names, values, drawn)),
        notes=tuple(notes),
        resamples=resamples,
        seed=seed,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in the same order.

    Of m, the smallest is multiplied by m, the next by m - 1 and so on; none falls below a smaller
    one's, none is above 1. NaN stays NaN and is not counted.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        corrected[i] = least
    return corrected


def _figures(
    metrics: Sequence[str],
    names: Sequence[str],
    values: NDArray[np.float64],
    drawn: NDArray[np.float64],
) -> list[ComparedFigure]:
    """Return the rows from (S, M) values and (R, S, M) draws."""
    figures = []
    for column, metric in enumerate(metrics):
        ends = percentile_intervals(drawn[:, :, column]).tolist()
        apart = drawn[:, 1:, column] - drawn[:, :1, column]
        apart_ends = percentile_intervals(apart).tolist()
        p_values: list[float] = two_sided_p_values(apart).tolist()
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
                    difference_interval=(apart_ends[row - 1][0], apart_ends[row - 1][1]),
                    p_value=p_values[row - 1],
                    p_holm=corrected[row - 1],
                )
            )
    return figures


def _shared_task(reports: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    tasks = []
    for report, name in zip(reports, names, strict=True):
        if not isinstance(report, Mapping):
            raise DatasetError(f"{name}: {_found(report)} and no report; {_REMEDY}")
        missing = [key for key in ("task", "queries") if key not in report]
        if missing:
            found = ", ".join(map(str, list(report)[:8])) or "nothing"
            raise DatasetError(
                f"{name}: no report: has no {' and no '.join(missing)}, but {found}; {_REMEDY}"
            )
        if report["task"] not in ("retrieve", "recognize"):
            raise DatasetError(
                f"{name}: the task is {report['task']!r}; wanted 'retrieve' or 'recognize'"
            )
        tasks.append(report["task"])
    if len(set(tasks)) > 1:
        each = ", ".join(f"{name} is of {task}" for name, task in zip(names, tasks, strict=True))
        raise DatasetError(f"the reports are of different tasks: {each}; compare like with like")
    return str(tasks[0])


def _queries(report: Mapping[str, Any], name: str) -> dict[str, _Row]:
    """Return the queries of a report by path."""
    of_path: dict[str, _Row] = {}
    if not isinstance(report["queries"], list):
        raise DatasetError(f"{name}: queries is {_found(report['queries'])}; wanted a list")
    for number, row in enumerate(report["queries"]):
        if not isinstance(row, Mapping) or not isinstance(row.get("path"), str):
            raise DatasetError(f"{name}: query {number} is no object with a path; {_REMEDY}")
        if row["path"] in of_path:
            raise DatasetError(f"{name}: has the query {readable(row['path'])} twice")
        of_path[row["path"]] = row
    return of_path


def _check_labels(
    paths: Sequence[str], rows: Sequence[Mapping[str, _Row]], names: Sequence[str]
) -> None:
    for path in paths:
        label = rows[0][path].get("label")
        for of_path, name in zip(rows[1:], names[1:], strict=True):
            if (other := of_path[path].get("label")) != label:
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
    """Return what tells the reports apart besides the systems."""
    notes = []
    for of_path, name in zip(rows, names, strict=True):
        if left := len(of_path) - shared:
            what = count(left, "query", "queries")
            notes.append(f"{name}: {what} left out that not every report has")
    for key, what in (("gallery", "gallery photos"), ("distractors", "distractors")):
        sizes = [report.get(key) for report in reports]
        if any(size != sizes[0] for size in sizes):
            each = ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
            notes.append(f"the number of {what} differs: {each}")
    return notes


def _retrieval(
    table: Sequence[Sequence[_Row]], names: Sequence[str], notes: list[str]
) -> tuple[list[str], Statistic, int]:
    """Return the metrics, the means of (S, M) and how many queries they are over."""
    metrics = []
    for metric, key in _RETRIEVAL.items():
        lacking = [
            name
            for rows, name in zip(table, names, strict=True)
            if any(key not in row for row in rows)
        ]
        if not lacking:
            metrics.append(metric)
        elif key == "ap":  # null there tells which queries are in no mean
            raise DatasetError(f"{lacking[0]}: not every query has its ap; {_REMEDY}")
        else:
            notes.append(f"no {metric}: {', '.join(lacking)} does not have {key} of each query")
    values = np.array(
        [
            [_number(row, _RETRIEVAL[metric], name) for row in rows]
            for rows, name in zip(table, names, strict=True)
            for metric in metrics
        ]
    ).T
    judged = ~np.isnan(values).any(axis=1)
    if not judged.any():
        raise DatasetError("no query has a right answer in the gallery in all of the reports")
    if left := int((~judged).sum()):
        what = count(left, "query", "queries")
        notes.append(f"{what} left out that have no right answer in the gallery in some report")
    return metrics, means_of(values[judged]), int(judged.sum())


def _recognition(
    table: Sequence[Sequence[_Row]], names: Sequence[str]
) -> tuple[list[str], Statistic, int]:
    """Return the metrics, what gives (S, M) of them, and the number of queries."""
    each = []
    for rows, name in zip(table, names, strict=True):
        for row in rows:
            if missing := [key for key in _RECOGNITION if key not in row]:
                raise DatasetError(
                    f"{name}: {readable(row['path'])} has no {' and no '.join(missing)}; {_REMEDY}"
                )
        confidences = [_number(row, "confidence", name) for row in rows]
        labels = [row["label"] for row in rows]
        guesses = [row["guess"] for row in rows]
        named = [bool(row["named"]) for row in rows]
        try:
            each.append(open_set_statistic(labels, guesses, named, confidences))
        except ValueError as error:
            raise DatasetError(f"{name}: {error}") from None

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([statistic(counts) for statistic in each], axis=1)

    return list(OPEN_SET_FIGURES), figures, len(table[0])


def _number(row: _Row, key: str, name: str) -> float:
    """Return a number of a query, NaN for null."""
    value = row[key]
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise DatasetError(
            f"{name}: {key} of {readable(row['path'])} is {_found(value)}; wanted a number"
        )
    return float(value)


def _found(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(end) for end in value]
    return None if isinstance(value, float) and math.isnan(value) else value
