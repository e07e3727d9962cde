"""`veduta compare`: compare reports of evaluations, or runs of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import click

from veduta.cli.options import OutputFile, json_option
from veduta.cli.printing import print_json, say, shown
from veduta.text import count, duration, printable

if TYPE_CHECKING:
    from veduta.evaluation.comparison import ComparedFigure, Comparison
    from veduta.evaluation.report_changes import Change, Changes
    from veduta.learn.runs.card import Card
    from veduta.learn.runs.comparison import RunComparison

# These are copies from veduta.evaluation.report_folder and veduta.learn, which are too slow to load
# for `--help`. Tests keep them equal.
REPORT = "report.json"
CARD_FILE, RECIPE_FILE = "card.json", "recipe.toml"
SORT_KEYS = (
    "accuracy",
    "balanced-accuracy",
    "top-1",
    "top-3",
    "top-10",
    "map",
    "parameters",
    "epochs",
    "seconds",
    "recipe",
)
_SIGNIFICANCE_LEVEL = 0.05
_PATH_WIDTH = 36
_ANSWER_WIDTH = 16


@click.command("compare")
@click.argument(
    "reports", nargs=-1, required=True, metavar="A B...", type=click.Path(path_type=Path)
)
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    help="Order of runs, best or least first. Otherwise as named.",
)
@click.option(
    "--csv",
    "csv_file",
    type=OutputFile(),
    metavar="FILE",
    help="Write the table of runs there too, with all figures.",
)
@click.option("--markdown", is_flag=True, help="Print the table of runs as Markdown.")
@json_option
def command(
    reports: tuple[Path, ...],
    sort: str | None,
    csv_file: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Compare runs of `veduta train`, or reports of `veduta evaluate DATASET --report DIR`.

    Runs, by their folders or card.json: one table of accuracy, retrieval (top-1, top-3, top-10,
    mAP), parameters, epochs and time, and the difference of each run's accuracy to the first one's.

    Reports, by their folders or report.json: query by query, all to the first: the difference of
    each figure.

    Differences have a 95 % interval and a p-value, by the paired bootstrap over the queries or
    photos that both have.
    """
    runs = [_is_run(report) for report in reports]
    if all(runs):
        _compare_runs(reports, sort, csv_file, markdown=markdown, as_json=as_json)
        return
    if any(runs):
        raise click.UsageError("Name either runs or reports, not both.")
    if sort or csv_file or markdown:
        raise click.UsageError("--sort, --csv and --markdown are for runs.")
    _compare_reports(reports, as_json=as_json)


def _is_run(path: Path) -> bool:
    if path.is_dir():
        return not (path / REPORT).exists() and any(
            (path / f).exists() for f in (CARD_FILE, RECIPE_FILE)
        )
    return path.name == CARD_FILE


def _compare_reports(paths: Sequence[Path], *, as_json: bool) -> None:
    from veduta.evaluation.comparison import compare, read_report
    from veduta.evaluation.report_changes import changed_queries

    if not 2 <= len(paths) <= len(ascii_uppercase):
        raise click.UsageError(f"Name 2 to {len(ascii_uppercase)} reports.")
    files = [path / REPORT if path.is_dir() else path for path in paths]
    if len({file.resolve() for file in files}) < len(files):
        raise click.UsageError("One report is named twice.")
    names = [shown(file) for file in files]
    reports = [read_report(file) for file in files]
    comparison = compare(reports, names)
    changes = changed_queries(reports, names)
    if as_json:
        changed = [change.as_json() for change in changes]
        print_json({**comparison.as_json(), "changed": changed})
    else:
        _print_reports(comparison, changes, _short_names(files))


def _compare_runs(
    paths: Sequence[Path],
    sort: str | None,
    csv_file: Path | None,
    *,
    markdown: bool,
    as_json: bool,
) -> None:
    from veduta.learn.runs.comparison import compare_runs, read_run

    cards = [path / CARD_FILE if path.is_dir() else path for path in paths]
    if len({card.resolve() for card in cards}) < len(cards):
        raise click.UsageError("One run is named twice.")
    runs = [read_run(path) for path in paths]
    comparison = compare_runs(runs, _short_names(cards), sort=sort)
    if csv_file is not None:
        _write_runs_csv(comparison, csv_file)
    if as_json:
        print_json(comparison.as_json())
    elif markdown:
        _print_runs_markdown(comparison)
    else:
        _print_runs(comparison)
    for note in comparison.notes:
        say(f"note: {note}", err=True)


def _write_runs_csv(comparison: RunComparison, file: Path) -> None:
    from veduta.learn.runs.comparison import table_row
    from veduta.learn.runs.prediction_files import write_csv

    rows = [table_row(run.card) for run in comparison.runs]
    cells = ([name, *row.values()] for name, row in zip(comparison.names, rows, strict=True))
    write_csv(file, ["run", *rows[0]], cells)


# Title, short title, and key of `veduta.learn.runs.comparison.table_row`.
_RUN_FIGURES = (
    ("accuracy", "acc", "accuracy"),
    ("top-1", "top-1", "top1"),
    ("top-3", "top-3", "top3"),
    ("top-10", "top-10", "top10"),
    ("mAP", "mAP", "map"),
)


