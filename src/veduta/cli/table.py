"""`veduta table`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from veduta.cli.options import PRINTED, FileOrPrinted, OutputFolder, json_option
from veduta.cli.printing import command_line, print_json, say, shown
from veduta.cli.progress import stages
from veduta.text import count, duration, printable

if TYPE_CHECKING:
    from veduta.learn.tables.running import PlannedRow, RowResult, TableRun
    from veduta.learn.tables.table_file import Row, Table
    from veduta.learn.training.loop import Epoch

WIDTH = 80
# A figure takes 14 columns, so four stand beside the names.
FIGURES_IN_A_LINE = 4
FIGURE_WIDTH = 14


@click.command("table")
@click.argument("table", required=False)
@click.option(
    "--data",
    multiple=True,
    metavar="[NAME=]PATH",
    help="Photos to train on: of the first data set of the table, or of the one called NAME "
    "(repeatable).",
)
@click.option("--queries", type=click.Path(path_type=Path), help="Folder of query photos.")
@click.option("--gallery", type=click.Path(path_type=Path), help="Folder of gallery photos.")
@click.option(
    "--out",
    type=OutputFolder(),
    metavar="DIR",
    help="Folder of the table and its runs.  [default: tables/TABLE]",
)
@click.option(
    "--only", multiple=True, metavar="ROW", help="Run this row only (repeatable); keep the others."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the recipes of all rows, such as training.epochs=3 (repeatable).",
)
@click.option(
    "--allow-leak", is_flag=True, help="Go on even if queries are among the training photos."
)
@click.option("--print", "as_file", is_flag=True, help="Print the file of TABLE, to copy.")
@click.option("--plan", "only_plan", is_flag=True, help="Only show what there is to do.")
@click.option(
    "--csv",
    "csv_file",
    type=FileOrPrinted(),
    metavar="FILE",
    help="Write table.csv there too; - to print it alone.",
)
@click.option(
    "--markdown",
    type=FileOrPrinted(),
    metavar="FILE",
    help="Write table.md there too; - to print it alone.",
)
@json_option
def command(
    table: str | None,
    data: tuple[str, ...],
    queries: Path | None,
    gallery: Path | None,
    out: Path | None,
    only: tuple[str, ...],
    changes: tuple[str, ...],
    allow_leak: bool,
    as_file: bool,
    only_plan: bool,
    csv_file: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Train and measure all rows of TABLE on the same photos.

    \b
    veduta table                               the tables of the package
    veduta table report-004 --print > my.toml  a copy to change
    veduta table report-004 --data PHOTOS --queries Q --gallery G --out DIR

    Each row trains a recipe, or names an encoder or a method. The photos in --queries are then
    searched for in --gallery, by the descriptor alone. Without the two, the test photos of the
    first data set are searched for among its training photos. Rows that are finished are kept: the
    same command continues after an interruption. DIR gets table.html, table.md, table.csv,
    table.json, and each row's run.
    """
    from veduta.errors import LearnError
    from veduta.learn.tables.table_file import open_table, table_file

    if [as_json, csv_file == PRINTED, markdown == PRINTED].count(True) > 1:
        raise click.UsageError("Only one of --json, --csv - and --markdown - can be printed.")
    if table is None:
        _list_tables(as_json=as_json)
        return
    if as_file:
        text = table_file(table).read_bytes().decode("utf-8", "surrogateescape")
        say(*text.replace("\r\n", "\n").removesuffix("\n").expandtabs(4).split("\n"))
        return
    opened = open_table(table).with_paths(data, queries, gallery)
    if any(row.recipe for row in opened.rows()):
        from veduta.learn import require_packages

        require_packages()
    from veduta.learn.tables.running import open_table_run

    folder = out or Path("tables") / opened.name
    run = open_table_run(opened, folder, only=only, changes=changes, allow_leak=allow_leak)
    plan = run.plan()
    if not only_plan and not any(one.possible for one in plan):
        raise LearnError(f"no row can be filled: {plan[0].row.name}: {plan[0].todo}")
    if only_plan:
        if as_json:
            print_json([_planned_json(one) for one in plan])
        else:
            say(*_plan_lines(plan))
        return
    if not as_json:
        say(*_plan_lines(plan), err=True)
    _fill(run, plan, quiet=as_json)
    _print_result(run, csv_file, markdown, as_json=as_json)
    _check_outcome(run)


def _list_tables(*, as_json: bool) -> None:
    from veduta.learn.tables.table_file import open_table, table_names

    tables = [open_table(name) for name in table_names()]
    if as_json:
        print_json([_facts(table) for table in tables])
        return
    for table in tables:
        indent = " " * 4
        say(bold=table.name)
        text = f"{table.about} {count(len(table.rows()), 'row')}: {', '.join(table.figures)}."
        say(*wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent))
        if names := [name for name, one in table.data.items() if not one.of]:
            say(f"{indent}data sets: {', '.join(names)}")
    say(
        "",
        "`veduta table NAME --print` prints one, to copy and change.",
        "`veduta table NAME --data PHOTOS --queries Q --gallery G --out DIR` fills it.",
    )


def _facts(table: Table) -> dict[str, object]:
    return {
        "table": table.name,
        "about": table.about,
        "source": table.source,
        "figures": list(table.figures),
        "data": list(table.data),
        "rows": [row.name for row in table.rows()],
    }


def _planned_json(planned: PlannedRow) -> dict[str, object]:
    return {"row": planned.row.name, "possible": planned.possible, "todo": planned.todo}


