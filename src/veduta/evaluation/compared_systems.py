"""One table of systems: reports of retrieval, reports of recognition, and runs of training.

A figure that a system does not have is None, never 0. Systems of the same task are also compared
query by query (`veduta.evaluation.comparison`), if they answered the same queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from veduta.errors import DatasetError, readable
from veduta.evaluation.answered_by import DESCRIPTOR_ALONE
from veduta.evaluation.bootstrap import RESAMPLES
from veduta.evaluation.comparison import Comparison, compare, notes_by_name, report_task
from veduta.evaluation.report_changes import Changes, changed_queries
from veduta.text import count
from veduta.validation import InvalidValue, convert

__all__ = [
    "COLUMNS",
    "COMMON_METRICS",
    "SORT_KEYS",
    "ComparedSystem",
    "QueryComparison",
    "SystemTable",
    "Value",
    "compare_systems",
    "systems_of_report",
    "table_row",
]

Value = str | int | float | None

COLUMNS = (
    "name",
    "kind",
    "queries",
    "accuracy",
    "gap",
    "top1",
    "top3",
    "top5",
    "top10",
    "map",
    "parameters",
    "seconds",
    "ranking_seconds",
    "named_by",
    "ranked_by",
    "answered_right",
    "balanced_accuracy",
    "among_3",
    "among_10",
    "val_accuracy",
    "encoder",
    "method",
    "model",
    "recipe",
    "dataset",
    "judged",
    "features",
    "trainable",
    "epochs",
    "best_epoch",
    "epoch_chosen_by",
    "hardware",
    "dataset_digest",
    "recipe_digest",
)
"""The keys of a row, in the order of the CSV file.

`accuracy` is the share of the photos of a known class whose likeliest class is right, whether it
was given as the answer or not, so that it means the same for a network that always answers and for
a recogniser that may say "unknown". `answered_right` counts the answers: "unknown" is right for a
photo of none of the classes alone. `top1` to `map` are figures of a search. `seconds` is the time
of training, `ranking_seconds` that of ranking or naming the queries.
"""

SORT_KEYS = {
    "accuracy": True,
    "gap": True,
    "balanced-accuracy": True,
    "top-1": True,
    "top-3": True,
    "top-5": True,
    "top-10": True,
    "map": True,
    "parameters": False,
    "epochs": False,
    "seconds": False,
    "recipe": False,
    "name": False,
}
"""What the table can be sorted by → whether the largest value comes first."""

COMMON_METRICS = ("gap", "guess_right")
"""The figures that a network without "unknown" has in common with a report of recognition."""


_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


_LABELLED_TASKS = {"recognize", "retrieve"}


class _Settings(msgspec.Struct):
    encoder: str | None = None
    method: str | None = None
    model: str | None = None


class _Figures(msgspec.Struct):
    accuracy: _Share | None = None
    gap: _Share | None = None
    guess_right: _Share | None = None
    top1: _Share | None = None
    top3: _Share | None = None
    top5: _Share | None = None
    top10: _Share | None = None
    map: _Share | None = None
    method: str | None = None


class _ReportFacts(_Figures):
    answered_by: str | None = None
    query_count: int | None = None
    seconds: _Seconds | None = None
    settings: _Settings = msgspec.field(default_factory=_Settings)
    descriptor_alone: _Figures | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ComparedSystem:
    """A row of the table.

    Attributes:
        row: a value, or None, for each of `COLUMNS`.
        report: the queries and answers, as `veduta.evaluation.comparison.compare` reads them; None
            if there are none, or if they are those of another row.
        labels: path of each judged photo → its class; None for none of the classes.
        metrics: the keys of the figures that can be compared query by query; None: all.
        notes: what a reader of the row must know, without its name.
    """

    row: Mapping[str, Value]
    report: Mapping[str, Any] | None
    labels: Mapping[str, str | None]
    metrics: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the row."""
        return str(self.row["name"])