def _run_cells(card: Card) -> list[str]:
    from veduta.learn.runs.comparison import table_row

    values = table_row(card)
    figures = [values[key] for *_, key in _RUN_FIGURES]
    return [
        *("–" if not isinstance(figure, float) else f"{figure:.3f}" for figure in figures),
        f"{card.parameters.total:,}",
        f"{card.epochs:,}",
        duration(card.seconds),
    ]


def _print_runs(comparison: RunComparison) -> None:
    header = ["", *(short for _, short, _ in _RUN_FIGURES), "parameters", "epochs", "time"]
    rows = [
        [name, *_run_cells(run.card)]
        for name, run in zip(comparison.names, comparison.runs, strict=True)
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    # Names get the rest of 80 columns.
    widths[0] = max(8, min(widths[0], 80 - sum(widths[1:]) - len(widths) + 1))
    for row in [header, *rows]:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        say(" ".join([f"{_cut_start(row[0], widths[0]):{widths[0]}}", *cells]))
    if comparison.differences:
        say("", f"accuracy minus that of {_cut_start(comparison.names[0], 50)}")
        for each in comparison.differences:
            line = f"{_cut_start(each.run, widths[0]):{widths[0]}} {_number(each.difference, '+')}"
            line += f" {_interval(each.interval, '+')}  p {_number(each.p_holm)}"
            say(f"{line}{' *' if each.p_holm < _SIGNIFICANCE_LEVEL else ''}")
        several = len(comparison.runs) > 2
        corrected = ", corrected for the number of runs (Holm)" if several else ""
        resamples = f"{comparison.resamples:,} draws"
        say("", f"* p < {_SIGNIFICANCE_LEVEL}{corrected}; paired bootstrap, {resamples}")
    say("", "acc: accuracy; top-1 to mAP: search for the test photos in the training photos")


def _print_runs_markdown(comparison: RunComparison) -> None:
    titles = [title for title, *_ in _RUN_FIGURES]
    header = ["run", "recipe", *titles, "parameters", "epochs", "time"]
    say(f"| {' | '.join(header)} |")
    say(f"| --- | --- |{' ---: |' * (len(header) - 2)}")
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        named = [_in_markdown(text) for text in (name, run.card.recipe)]
        say(f"| {' | '.join([*named, *_run_cells(run.card)])} |")


def _in_markdown(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _short_names(files: Sequence[Path]) -> list[str]:
    """Return a short name for each file, or the whole paths if two short names are equal.

    The short name is that of the folder, or of a file with a name of its own.
    """
    names = [
        shown(file.resolve().parent.name) if file.name in {REPORT, CARD_FILE} else shown(file.stem)
        for file in files
    ]
    if len(set(names)) < len(names) or not all(names):
        return [shown(file) for file in files]
    return names


def _print_reports(
    comparison: Comparison, changes: Sequence[Changes], names: Sequence[str]
) -> None:
    task = "retrieval" if comparison.task == "retrieve" else "recognition"
    say(f"{task}, {count(comparison.queries, 'query', 'queries')} compared")
    for letter, name in zip(ascii_uppercase, names, strict=False):
        say(f"  {letter}  {name}")
    letters = dict(zip(comparison.systems, ascii_uppercase, strict=False))
    width = max(len(figure.metric) for figure in comparison.figures)
    say("", f"  {'':{width}}   value 95 % interval   minus A 95 % interval        p")
    for figure in comparison.figures:
        say(_line(figure, letters[figure.system], width))
    corrected = ", corrected for the number of reports (Holm)" if len(names) > 2 else ""
    say("", f"  * p < {_SIGNIFICANCE_LEVEL}{corrected}")
    say(
        f"  paired bootstrap, {comparison.resamples:,} draws of the queries, seed {comparison.seed}"
    )
    for system_changes in changes:
        _print_changes(system_changes, letters[system_changes.system], comparison.task)
    for note in comparison.notes:
        say(f"note: {note}", err=True)


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
    return f"{value:{sign}.3f}" if math.isfinite(value) else f"{'–':>{5 + len(sign)}}"


def _interval(ends: tuple[float, float], sign: str = "") -> str:
    return f"[{_number(ends[0], sign)}, {_number(ends[1], sign)}]"


def _print_changes(changes: Changes, letter: str, task: str) -> None:
    better = count(changes.better, "query", "queries")
    say("", f"{letter} against A: {better} better, {changes.worse:,} worse")
    for sign, listed in (("+", changes.gained), ("-", changes.lost)):
        for change in listed:
            path = _cut_start(change.path, _PATH_WIDTH)
            say(f"  {sign} {path:{_PATH_WIDTH}} {_before_and_after(change, task)}")


def _before_and_after(change: Change, task: str) -> str:
    if task == "retrieve":
        return f"{change.before:.3f} → {change.after:.3f}"
    return " → ".join(
        "unknown" if answer is None else _cut_start(str(answer), _ANSWER_WIDTH)
        for answer in (change.before, change.after)
    )


def _cut_start(name: str, width: int) -> str:
    """Return a name; if it is too long, without its beginning."""
    text = printable(name)
    return text if len(text) <= width else "…" + text[1 - width :]
