"""Reading `labels.csv`: strict about what would silently change a result, lenient about the rest.

Accepted: a byte-order mark, CRLF, quoted fields, blank lines, further columns, any order and any
case of the column names. Refused, with the line: a missing column, a row that is longer or shorter
than the header (an unquoted comma shifts every field behind it), an unknown split, a path that
leaves the root, the same path twice, bytes that are not UTF-8.
"""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from veduta.datasets.dataset import NO_SPLIT, SPLITS
from veduta.errors import DatasetError, readable

__all__ = ["LabelledRow", "read_labels_csv", "read_rows"]

_SPLIT_ALIASES = {"queries": "query", "distractors": "distractor"}


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row of the file: `line` counts from 1, `path` is relative and normalised."""

    line: int
    path: str
    label: str | None
    split: str


def read_labels_csv(path: str | os.PathLike[str]) -> dict[bytes, str]:
    """Return the labels of a CSV file with the columns `path` and `label`, for any index.

    The keys are absolute file names as bytes: paths in the file are taken from the folder that it
    lies in (absolute ones are kept), so that `labels.get(os.path.abspath(photo))` finds the label
    of a photo whatever folder the index was built from. Links are not followed. Rows without a
    label are left out.

    Raises `DatasetError` as the module says, except that paths may lead out of the folder.
    """
    file = Path(path)
    folder = os.path.abspath(file.parent)
    rows = read_rows(file, inside_root=False)
    return {
        os.fsencode(os.path.normpath(os.path.join(folder, row.path))): row.label
        for row in rows
        if row.label is not None
    }


def read_rows(file: Path, *, inside_root: bool = True) -> Iterator[LabelledRow]:
    """Yield the rows of a labels file in order, one at a time.

    `inside_root`: refuse absolute paths and those that climb out with `..`.

    Raises `DatasetError` (naming file, line and remedy) as the module says.
    """
    try:
        with file.open("rb") as lines:
            yield from _rows(file, _text_lines(file, lines), inside_root=inside_root)
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def _text_lines(file: Path, lines: Iterator[bytes]) -> Iterator[str]:
    """Yield the lines as text; decoding line by line lets the message name the line."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            _refuse(file, number, f"not UTF-8 ({error.reason}); save the file as CSV UTF-8", error)


def _rows(file: Path, lines: Iterator[str], *, inside_root: bool) -> Iterator[LabelledRow]:
    records = _records(file, lines)
    header_line, header = next(records, (1, []))
    columns = _columns(file, header_line, header)
    line_of: dict[str, int] = {}
    for line, fields in records:
        if len(fields) != len(header) and not _only_padding(fields, header):
            _refuse(
                file,
                line,
                f"{len(fields)} fields, but the header has {len(header)} ({', '.join(header)}); "
                "put names that hold a comma in double quotes",
            )
        path = _path(file, line, fields[columns["path"]], inside_root=inside_root)
        if path in line_of:
            _refuse(
                file,
                line,
                f"{readable(path)} is already on line {line_of[path]}; keep one of the two",
            )
        line_of[path] = line
        label = fields[columns["label"]].strip() or None
        split = _split(file, line, fields[columns["split"]]) if "split" in columns else NO_SPLIT
        yield LabelledRow(line, path, label, split)


def _records(file: Path, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line of its first character, fields) for each record that is not blank."""
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
            _refuse(file, line, f"not a CSV record: {why}", error)
        if any(field.strip() for field in fields):
            yield line, fields


def _columns(file: Path, line: int, header: list[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    missing = [name for name in ("path", "label") if name not in names]
    if missing:
        found = ", ".join(repr(name) for name in header) or "none"
        hint = "; separate the columns with commas" if len(header) == 1 and header[0] else ""
        _refuse(
            file,
            line,
            f"no column {' and no column '.join(repr(name) for name in missing)}; found {found}; "
            f"wanted 'path', 'label' and optionally 'split'{hint}",
        )
    wanted = ("path", "label", "split")
    for name in wanted:
        if names.count(name) > 1:
            _refuse(file, line, f"the column {name!r} is there {names.count(name)} times")
    return {name: names.index(name) for name in wanted if name in names}


def _only_padding(fields: list[str], header: list[str]) -> bool:
    """Tell whether the fields beyond the header are all empty, as spreadsheets leave them."""
    return len(fields) > len(header) and not any(field.strip() for field in fields[len(header) :])


def _path(file: Path, line: int, written: str, *, inside_root: bool) -> str:
    if not written.strip():
        _refuse(file, line, "the path is empty")
    if "\0" in written:
        _refuse(file, line, "the path holds a NUL character")
    path = posixpath.normpath(written)
    if inside_root and (path.startswith("/") or path.split("/", 1)[0] == ".."):
        _refuse(
            file,
            line,
            f"{readable(written)} leads out of the dataset; write paths relative to its folder",
        )
    return path


def _split(file: Path, line: int, written: str) -> str:
    split = written.strip().lower()
    split = _SPLIT_ALIASES.get(split, split)
    if split and split not in SPLITS:
        _refuse(file, line, f"unknown split {written.strip()!r}; wanted one of {', '.join(SPLITS)}")
    return split


def _refuse(file: Path, line: int, why: str, cause: Exception | None = None) -> NoReturn:
    raise DatasetError(f"{readable(file)}, line {line}: {why}") from cause
