"""The files of a table: JSON, CSV, Markdown, and the content of its page."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from veduta.encoders import DEFAULT, name_without_folders
from veduta.errors import readable
from veduta.files import write_text
from veduta.learn.tables.figures import FIGURES
from veduta.pages.table_page import Cell, TablePage, TableRow, write_table_page
from veduta.text import count, printable

if TYPE_CHECKING:
    from veduta.learn.tables.running import RowResult, TableRun

__all__ = [
    "CSV_FILE",
    "DIFFERENT_PHOTOS",
    "JSON_FILE",
    "MARKDOWN_FILE",
    "PAGE_FILE",
    "cell",
    "page_notes",
    "table_csv",
    "table_json",
    "table_markdown",
    "table_page",
    "weights_advice",
    "write_table_files",
]

JSON_FILE, CSV_FILE, MARKDOWN_FILE = "table.json", "table.csv", "table.md"
PAGE_FILE = "table.html"

DIFFERENT_PHOTOS = (
    "The photos of the report are not available. Its figures and those measured here are of "
    "different photos, so a difference between them says little."
)


def write_table_files(run: TableRun, command: str) -> None:
    """Write all files of a table into its folder.

    Args:
        run: the table.
        command: the command line, for the page.

    Raises:
        OSError: a file cannot be written.
    """
    write_text(run.folder / JSON_FILE, json.dumps(table_json(run), indent=1) + "\n")
    write_text(run.folder / CSV_FILE, table_csv(run))
    write_text(run.folder / MARKDOWN_FILE, table_markdown(run))
    write_table_page(run.folder / PAGE_FILE, table_page(run, command))


def cell(result: RowResult, key: str) -> Cell:
    """Return a figure of a row with what the report says of it.

    Args:
        result: the row.
        key: of the figure.
    """
    value = result.record.figures.get(key)
    reported = result.row.reported.get(key)
    if value is None:
        return Cell(None, None, None, reported)
    return Cell(value.value, value.low, value.high, reported)


def table_json(run: TableRun) -> dict[str, Any]:
    """Return a table as JSON types. A figure that a row does not have is null."""
    table = run.table
    return {
        "table": table.name,
        "about": table.about,
        "source": table.source,
        "folder": readable(run.folder),
        "figures": list(table.figures),
        "changes": list(run.changes),
        "rows": [_row_json(result, table.figures) for result in run.results],
        "incomplete": [result.row.name for result in run.incomplete],
    }


def _row_json(result: RowResult, shown: Sequence[str]) -> dict[str, Any]:
    row, record = result.row, result.record
    keys = [*shown, *(key for key in record.figures if key not in shown)]
    figures = {}
    for key in keys:
        one = cell(result, key)
        figures[key] = {
            "value": one.value,
            "interval": None if one.low is None else [one.low, one.high],
            "reported": one.reported,
            "difference": one.difference,
        }
    return {
        "row": row.name,
        "state": record.state,
        "recipe": row.recipe,
        "data": row.data,
        "encoder": name_without_folders(row.encoder),
        "method": row.method,
        "figures": figures,
        "queries": record.queries,
        "gallery": record.gallery,
        "parameters": record.parameters,
        "epochs": record.epochs,
        "seconds": record.seconds,
        "run": None if result.run is None else readable(result.run),
        "note": row.note,
        "notes": list(record.notes),
        "error": record.error,
    }


def table_csv(run: TableRun) -> str:
    """Return a table as CSV: a line for each row, with all figures that any of them has."""
    shown = [key for key in FIGURES if _has_figure(run, key)]
    header = ["row", "state", "recipe", "data", "encoder", "method"]
    for key in shown:
        header += [key, f"{key}_low", f"{key}_high", f"{key}_reported", f"{key}_difference"]
    header += ["queries", "gallery", "parameters", "epochs", "seconds", "error"]
    rows = []
    for result in run.results:
        row, record = result.row, result.record
        cells: list[object] = [
            row.name,
            record.state,
            row.recipe,
            row.data,
            name_without_folders(row.encoder),
            row.method,
        ]
        for key in shown:
            one = cell(result, key)
            cells += [one.value, one.low, one.high, one.reported, one.difference]
        cells += [record.queries, record.gallery, record.parameters, record.epochs]
        cells += [record.seconds, record.error]
        rows.append(["" if value is None else value for value in cells])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _has_figure(run: TableRun, key: str) -> bool:
    return key in run.table.figures or any(
        key in result.record.figures or key in result.row.reported for result in run.results
    )


def table_markdown(run: TableRun) -> str:
    """Return a table as Markdown."""
    table = run.table
    header, rule = ["row"], ["---"]
    for key in table.figures:
        header.append(FIGURES[key].title)
        rule.append("---:")
        if _is_reported(run, key):
            header += ["report", "difference"]
            rule += ["---:", "---:"]
    lines = [f"# {_in_markdown(table.name)}", ""]
    lines += [_in_markdown(table.about), ""] if table.about else []
    lines += [f"| {' | '.join(header)} |", f"| {' | '.join(rule)} |"]
    for result in run.results:
        cells = [_in_markdown(result.row.name)]
        for key in table.figures:
            one = cell(result, key)
            cells.append(_number(one.value))
            if _is_reported(run, key):
                cells += [_number(one.reported), _number(one.difference, "+")]
        lines.append(f"| {' | '.join(cells)} |")
    if notes := page_notes(run):
        lines += ["", *(f"- {_in_markdown(note)}" for note in notes)]
    problems = [result for result in run.results if result.record.error]
    if problems:
        lines += ["", "Rows without figures:", ""]
        lines += [
            f"- {_in_markdown(one.row.name)}: {_in_markdown(one.record.error)}" for one in problems
        ]
    return "".join(f"{line}\n" for line in lines)


def page_notes(run: TableRun) -> list[str]:
    """Return what a reader of the figures should know, one sentence or two each."""
    notes = [run.table.note] if run.table.note else []
    if any(result.row.reported for result in run.results):
        notes.append(DIFFERENT_PHOTOS)
    if run.changes:
        notes.append(f"All recipes were changed: {', '.join(run.changes)}.")
    notes += _notes_on_other_rows(run)
    for result in run.results:
        own = [result.row.note] if result.row.note else []
        notes += [f"{result.row.name}: {note}" for note in (*own, *result.record.notes)]
    return notes


def _notes_on_other_rows(run: TableRun) -> list[str]:
    """Name the rows whose figures are not of the recipes or of the photos of the others."""
    done = [one for one in run.results if one.record.state == "done"]
    notes = []
    if old := [one.row.name for one in done if not run.is_finished(one.row)]:
        notes.append(
            f"These rows are of an earlier recipe, and were not run this time: {', '.join(old)}."
        )
    digests = Counter(one.record.photos for one in done if one.record.photos)
    if len(digests) > 1:
        usual = digests.most_common(1)[0][0]
        others = [one.row.name for one in done if one.record.photos not in {"", usual}]
        notes.append(
            "These rows were measured on other queries or another gallery than the rest, so run "
            f"them again: {', '.join(others)}."
        )
    return notes


def weights_advice(run: TableRun) -> list[str]:
    """Return the ways to go on for rows whose weights are not on this machine, or nothing."""
    rows = [one for one in run.incomplete if one.record.state == "weights missing"]
    if not rows:
        return []
    names = ", ".join(one.row.name for one in rows)
    lines = [
        f"{count(len(rows), 'row')} without weights on this machine: {names}. Three ways to go on:",
        "1. Connect once and run the same command again; it fetches them and keeps them.",
        "2. Fetch the weights elsewhere. In a copy of the table (--print), give the row "
        'set = { "network.weights" = "FILE.safetensors" }.',
        '3. Start from other weights: set = { "network.weights" = "none" } for random ones, or '
        'set = { "network.backbone" = "embedded:efficientnet-lite2" } for those in the package. '
        "(--set KEY=VALUE changes all rows.)",
    ]
    if any(not one.row.recipe for one in rows):
        lines.append(
            "A row with an encoder takes encoder = the path of an .onnx file that was exported "
            f'elsewhere, or "{DEFAULT}", which is in the package.'
        )
    return lines


def table_page(run: TableRun, command: str) -> TablePage:
    """Return the content of the page of a table.

    Args:
        run: the table.
        command: the command line.
    """
    table = run.table
    return TablePage(
        name=table.name,
        about=table.about,
        source=table.source,
        titles={key: FIGURES[key].title for key in table.figures},
        explanations={FIGURES[key].title: FIGURES[key].explanation for key in table.figures},
        rows=[_page_row(result, table.figures) for result in run.results],
        notes=page_notes(run),
        advice=weights_advice(run),
        command=command,
    )


def _page_row(result: RowResult, keys: Sequence[str]) -> TableRow:
    row, record = result.row, result.record
    trained = row.recipe and f"recipe {row.recipe}" + (f", {row.data}" if row.data else "")
    method = " ".join(one for one in (name_without_folders(row.encoder), row.method) if one)
    return TableRow(
        name=row.name,
        made_by=trained or f"{method}, not trained",
        state=record.state,
        cells={key: cell(result, key) for key in keys},
        queries=record.queries,
        gallery=record.gallery,
        parameters=record.parameters,
        epochs=record.epochs,
        seconds=record.seconds,
        error=record.error,
    )


def _is_reported(run: TableRun, key: str) -> bool:
    return any(key in result.row.reported for result in run.results)


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _in_markdown(text: str) -> str:
    return printable(text).replace("|", "\\|")