@dataclass(frozen=True, slots=True)
class QueryComparison:
    """Systems of one task on the queries that all of them answered.

    Attributes:
        comparison: their figures, differences and p-values.
        changes: the queries that the others answer differently from the first.
    """

    comparison: Comparison
    changes: tuple[Changes, ...]

    def as_json(self) -> dict[str, object]:
        """Return both as JSON types."""
        changed = [change.as_json() for change in self.changes]
        return {**self.comparison.as_json(), "changed": changed}


@dataclass(frozen=True, slots=True, eq=False)
class SystemTable:
    """Systems in the order of the table.

    Attributes:
        systems: the rows.
        comparisons: one for each task with two or more systems on the same queries.
        notes: what limits the comparison, one sentence each.
    """

    systems: tuple[ComparedSystem, ...]
    comparisons: tuple[QueryComparison, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return the table as JSON types; a figure that a system does not have is null."""
        return {
            "rows": [dict(system.row) for system in self.systems],
            "comparisons": [each.as_json() for each in self.comparisons],
            "notes": list(self.notes),
        }


def table_row(**values: Value) -> dict[str, Value]:
    """Return a row with all of `COLUMNS`, None where no value is given."""
    if unknown := values.keys() - set(COLUMNS):
        raise ValueError(f"no columns: {', '.join(sorted(unknown))}")
    return {column: values.get(column) for column in COLUMNS}


def systems_of_report(report: Mapping[str, Any], name: str, file: str) -> list[ComparedSystem]:
    """Return the rows of a report.

    Args:
        report: the content of a `report.json`.
        name: of the row.
        file: for messages.

    Returns:
        One row. If more than the descriptor answered, a second one by the descriptor alone, whose
        name ends in ", bare".

    Raises:
        DatasetError: it is no report of retrieval or recognition.
    """
    task = report_task(report, file)
    try:
        facts = convert(report, _ReportFacts)
    except InvalidValue as error:
        raise DatasetError(f"{readable(file)}: no report: {error}") from None
    ranks = task != "recognize"
    labels = {
        row["path"]: row.get("label")
        for row in report["queries"]
        if task != "retrieve" or row.get("ap") is not None
    }
    answered_by = facts.answered_by or "not said"

    def system(figures: _Figures, row_name: str, by: str, *, compared: bool) -> ComparedSystem:
        row = table_row(
            name=row_name,
            kind="retrieval" if ranks else "recognition",
            queries=facts.query_count if facts.query_count is not None else len(labels),
            accuracy=None if ranks else figures.guess_right,
            answered_right=None if ranks else figures.accuracy,
            gap=figures.gap,
            top1=figures.top1,
            top3=figures.top3,
            top5=figures.top5,
            top10=figures.top10,
            map=figures.map,
            ranking_seconds=facts.seconds if compared else None,
            named_by=None if ranks else by,
            ranked_by=by if ranks else None,
            encoder=facts.settings.encoder,
            method=figures.method or facts.settings.method,
            model=facts.settings.model,
            judged="test",
        )
        return ComparedSystem(row, report if compared else None, labels)

    rows = [system(facts, name, answered_by, compared=True)]
    if facts.descriptor_alone is not None:
        bare = f"{name}, bare"
        rows.append(system(facts.descriptor_alone, bare, DESCRIPTOR_ALONE, compared=False))
    return rows


def compare_systems(
    systems: Sequence[ComparedSystem],
    *,
    sort: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SystemTable:
    """Put systems into one table, and compare those of one task query by query.

    Systems are compared with the first one of their task, if they share queries with it that have
    the same labels.

    Args:
        systems: one or more, with different names.
        sort: a key of `SORT_KEYS`; None keeps the given order. Rows without that figure come last.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The table.

    Raises:
        DatasetError: the queries of a report are not as `veduta.evaluation.comparison.compare`
            reads them.
        ValueError: there is no system, names are equal, or `sort` is not a key.
    """
    names = [system.name for system in systems]
    if not systems or len(set(names)) < len(names):
        raise ValueError(f"expected systems with different names, not {names}")
    ordered = list(systems)
    if sort is not None:
        ordered.sort(key=_sort_function(sort))
    notes = notes_by_name((system.name, note) for system in ordered for note in system.notes)
    notes += _different_photos(ordered)
    comparisons = []
    tasks = {s.name: report_task(s.report, s.name) for s in ordered if s.report is not None}
    for task in ("recognize", "retrieve", *sorted(set(tasks.values()) - _LABELLED_TASKS)):
        of_task = [system for system in ordered if tasks.get(system.name) == task]
        comparable, why_not = _with_shared_queries(of_task)
        notes += notes_by_name(why_not)
        if len(comparable) < 2:
            continue
        compared = _compare_queries(comparable, resamples, seed)
        comparisons.append(compared)
        notes += compared.comparison.notes
    return SystemTable(tuple(ordered), tuple(comparisons), tuple(dict.fromkeys(notes)))


def _compare_queries(
    systems: Sequence[ComparedSystem], resamples: int, seed: int
) -> QueryComparison:
    reports = [system.report for system in systems if system.report is not None]
    names = [system.name for system in systems]
    limits = [set(system.metrics) for system in systems if system.metrics is not None]
    only = set.intersection(*limits) if limits else None
    comparison = compare(reports, names, only=only, resamples=resamples, seed=seed)
    if only is not None:  # Beside a network, which always answers, the guesses are compared.
        reports = [_with_guesses_as_answers(report) for report in reports]
    return QueryComparison(comparison, changed_queries(reports, names))


def _with_guesses_as_answers(report: Mapping[str, Any]) -> dict[str, Any]:
    queries = [{**query, "named": query["guess"] is not None} for query in report["queries"]]
    return {**report, "queries": queries}


def _sort_function(sort: str) -> Callable[[ComparedSystem], tuple[bool, float | str]]:
    if sort not in SORT_KEYS:
        raise ValueError(f"{sort!r} is none of {', '.join(SORT_KEYS)}")
    column = sort.replace("top-", "top").replace("-", "_")

    def sort_value(system: ComparedSystem) -> tuple[bool, float | str]:
        value = system.row[column]
        if value is None and column == "seconds":
            value = system.row["ranking_seconds"]
        if value is None or isinstance(value, str):
            return value is None, value or ""
        return False, -value if SORT_KEYS[sort] else value

    return sort_value


def _judged_paths(system: ComparedSystem) -> frozenset[str]:
    return frozenset(path for path, label in system.labels.items() if label is not None)


def _different_photos(systems: Sequence[ComparedSystem]) -> list[str]:
    """Return a note if not all systems are judged on the same photos of the classes."""
    groups: dict[frozenset[str], list[str]] = {}
    for system in systems:
        if system.labels:
            groups.setdefault(_judged_paths(system), []).append(system.name)
    if len(groups) < 2:
        return []
    parts = "; ".join(
        f"{', '.join(names)} ({count(len(paths), 'photo')})" for paths, names in groups.items()
    )
    return [
        f"not on the same test photos: {parts}. The figures of different groups cannot be compared"
    ]


def _with_shared_queries(
    systems: Sequence[ComparedSystem],
) -> tuple[list[ComparedSystem], list[tuple[str, str]]]:
    """Return the systems that can be compared with the first, and the names of others with why."""
    notes: list[tuple[str, str]] = []
    chosen: list[ComparedSystem] = []
    shared: set[str] = set()
    for system in systems:
        reason = ""
        if not chosen:
            shared = set(system.labels)
        elif system.row["judged"] != chosen[0].row["judged"]:
            reason = "one is judged on test photos, the other on validation photos"
        elif not (both := shared & system.labels.keys()):
            reason = "they share no query"
        else:
            labels = chosen[0].labels
            changed = sorted(path for path in both if labels[path] != system.labels[path])
            if changed:
                number = count(len(changed), "query has", "queries have")
                reason = f"{number} other labels, such as {readable(changed[0])}"
            else:
                shared = both
        if reason:
            why = f"not compared with {chosen[0].name} query by query: {reason}"
            notes.append((system.name, why))
        else:
            chosen.append(system)
    return chosen, notes
