"""CSV files read line by line, so that every message names the line and memory stays flat.

Accepted: commas, semicolons, tabs or vertical bars between the fields (the header decides), a
byte-order mark, CRLF, quoted fields, blank lines, further columns, and column names in any order
and case.

Refused, with the line: a missing or doubled column; a row that is longer or shorter than the header
(an unquoted comma shifts every field behind it); bytes that are not UTF-8; a field of more than
16 MB.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn

from veduta.errors import DatasetError, readable
from veduta.files import open_regular

__all__ = [
    "Record",
    "normalised",
    "read_header",
    "read_records",
    "read_separator",
    "read_table",
    "refuse",
    "refuse_columns",
]

MAX_FIELD_BYTES = 16 * 2**20
"""The limit for a line. Google's lists of photos exceed the 131,072 of the csv module."""

SEPARATORS = (",", ";", "\t", "|")

Record = tuple[int, list[str]]
"""The line that a record begins on, counted from 1, and its fields."""


def read_records(
    file: Path, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Record]:
    """Yield chosen columns of each row below the header, one row at a time.

    Args:
        file: a CSV file.
        wanted: names of columns, in any case.
        optional: names of columns that the file may lack.

    Yields:
        The line of the row; the values of the `wanted` columns, then of the `optional` ones, in the
        order of the arguments. A column that the file lacks has the value "".

    Raises:
        DatasetError: the file cannot be read, or is refused as the module docstring says.
    """
    records = read_table(file)
    line, header = next(records, (1, []))
    columns = _columns(file, line, header, wanted, optional)
    for line, fields in records:
        yield line, ["" if column is None else fields[column] for column in columns]


def read_table(file: Path) -> Iterator[Record]:
    """Yield all fields of each record that is not blank, the header first, one at a time.

    Args:
        file: a CSV file.

    Yields:
        The line and the fields, as many as the header has. An empty file yields nothing.

    Raises:
        DatasetError: the file cannot be read, or is refused as the module docstring says.
    """
    try:
        with open_regular(file) as source:
            records = _records(file, _text_lines(file, source))
            line, header = next(records, (1, []))
            if not header:
                return
            yield line, header
            width = len(header)
            for line, fields in records:
                if len(fields) != width and not _only_padding(fields, width):
                    refuse(
                        file,
                        line,
                        f"{len(fields)} fields, but the header has {width} ({', '.join(header)}); "
                        "put names that hold a comma in double quotes",
                    )
                yield line, fields[:width]
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def read_header(file: Path) -> list[str]:
    """Return the column names as they are written; empty for an empty file.

    Args:
        file: a CSV file.

    Raises:
        DatasetError: the file cannot be read, is not UTF-8, or does not begin as CSV.
    """
    return next(read_table(file), (1, []))[1]


def read_separator(file: Path) -> str:
    """Return the character between the fields of a CSV file.

    Args:
        file: a CSV file.

    Raises:
        DatasetError: the file cannot be read or is not UTF-8.
    """
    try:
        with open_regular(file) as source:
            return _detect_separator(_text_lines(file, source))[0]
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def refuse(file: Path, line: int, why: str, cause: Exception | None = None) -> NoReturn:
    """Raise a `DatasetError` that names the file and the line."""
    raise DatasetError(f"{readable(file)}, line {line}: {why}") from cause


def refuse_columns(
    file: Path,
    line: int,
    missing: Sequence[str],
    header: Sequence[str],
    wanted: Sequence[str],
    optional: Sequence[str] = (),
) -> NoReturn:
    """Raise a `DatasetError` that says which columns a header lacks, has and should have."""
    found = ", ".join(repr(name) for name in header) or "none"
    alone = len(header) == 1 and header[0]
    hint = "; separate the columns with commas, semicolons or tabs" if alone else ""
    also = f" and optionally {_quoted(optional)}" if optional else ""
    refuse(
        file,
        line,
        f"no column {' and no column '.join(repr(name) for name in missing)}; found {found}; "
        f"wanted {_quoted(wanted)}{also}{hint}",
    )


def normalised(name: str) -> str:
    """Return the name of a column in the form in which names are compared."""
    return name.strip().lower()


def _text_lines(file: Path, source: BinaryIO) -> Iterator[str]:
    """Yield the lines as text. Each line is decoded alone, so that messages can name it."""
    encoding = "utf-8-sig"
    for number, line in enumerate(iter(partial(source.readline, MAX_FIELD_BYTES), b""), start=1):
        if len(line) == MAX_FIELD_BYTES:
            refuse(file, number, f"longer than {MAX_FIELD_BYTES:,} bytes; is it a CSV file?")
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            refuse(file, number, f"not UTF-8 ({error.reason}); save the file as CSV UTF-8", error)
        encoding = "utf-8"


def _records(file: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Yield each record that is not blank, the header first."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_BYTES))
    separator, lines = _detect_separator(lines)
    reader = csv.reader(lines, strict=True, delimiter=separator)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bare_return = "new-line character" in str(error)
            why = "a bare carriage return; end lines with LF or CRLF" if bare_return else error
            refuse(file, line, f"not a CSV record: {why}", error)
        if any(field.strip() for field in fields):
            yield line, fields


def _detect_separator(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """Return the separator that the header has most often, and all lines."""
    first: list[str] = []
    header = ""
    for line in lines:
        first.append(line)
        if line.strip():
            # Every second piece between double quotes lies inside a quoted name.
            header = "".join(line.split('"')[::2])
            break
    separator = max(SEPARATORS, key=header.count)
    return separator, chain(first, lines)


def _columns(
    file: Path, line: int, header: list[str], wanted: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    """Return the position of each wanted and optional column; None for one that is missing."""
    names = [normalised(name) for name in header]
    missing = [name for name in wanted if normalised(name) not in names]
    if missing:
        refuse_columns(file, line, missing, header, wanted, optional)
    for name in (*wanted, *optional):
        count = names.count(normalised(name))
        if count > 1:
            refuse(file, line, f"the column {name!r} is there {count} times")
    return [
        names.index(normalised(name)) if normalised(name) in names else None
        for name in (*wanted, *optional)
    ]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _only_padding(fields: list[str], width: int) -> bool:
    """Tell whether the fields beyond the header are all empty, as spreadsheets write them."""
    return len(fields) > width and not any(field.strip() for field in fields[width:])