def _plan_lines(plan: Sequence[PlannedRow]) -> Iterator[str]:
    yield f"{count(len(plan), 'row')} to fill:"
    width = min(36, max((len(printable(one.row.name)) for one in plan), default=0))
    for one in plan:
        todo = one.todo
        if one.recipe is not None and todo in {"to train", "to continue", "weights to fetch"}:
            todo += f", {count(one.recipe.training.epochs, 'epoch')} of {one.recipe.name}"
        name = printable(one.row.name)
        indent = " " * (width + 4)
        wrapped = wrap(
            printable(todo),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        if len(name) > width:
            yield f"  {name}"
            yield from wrapped
        else:
            yield f"  {name:{width}}  {wrapped[0].strip()}"
            yield from wrapped[1:]
    yield ""


def _fill(run: TableRun, plan: Sequence[PlannedRow], *, quiet: bool) -> None:
    from veduta.learn.tables.running import fill_table
    from veduta.learn.tables.table_files import write_table_files

    command = command_line()
    # The rows that take time, of which an estimate can be made.
    to_do = {one.row.name for one in plan if one.possible and one.todo != "kept"}
    worked = 0

    def begin(row: Row, number: int, total: int) -> None:
        if not quiet:
            say(f"row {number} of {total}: {row.name}", err=True)

    def end(result: RowResult, seconds: float) -> None:
        nonlocal worked
        # A long run can be looked at, and an interrupted one leaves what it has.
        write_table_files(run, command)
        if quiet:
            return
        record = result.record
        line = f"  {record.state}, {duration(seconds)} so far"
        if result.row.name in to_do:
            to_do.remove(result.row.name)
            worked += 1
            if to_do:
                left = duration(seconds / worked * len(to_do))
                line += f", {left} left if the other rows take as long"
        say(line, err=True)
        if record.error:
            say(*_indented(record.error, "  "), err=True)

    try:
        with run.locked():
            # Also a run of no row brings the files up to date.
            write_table_files(run, command)
            with stages(quiet=quiet) as advance:
                fill_table(
                    run,
                    on_row=begin,
                    on_result=end,
                    on_epoch=None if quiet else _print_epoch,
                    on_progress=advance,
                    command=command,
                )
    except KeyboardInterrupt:
        say(f"{shown(run.folder)} is kept; the same command continues it.", err=True)
        raise


def _print_epoch(epoch: Epoch) -> None:
    value = epoch.train_loss if epoch.val_accuracy is None else epoch.val_accuracy
    name = "loss" if epoch.val_accuracy is None else "val accuracy"
    say(f"  epoch {epoch.number}, {name} {value:.4f}, {duration(epoch.seconds)}", err=True)


def _print_result(
    run: TableRun, csv_file: Path | None, markdown: Path | None, *, as_json: bool
) -> None:
    from veduta.files import write_text
    from veduta.learn.tables.table_files import (
        PAGE_FILE,
        page_notes,
        table_csv,
        table_json,
        table_markdown,
        weights_advice,
    )

    for file, text in ((csv_file, table_csv), (markdown, table_markdown)):
        if file == PRINTED:
            say(*text(run).splitlines())
        elif file is not None:
            write_text(file, text(run))
    if as_json:
        print_json(table_json(run))
    if as_json or PRINTED in (csv_file, markdown):
        return
    say(*_table_lines(run))
    for note in page_notes(run):
        say("", *_indented(f"note: {note}", ""))
    for result in run.incomplete:
        if result.record.state != "weights missing" and result.record.error:
            say("", *_indented(f"{result.row.name}: {result.record.error}", ""))
    if advice := weights_advice(run):
        say("")
        for line in advice:
            say(*_indented(line, ""))
    say("", f"page   {shown(run.folder / PAGE_FILE)}")


def _table_lines(run: TableRun) -> Iterator[str]:
    """Return the table in blocks of four figures: each row, and below it what the report says."""
    from veduta.learn.tables.figures import FIGURES

    keys = run.table.figures
    for start in range(0, len(keys), FIGURES_IN_A_LINE):
        block = keys[start : start + FIGURES_IN_A_LINE]
        width = WIDTH - FIGURE_WIDTH * len(block)
        if start:
            yield ""
        titles = "".join(f" {FIGURES[key].title:{FIGURE_WIDTH - 1}}" for key in block)
        yield ("row".ljust(width) + titles).rstrip()
        for result in run.results:
            yield from _row_lines(result, block, width)


def _row_lines(result: RowResult, keys: Sequence[str], width: int) -> Iterator[str]:
    from veduta.learn.tables.table_files import cell

    cells = [cell(result, key) for key in keys]
    name = printable(result.row.name)
    if result.record.state == "done":
        ours = "".join(f" {_number(one.value):{FIGURE_WIDTH - 1}}" for one in cells)
    else:
        ours = f" {result.record.state}"
    if len(name) >= width:
        yield name
        name = ""
    yield (name.ljust(width) + ours).rstrip()
    if any(one.reported is not None for one in cells):
        reported = "".join(
            f" {_number(one.reported):5} {_number(one.difference, '+'):6} "
            if one.difference is not None
            else f" {_number(one.reported):{FIGURE_WIDTH - 1}}"
            for one in cells
        )
        yield ("  report".ljust(width) + reported).rstrip()


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _indented(text: str, indent: str) -> list[str]:
    return wrap(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _check_outcome(run: TableRun) -> None:
    from veduta.errors import LearnError, readable

    if run.incomplete:
        names = ", ".join(one.row.name for one in run.incomplete[:5])
        more = f", and {len(run.incomplete) - 5} more" if len(run.incomplete) > 5 else ""
        raise LearnError(
            f"{readable(run.folder)}: {count(len(run.incomplete), 'row')} without figures: "
            f"{names}{more}; the same command tries again"
        )
