"""How `veduta compare` prints its table: as text in 80 columns, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from veduta.text import count, duration, printable

if TYPE_CHECKING:
    from veduta.evaluation.compared_systems import (
        ComparedSystem,
        QueryComparison,
        SystemTable,
        Value,
    )
    from veduta.evaluation.comparison import ComparedFigure
    from veduta.evaluation.report_changes import Change, Changes

__all__ = ["csv_text", "markdown_lines", "text_lines"]

_WIDTH = 80
_MIN_NAME_WIDTH = 8
_SIGNIFICANCE_LEVEL = 0.05
_PATH_WIDTH = 36
_ANSWER_WIDTH = 16
_MAX_SYSTEMS_WITH_CHANGES = 3
_MISSING = "–"
_TASKS = {"retrieve": "retrieval", "recognize": "recognition"}
_BY = (("named", "named_by"), ("ranked", "ranked_by"))

# Title, short title, and key of `veduta.evaluation.compared_systems.COLUMNS`.
_COLUMNS = (
    ("accuracy", "acc", "accuracy"),
    ("GAP", "GAP", "gap"),
    ("top-1", "top-1", "top1"),
    ("top-3", "top-3", "top3"),
    ("top-5", "top-5", "top5"),
    ("top-10", "top-10", "top10"),
    ("mAP", "mAP", "map"),
    ("parameters", "parameters", "parameters"),
    ("time", "time", "seconds"),
    ("queries", "queries", "queries"),
)


def text_lines(table: SystemTable) -> Iterator[str]:
    """Yield the lines of the table and of the comparisons, at most 80 columns wide."""
    columns = [column for column in _COLUMNS if _is_filled(table.systems, column[2])]
    letters = {system.name: _letter(at) for at, system in enumerate(table.systems)}
    header = ["", *(short for _, short, _ in columns)]
    rows = [
        [system.name, *(_cell(system.row, key) for *_, key in columns)] for system in table.systems
    ]
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    letter_width = max(map(len, letters.values()))
    # Names get the rest of 80 columns. They are in full below.
    left = _WIDTH - sum(widths[1:]) - len(widths) - letter_width
    widths[0] = min(widths[0], left) if left >= _MIN_NAME_WIDTH else 0
    for row in [header, *rows]:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        name = _cut_start(row[0], widths[0]) if widths[0] else ""
        letter = letters.get(row[0], "") if row is not header else ""
        yield " ".join([f"{letter:{letter_width}} {name:{widths[0]}}", *cells]).rstrip()
    yield ""
    for system in table.systems:
        start = f"{letters[system.name]:{letter_width}} {printable(system.name)}"
        how = _how(system)
        if how and len(start) + len(how) + 2 <= _WIDTH:
            yield f"{start}: {how}"
        else:
            yield start
            if how:
                yield f"{'':{letter_width}}   {how}"
    yield from _legend([key for *_, key in columns])
    for each in table.comparisons:
        yield ""
        yield from _comparison_lines(each, letters)


def markdown_lines(table: SystemTable) -> Iterator[str]:
    """Yield the table as Markdown."""
    columns = [column for column in _COLUMNS if _is_filled(table.systems, column[2])]
    header = ["system", *(title for title, *_ in columns), "named by", "ranked by"]
    yield f"| {' | '.join(header)} |"
    yield f"| --- |{' ---: |' * len(columns)} --- | --- |"
    for system in table.systems:
        by = [str(system.row[key] or _MISSING) for key in ("named_by", "ranked_by")]
        cells = [system.name, *(_cell(system.row, key) for *_, key in columns), *by]
        yield f"| {' | '.join(map(_in_markdown, cells))} |"


def csv_text(table: SystemTable) -> str:
    """Return all columns of the table as CSV; a figure that a system does not have is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.systems[0].row)
    for system in table.systems:
        writer.writerow(_csv_cell(value) for value in system.row.values())
    return text.getvalue()


def _csv_cell(value: Value) -> Value:
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) else value


def _is_filled(systems: Sequence[ComparedSystem], key: str) -> bool:
    return any(_value(system.row, key) is not None for system in systems)


def _value(row: Mapping[str, Value], key: str) -> Value:
    if key == "seconds" and row["seconds"] is None:
        return row["ranking_seconds"]
    return row[key]


