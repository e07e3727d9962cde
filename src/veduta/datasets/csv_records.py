"""CSV files read line by line, so that every message can name the line and memory stays flat.

Accepted: a byte-order mark, CRLF, quoted fields, blank lines, further columns, any order and any
case of the column names. Refused, with the line: a missing or doubled column, a row that is longer
or shorter than the header (an unquoted comma shifts every field behind it), bytes that are not
UTF-8, a field of more than 16 MB.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from veduta.errors import DatasetError, readable

__all__ = ["Record", "read_header", "read_records", "refuse"]

_LONGEST = 16 * 2**20
"""Bytes in a line and characters in a field; Google's lists of photos pass csv's own 131,072."""

Record = tuple[int, list[str]]
"""The line that the record begins on, from 1, and its fields."""


def read_records(
    file: Path, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Record]:
    """Yield (line, values) of each row below the header, one at a time.

    The values are those of the `wanted` columns, then of the `optional` ones ("" for a column that
    is not there), whatever their order in the file.

    Raises `DatasetError` as the module says, and when the file cannot be read.
    """
    try:
        with file.open("rb") as source:
            records = _records(file, _text_lines(file, source))
            line, header = next(records, (1, []))
            places = _places(file, line, header, wanted, optional)
            width = len(header)
            for line, fields in records:
                if len(fields) != width and not _only_padding(fields, width):
                    refuse(
                        file,
                        line,
                        f"{len(fields)} fields, but the header has {width} ({', '.join(header)}); "
                        "put names that hold a comma in double quotes",
                    )
                yield line, ["" if place is None else fields[place] for place in places]
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def read_header(file: Path) -> list[str]:
    """Return the column names as they are written; empty for an empty file.

    Raises `DatasetError` when the file cannot be read, is not UTF-8, or does not begin as CSV.
    """
    try:
        with file.open("rb") as source:
            return next(_records(file, _text_lines(file, source)), (1, []))[1]
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def refuse(file: Path, line: int, why: str, cause: Exception | None = None) -> NoReturn:
    """Raise `DatasetError` that names the file and the line."""
    raise DatasetError(f"{readable(file)}, line {line}: {why}") from cause


def _text_lines(file: Path, source: BinaryIO) -> Iterator[str]:
    """Yield the lines as text; decoding line by line lets the message name the line."""
    encoding = "utf-8-sig"
    for number, line in enumerate(iter(partial(source.readline, _LONGEST), b""), start=1):
        if len(line) == _LONGEST:
            refuse(file, number, f"longer than {_LONGEST:,} bytes; is it a CSV file?")
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            refuse(file, number, f"not UTF-8 ({error.reason}); save the file as CSV UTF-8", error)
        encoding = "utf-8"


def _records(file: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Yield each record that is not blank, the header first."""
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    reader = csv.reader(lines, strict=True)
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


def _places(
    file: Path, line: int, header: list[str], wanted: Sequence[str], optional: Sequence[str]
) -> list[int | None]:
    """Return where each wanted and each optional column is; None for an optional one not there."""
    names = [name.strip().lower() for name in header]
    missing = [name for name in wanted if name.lower() not in names]
    if missing:
        found = ", ".join(repr(name) for name in header) or "none"
        hint = "; separate the columns with commas" if len(header) == 1 and header[0] else ""
        also = f" and optionally {_quoted(optional)}" if optional else ""
        refuse(
            file,
            line,
            f"no column {' and no column '.join(repr(name) for name in missing)}; found {found}; "
            f"wanted {_quoted(wanted)}{also}{hint}",
        )
    for name in (*wanted, *optional):
        if names.count(name.lower()) > 1:
            times = names.count(name.lower())
            refuse(file, line, f"the column {name!r} is there {times} times")
    return [
        names.index(name.lower()) if name.lower() in names else None
        for name in (*wanted, *optional)
    ]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _only_padding(fields: list[str], width: int) -> bool:
    """Tell whether the fields beyond the header are all empty, as spreadsheets leave them."""
    return len(fields) > width and not any(field.strip() for field in fields[width:])
