"""`veduta compare`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import click

from veduta.cli.options import json_option
from veduta.cli.printing import print_json, shown

if TYPE_CHECKING:
    from veduta.evaluation.comparison import ComparedFigure, Comparison
    from veduta.evaluation.report_changes import Change, Changes

# As in veduta.evaluation.report_folder, which is not loaded for `--help`; a test keeps them equal.
REPORT = "report.json"
_SURE = 0.05
_WIDE = 36  # characters of a query's path


@click.command("compare")
@click.argument(
    "reports", nargs=-1, required=True, metavar="A.json B.json...",
    type=click.Path(path_type=Path),
)  # fmt: skip
@json_option
def command(reports: tuple[Path, ...], as_json: bool) -> None:
    """Compare reports of `veduta evaluate DATASET --report DIR`, query by query.

    Name the report.json files or their folders. All are compared to the first: the difference of
    each figure with its 95 % interval and p-value, by the paired bootstrap over the queries that
    all of them have.
    """
    from veduta.evaluation.comparison import compare, read_report
    from veduta.evaluation.report_changes import changed_queries

    if not 2 <= len(reports) <= len(ascii_uppercase):
        raise click.UsageError(f"Name 2 to {len(ascii_uppercase)} reports.")
    files = [report / REPORT if report.is_dir() else report for report in reports]
    if len({file.resolve() for file in files}) < len(files):
        raise click.UsageError("One report is named twice.")
    names = [shown(file) for file in files]
    read = [read_report(file) for file in files]
    done = compare(read, names)
    changes = changed_queries(read, names)
    if as_json:
        print_json({**done.as_json(), "changed": [each.as_json() for each in changes]})
    else:
        _print(done, changes, _short_names(files))


def _short_names(files: Sequence[Path]) -> list[str]:
    """Return a short name for each file: its folder or its own, the whole path if two are alike."""
    names = [
        shown(file.resolve().parent.name) if file.name == REPORT else shown(file.stem)
        for file in files
    ]
    if len(set(names)) < len(names) or not all(names):
        return [shown(file) for file in files]
    return names


def _print(done: Comparison, changes: Sequence[Changes], names: Sequence[str]) -> None:
    task = "retrieval" if done.task == "retrieve" else "recognition"
    click.echo(f"{task}, {_queries(done.queries)} compared")
    for letter, name in zip(ascii_uppercase, names, strict=False):
        click.echo(f"  {letter}  {name}")
    letters = dict(zip(done.systems, ascii_uppercase, strict=False))
    width = max(len(figure.metric) for figure in done.figures)
    click.echo(f"\n  {'':{width}}   value 95 % interval   minus A 95 % interval        p")
    for figure in done.figures:
        click.echo(_line(figure, letters[figure.system], width))
    corrected = ", corrected for the number of reports (Holm)" if len(names) > 2 else ""
    click.echo(f"\n  * p < {_SURE}{corrected}")
    click.echo(f"  paired bootstrap, {done.resamples:,} draws of the queries, seed {done.seed}")
    for each in changes:
        _print_changes(each, letters[each.system], done.task)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)


def _line(figure: ComparedFigure, letter: str, width: int) -> str:
    """Return one system's figure in at most 80 columns."""
    metric = figure.metric if figure.difference is None else ""
    line = f"  {metric:{width}} {letter} {_number(figure.value)} {_between(figure.interval)}"
    if figure.difference is None or figure.difference_interval is None:
        return line
    p = figure.p_holm if figure.p_holm is not None else math.nan
    line += f"  {_number(figure.difference, '+')} {_between(figure.difference_interval, '+')}"
    return f"{line} {_number(p)}{' *' if p < _SURE else ''}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if math.isfinite(value) else f"{'–':>{5 + len(sign)}}"


def _between(ends: tuple[float, float], sign: str = "") -> str:
    return f"[{_number(ends[0], sign)}, {_number(ends[1], sign)}]"


def _print_changes(changes: Changes, letter: str, task: str) -> None:
    better = _queries(changes.better)
    click.echo(f"\n{letter} against A: {better} better, {changes.worse:,} worse")
    for sign, some in (("+", changes.gained), ("-", changes.lost)):
        for change in some:
            click.echo(f"  {sign} {_end(change.path, _WIDE):{_WIDE}} {_from_to(change, task)}")


def _from_to(change: Change, task: str) -> str:
    if task == "retrieve":
        return f"{change.before:.3f} → {change.after:.3f}"
    return " → ".join(
        "unknown" if answer is None else _end(str(answer), 16)
        for answer in (change.before, change.after)
    )


def _queries(number: int) -> str:
    return f"{number:,} {'query' if number == 1 else 'queries'}"


def _end(name: str, width: int) -> str:
    """Return a name without its beginning where it is too long."""
    from veduta.pages import printable

    text = printable(name)
    return text if len(text) <= width else "…" + text[1 - width :]
