"""Results as data: the tables of a section of the docs as a CSV file, and back.

`results/SECTION.csv` has one row for each cell of each table of the section, and the page is
rendered from it. A section is Markdown: prose, tables, and after the tables of one run a paragraph
with its date and machine, then its command as an indented block. A section that was measured in
several runs has several of these paragraphs. Prose and the alignment of columns belong to the page.
"""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path

from veduta import __version__
from veduta.encoders import DEFAULT, PRESETS
from veduta.encoders.embedded import embedded_models

ROOT = Path(__file__).resolve().parents[1]
SETS = ("landmarks30", "same_place", "scenes", "objects20", "domains4", "messy")

OF_ONE_ENCODER = {
    **dict.fromkeys(
        (
            "accuracy",
            "groups",
            "keypoint_counts",
            "piles",
            "probabilities",
            "query",
            "recognition",
            "regions",
            "reranking",
            "scene_kinds",
            "serving_load",
            "shared_overlays",
            "shortcuts",
            "stamps",
            "strangers",
            "turned",
            "verification_variants",
            "wrong_hits",
        ),
        DEFAULT,
    ),
    "explanations-similarity": "accurate",
}
"""Section → the encoder that all its rows are measured with, unless a row names another one."""

HEAD_ROW = 0
"""The `row_number` of a table without rows. Its cells say only how the columns are called."""

