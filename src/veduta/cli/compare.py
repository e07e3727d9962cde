"""`veduta compare`: one table of runs of training and reports of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veduta.cli.options import PRINTED, FileOrPrinted, json_option
from veduta.cli.printing import print_json, say, shown

if TYPE_CHECKING:
    from veduta.evaluation.compared_systems import ComparedSystem, SystemTable

# These are copies from veduta.evaluation and veduta.learn, which are too slow to load for `--help`.
# Tests keep them equal.
REPORT = "report.json"
CARD_FILE, RECIPE_FILE = "card.json", "recipe.toml"
SORT_KEYS = (
    "accuracy",
    "gap",
    "balanced-accuracy",
    "top-1",
    "top-3",
    "top-5",
    "top-10",
    "map",
    "parameters",
    "epochs",
    "seconds",
    "recipe",
    "name",
)
_REMEDY = "name a folder that `veduta train` or `veduta evaluate DATASET --report DIR` wrote"


@click.command("compare")
@click.argument(
    "systems", nargs=-1, required=True, metavar="A B...", type=click.Path(path_type=Path)
)
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    metavar="COLUMN",
    help=f"Order of the rows, best or least first, otherwise as named: {', '.join(SORT_KEYS)}.",
)
@click.option(
    "--csv",
    "csv_file",
    type=FileOrPrinted(),
    metavar="FILE",
    help="Write the table there too, with all figures; - to print it alone.",
)
@click.option(
    "--markdown",
    type=FileOrPrinted(),
    metavar="FILE",
    help="Write the table there too, as Markdown; - to print it alone.",
)
@json_option
def command(
    systems: tuple[Path, ...],
    sort: str | None,
    csv_file: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Compare runs of `veduta train` and reports of `veduta evaluate DATASET --report DIR`.

    Name them by their folders, in any mixture, or by their card.json or report.json. One table has
    accuracy, GAP, retrieval (top-1, top-3, top-5, top-10, mAP), parameters and time. A dash is a
    figure that a system does not have. If keypoints or a graph took part in a report, the figures
    by the descriptor alone are in the next row.

    Systems that answered the same queries are compared query by query with the first one, by the
    paired bootstrap: each difference has a 95 % interval and a p-value.
    """
    from veduta.evaluation.compared_systems import compare_systems
    from veduta.files import write_text

    if [as_json, csv_file == PRINTED, markdown == PRINTED].count(True) > 1:
        raise click.UsageError("Only one of --json, --csv - and --markdown - can be printed.")
    rows, notes = _read(systems)
    table = compare_systems(rows, sort=sort)
    written = []
    for file, make in ((csv_file, _csv), (markdown, _markdown)):
        if file is not None and file != PRINTED:
            write_text(file, make(table))
            written.append(file)
    notes = [*notes, *table.notes]
    if as_json:
        print_json({**table.as_json(), "notes": notes})
    elif PRINTED in (csv_file, markdown):
        say(*(_csv if csv_file == PRINTED else _markdown)(table).splitlines())
    else:
        from veduta.cli.compare_text import text_lines

        for line in text_lines(table):
            say(line)
    for note in notes:
        say(f"note: {note}", err=True)
    for file in written:
        say(f"wrote {shown(file)}", err=True)


def _csv(table: SystemTable) -> str:
    from veduta.cli.compare_text import csv_text

    return csv_text(table)


def _markdown(table: SystemTable) -> str:
    from veduta.cli.compare_text import markdown_lines

    return "".join(f"{line}\n" for line in markdown_lines(table))


def _read(paths: Sequence[Path]) -> tuple[list[ComparedSystem], list[str]]:
    """Return the rows of runs and reports, and notes."""
    files = [_file(path) for path in paths]
    if len({file.resolve() for file in files}) < len(files):
        raise click.UsageError("One run or report is named twice.")
    named = _read_as(files, _short_names(files))
    if len({row.name for row in named[0]}) < len(named[0]):
        named = _read_as(files, [shown(file) for file in files])
    return named


def _read_as(files: Sequence[Path], names: Sequence[str]) -> tuple[list[ComparedSystem], list[str]]:
    from veduta.evaluation.compared_systems import systems_of_report
    from veduta.evaluation.comparison import read_report
    from veduta.learn.runs.comparison import notes_on_runs, read_run, system_of_run

    rows: list[ComparedSystem] = []
    runs, names_of_runs = [], []
    for file, name in zip(files, names, strict=True):
        if file.name == CARD_FILE:
            run = read_run(file)
            runs.append(run)
            names_of_runs.append(name)
            rows.append(system_of_run(run, name))
        else:
            rows += systems_of_report(read_report(file), name, shown(file))
    return rows, notes_on_runs(runs, names_of_runs)


def _file(path: Path) -> Path:
    """Return the card of a run, or the JSON file of a report."""
    from veduta.errors import DatasetError, readable
    from veduta.learn.runs.card import read_card

    if not path.exists():
        raise DatasetError(f"{readable(path)}: no such run or report; {_REMEDY}")
    if not path.is_dir():
        return path
    if (path / REPORT).exists():
        return path / REPORT
    if (path / CARD_FILE).exists():
        return path / CARD_FILE
    if (path / RECIPE_FILE).exists():
        read_card(path)  # says that the run is not finished
    hint = f"it holds some: name {readable(path / '*')}" if _holds_systems(path) else _REMEDY
    raise DatasetError(f"{readable(path)}: neither a run nor a report; {hint}")


def _holds_systems(path: Path) -> bool:
    try:
        return any((child / f).exists() for child in path.iterdir() for f in (CARD_FILE, REPORT))
    except OSError:
        return False


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