def _cell(row: Mapping[str, Value], key: str) -> str:
    value = _value(row, key)
    if value is None:
        return _MISSING
    if key == "seconds":
        return duration(float(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _how(system: ComparedSystem) -> str:
    """Return what named the queries, and what ranked the gallery."""
    row = system.row
    parts = [f"{word} by {row[key]}" for word, key in _BY if row[key]]
    if row["model"]:
        parts.append(f"model {row['model']}")
    elif row["method"]:
        parts.append(f"method {row['method']}")
    return ", ".join(parts)


def _legend(keys: Sequence[str]) -> Iterator[str]:
    yield ""
    if "accuracy" in keys:
        yield "acc: the likeliest class is right, named or not, of photos of the classes"
    if "top1" in keys:
        yield "top-1 to mAP: a search for the test photos in the gallery or training photos"
    if "seconds" in keys:
        yield "time: of the training of a run, or of ranking the queries of a report"


def _letter(at: int) -> str:
    """Return "A" to "Z" for 0 to 25, then "AA", "AB" and so on."""
    letters = ""
    at += 1
    while at:
        at, rest = divmod(at - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _in_markdown(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _comparison_lines(compared: QueryComparison, letters: Mapping[str, str]) -> Iterator[str]:
    comparison = compared.comparison
    task = _TASKS.get(comparison.task, printable(comparison.task))
    first, *others = (letters[name] for name in comparison.systems)
    which = ", ".join([first, *others]) if len(others) < 10 else f"{first} and {len(others)} more"
    yield f"{task}: {which} on {count(comparison.queries, 'query', 'queries')} that all have"
    width = max(len(figure.metric) for figure in comparison.figures)
    letter_width = max(len(letters[name]) for name in comparison.systems)
    yield (
        f"  {'':{width}} {'':{letter_width}} value 95 % interval   minus {first:{letter_width}} "
        "95 % interval        p"
    )
    for figure in comparison.figures:
        yield _line(figure, f"{letters[figure.system]:{letter_width}}", width)
    corrected = ", corrected for the number of systems (Holm)" if len(others) > 1 else ""
    yield f"  * p < {_SIGNIFICANCE_LEVEL}{corrected}"
    yield (
        f"  paired bootstrap, {comparison.resamples:,} draws of the queries, seed {comparison.seed}"
    )
    if len(others) >= _MAX_SYSTEMS_WITH_CHANGES:
        yield "  --json lists the queries that the systems answer differently"
        return
    for changes in compared.changes:
        yield from _change_lines(changes, letters[changes.system], first, comparison.task)


def _line(figure: ComparedFigure, letter: str, width: int) -> str:
    """Return one system's figure in at most 80 columns."""
    metric = figure.metric if figure.difference is None else ""
    line = f"  {metric:{width}} {letter} {_number(figure.value)} {_interval(figure.interval)}"
    if figure.difference is None or figure.difference_interval is None:
        return line
    p = figure.p_holm if figure.p_holm is not None else math.nan
    line += f"  {_number(figure.difference, '+')} {_interval(figure.difference_interval, '+')}"
    return f"{line} {_number(p)}{' *' if p < _SIGNIFICANCE_LEVEL else ''}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if math.isfinite(value) else f"{_MISSING:>{5 + len(sign)}}"


def _interval(ends: tuple[float, float], sign: str = "") -> str:
    return f"[{_number(ends[0], sign)}, {_number(ends[1], sign)}]"


def _change_lines(changes: Changes, letter: str, first: str, task: str) -> Iterator[str]:
    better = count(changes.better, "query", "queries")
    yield ""
    yield f"{letter} against {first}: {better} better, {changes.worse:,} worse"
    for sign, listed in (("+", changes.gained), ("-", changes.lost)):
        for change in listed:
            path = _cut_start(change.path, _PATH_WIDTH)
            yield f"  {sign} {path:{_PATH_WIDTH}} {_before_and_after(change, task)}"


def _before_and_after(change: Change, task: str) -> str:
    if task != "recognize":
        return f"{change.before:.3f} → {change.after:.3f}"
    return " → ".join(
        "unknown" if answer is None else _cut_start(str(answer), _ANSWER_WIDTH)
        for answer in (change.before, change.after)
    )


def _cut_start(name: str, width: int) -> str:
    """Return a name; if it is too long, without its beginning."""
    text = printable(name)
    return text if len(text) <= width else "…" + text[1 - width :]