_DIVIDER = re.compile(r"\|(?: *:?-+:? *\|)+")
_CELL_END = re.compile(r"(?<!\\)\|")
_TABLE = re.compile(r"(?:^\|.*\|\n?){2,}", re.MULTILINE)
_PROVENANCE = re.compile(
    r"^(?P<before>(?:[^|\s].*?\. )?)(?P<date>\d{4}-\d\d-\d\d)(?P<minutes>(?:, \d+ minutes)?)\. "
    r"(?P<machine>.+)\.\n\n(?P<command>(?:    .+(?:\n|\Z))+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table, and where it was measured.

    Attributes:
        table: number of the table in its section, from 1.
        row: text of the first cell of the row.
        row_number: in the table, from 1; `HEAD_ROW` if the table has no rows.
        column: name of the column. Two columns may have the same name.
        value: the text of the cell as the page shows it, in Markdown.
        set: the photo set that the row, the column or the heading names; else empty.
        encoder: what the row, the column or the command names, or what the benchmark measures;
            else empty.
        version: of Veduta, with the commit if it is known.
        command: that measured it. Several commands are several lines.
        machine: the processor and the versions of the packages.
        date: of the run.
    """

    table: int
    row: str
    row_number: int
    column: str
    value: str
    set: str
    encoder: str
    version: str
    command: str
    machine: str
    date: str


COLUMNS = tuple(field.name for field in fields(Cell))


def results_file(page: Path, section: str) -> Path:
    """Return the file of a section: in the folder `results` beside the `docs` that hold its page.

    A page that lies in no folder `docs` has it beside itself.
    """
    page = page.resolve()
    docs = next((folder for folder in page.parents if folder.name == "docs"), page)
    return docs.parent / "results" / f"{section}.csv"


def read_cells(file: Path) -> list[Cell]:
    """Return the cells of a file that `csv_of` wrote.

    Raises:
        ValueError: the file has other columns, or a number in it is none.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{file}: the columns are not {', '.join(COLUMNS)}")
        return [
            Cell(**{**row, "table": int(row["table"]), "row_number": int(row["row_number"])})
            for row in reader
        ]


def csv_of(cells: Sequence[Cell]) -> str:
    """Return the cells as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cell) for cell in cells)
    return text.getvalue()


def cells_of(text: str, section: str, version: str) -> list[Cell]:
    """Return the cells of all tables of a section.

    Args:
        text: of the section, Markdown.
        section: its name.
        version: of Veduta that was measured.

    Raises:
        ValueError: a row has more or fewer cells than the head of its table, or a table has no
            paragraph with its date, machine and command.
    """
    runs = list(_PROVENANCE.finditer(text))
    cells: list[Cell] = []
    end = 0
    for number, match in enumerate(_tables(text), 1):
        heading = _heading(text[end : match.start()])
        end = match.end()
        run = next((run for run in runs if run.start() >= end), None)
        if run is None:
            raise ValueError(f"{section}: table {number} has no date, machine and command below it")
        command = "\n".join(line.strip() for line in run["command"].splitlines())
        head, rows = _parsed(match[0], f"{section}, table {number}")
        for row_number, row in enumerate(rows, 1) if rows else [(HEAD_ROW, [""] * len(head))]:
            for column, value in zip(head, row, strict=True):
                cells.append(
                    Cell(
                        table=number,
                        row=row[0],
                        row_number=row_number,
                        column=column,
                        value=value,
                        set=_set_of(head, row, column, heading),
                        encoder=_encoder_of(head, row, column, command, section),
                        version=version,
                        command=command,
                        machine=run["machine"],
                        date=run["date"],
                    )
                )
    return cells


def table_of(cells: Sequence[Cell], divider: str | None = None) -> str:
    """Return one table as Markdown.

    Args:
        cells: of one table, in order.
        divider: the line below the head, which aligns the columns. By default the first column has
            words and the others have figures.
    """
    rows = [list(row) for _, row in groupby(cells, lambda cell: cell.row_number)]
    head = [cell.column for cell in rows[0]]
    if divider is None or len(_split(divider)) != len(head):
        divider = _line(["---", *["---:"] * (len(head) - 1)])
    values = [[cell.value for cell in row] for row in rows if row[0].row_number != HEAD_ROW]
    return "\n".join([_line(head), divider, *map(_line, values)])


def rendered(text: str, cells: Sequence[Cell]) -> str:
    """Return a section with its tables, dates, machines and commands taken from the cells.

    Args:
        text: of the section. Its prose is kept.
        cells: of the section.

    Raises:
        ValueError: the section has another number of tables, or the tables above one of its
            paragraphs come from several runs.
    """
    tables = {number: list(own) for number, own in groupby(cells, lambda cell: cell.table)}
    matches = list(_tables(text))
    if list(tables) != list(range(1, len(matches) + 1)):
        raise ValueError(f"the page has {len(matches)} tables, the file {len(tables)}")
    changes = []  # start, end, new text
    for match, table in zip(matches, tables.values(), strict=True):
        new = table_of(table, match[0].splitlines()[1])
        changes.append((match.start(), match.end(), new + match[0][len(match[0].rstrip("\n")) :]))
    end = 0
    for run in _PROVENANCE.finditer(text):
        above = [
            table
            for match, table in zip(matches, tables.values(), strict=True)
            if end <= match.start() < run.start()
        ]
        end = run.end()
        if above:
            changes.append((run.start(), run.end(), _provenance(run, above)))
    for start, stop, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _provenance(run: re.Match[str], tables: Sequence[Sequence[Cell]]) -> str:
    """Return the paragraph of a run, and its commands, from the cells of its tables."""
    found = {(cell.date, cell.machine, cell.command) for table in tables for cell in table}
    if len(found) > 1:
        numbers = " and ".join(str(table[0].table) for table in tables)
        raise ValueError(f"the tables {numbers} are of several runs, and share one paragraph")
    ((date, machine, command),) = found
    commands = "\n".join(f"    {line}" for line in command.splitlines())
    end = "\n" if run[0].endswith("\n") else ""
    return f"{run['before']}{date}{run['minutes']}. {machine}.\n\n{commands}{end}"


def _tables(text: str) -> Iterator[re.Match[str]]:
    """Yield the tables of a text: lines between bars, the second of them a divider."""
    for match in _TABLE.finditer(text):
        if _DIVIDER.fullmatch(match[0].splitlines()[1].strip()):
            yield match


def _parsed(table: str, where: str) -> tuple[list[str], list[list[str]]]:
    head, _, *rows = (_split(line) for line in table.splitlines())
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{where}: {len(row)} cells below {len(head)} columns: {row[0]}")
    return head, rows


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in _CELL_END.split(line.strip()[1:-1])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _heading(before: str) -> str:
    """Return what the last line above a table says, if that is all it says: `### landmarks30`."""
    lines = before.strip().splitlines()
    return lines[-1].strip("#: ") if lines else ""


def _only(found: Sequence[str]) -> str:
    """Return the one name that was found; nothing if there are several."""
    return found[0] if len(set(found)) == 1 else ""


def _named(names: Sequence[str], text: str) -> str:
    """Return the one of the names that a text has; nothing if it has none or several."""
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return _only(re.findall(rf"(?<![\w-])(?:{pattern})(?![\w-])", text))


def _cell(head: Sequence[str], row: Sequence[str], column: str) -> str:
    return row[head.index(column)] if column in head else ""


def _set_of(head: Sequence[str], row: Sequence[str], column: str, heading: str) -> str:
    places = (row[0], _cell(head, row, "set"), column, head[0])
    found = (_named(SETS, place) for place in places)
    return next(filter(None, found), heading if heading in SETS else "")


def _encoder_of(
    head: Sequence[str], row: Sequence[str], column: str, command: str, section: str
) -> str:
    option = re.search(r"--encoder[= ](\S+)", command)
    places = (row[0], _cell(head, row, "encoder"), column, option[1] if option else "")
    presets, models = list(PRESETS), list(embedded_models())
    found = (_named(presets, place) or _named(models, place) for place in places)
    return next(filter(None, found), OF_ONE_ENCODER.get(section, ""))


def measured_version() -> str:
    """Return the version of Veduta, with the commit, and whether its code was changed since."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return __version__
    code = ["git", "diff", "--quiet", "HEAD", "--", "src", "benchmarks"]
    changed = subprocess.run(code, cwd=ROOT, check=False).returncode
    return f"{__version__}+{done.stdout.strip()}{'.changed' if changed else ''}"
