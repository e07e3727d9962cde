"""Lists of ids as a table: CSV, TSV, JSON Lines or parquet, read row by row.

Only the wanted columns of a parquet file are read, so that a column of photos costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veduta.datasets.csv_records import normalised, read_header, read_records, refuse
from veduta.datasets.text_lines import read_lines
from veduta.errors import DatasetError, readable
from veduta.files import open_regular
from veduta.validation import InvalidValue, parse_json

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = [
    "TABLE_ENDINGS",
    "column_names",
    "find_column",
    "open_parquet",
    "place",
    "read_rows",
    "reading_parquet",
    "refuse_table",
    "row_count",
    "text_id",
]

TABLE_ENDINGS = (".parquet", ".jsonl", ".tsv", ".csv")

MAX_LINE_BYTES = 16 * 2**20
"""The limit for a line of JSON."""

_BATCH_ROWS = 16_384
_BUFFER_BYTES = 2**20
_PARQUET_MARK = b"PAR1"


def column_names(file: Path) -> list[str]:
    """Return the names of the columns; of a struct of a parquet file, those of its parts.

    Args:
        file: one of `TABLE_ENDINGS`. The first line of JSON Lines says which keys there are.

    Raises:
        DatasetError: the file cannot be read, or is not of the kind that its ending says.
    """
    if file.suffix == ".parquet":
        with open_parquet(file) as table:
            names = [column.path for column in table.schema]
        if len(set(names)) < len(names):
            raise DatasetError(f"{readable(file)}: two columns have one name; rename one of them")
        return names
    if file.suffix == ".jsonl":
        return list(next(_json_lines(file), (1, {}))[1])
    return read_header(file)


def find_column(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the column that has one of some names, in any case; None without one.

    Args:
        names: of the columns.
        wanted: names, the likeliest first.
    """
    by_name = {normalised(name): name for name in reversed(names)}
    return next((by_name[name] for name in wanted if name in by_name), None)


def read_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
    """Yield the values of some columns, one row at a time.

    Args:
        file: one of `TABLE_ENDINGS`.
        columns: the names, as `column_names` returns them.

    Yields:
        The line of the row, or the number of the row of a parquet file, from 1; its values in the
        order of `columns`, None where a key or a value is missing.

    Raises:
        DatasetError: the file cannot be read, or is not of the kind that its ending says.
    """
    if file.suffix == ".parquet":
        yield from _parquet_rows(file, columns)
    elif file.suffix == ".jsonl":
        for line, values in _json_lines(file):
            yield line, [values.get(name) for name in columns]
    else:
        yield from read_records(file, columns)


def row_count(file: Path) -> int:
    """Return how many rows a parquet file has.

    Args:
        file: the file.

    Raises:
        DatasetError: it cannot be read, or is no parquet file.
    """
    with open_parquet(file) as table:
        rows: int = table.metadata.num_rows
    return rows


def place(file: Path, number: int) -> str:
    """Return the words for a row in a message.

    Args:
        file: the file.
        number: the number that `read_rows` has for the row.
    """
    return f"{readable(file)}, {'row' if file.suffix == '.parquet' else 'line'} {number}"


def refuse_table(file: Path, number: int, why: str) -> DatasetError:
    """Return the error for a row.

    Args:
        file: the file.
        number: the number that `read_rows` has for the row.
        why: what is wrong, and the remedy.
    """
    return DatasetError(f"{place(file, number)}: {why}")


def text_id(file: Path, number: int, what: str, value: Any) -> str:
    """Return an id as text. Whole numbers are ids too.

    Args:
        file: the file.
        number: the number that `read_rows` has for the row.
        what: what the id is of, such as "query".
        value: the value of the row.

    Raises:
        DatasetError: the value is empty, or neither text nor a whole number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        if isinstance(value, str) and value.strip() and value.encode():
            return value.strip()
    except UnicodeEncodeError:
        pass
    raise refuse_table(
        file, number, f"the id {ascii(value)[:60]} of the {what} is no text and no whole number"
    )


@contextmanager
def reading_parquet(file: Path) -> Iterator[None]:
    """Raise what goes wrong while a parquet file is read as `DatasetError`.

    Args:
        file: the file.

    Raises:
        DatasetError: it cannot be read or is damaged.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        short = " ".join(why.split())[:200]
        raise DatasetError(
            f"{readable(file)}: cannot be read as parquet: {short}; is it complete?"
        ) from error


@contextmanager
def open_parquet(file: Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet file.

    Args:
        file: the file.

    Raises:
        DatasetError: it cannot be read, or is no parquet file.
    """
    import pyarrow.parquet as pq

    with reading_parquet(file), open_regular(file) as source:
        if source.read(len(_PARQUET_MARK)) != _PARQUET_MARK:
            raise DatasetError(f"{readable(file)}: no parquet file; is it complete?")
        source.seek(0, os.SEEK_SET)
        # Without a buffer, a group of rows is read as a whole, and photos may fill gigabytes.
        with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            yield table


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
    number = 0
    with open_parquet(file) as table:
        batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns))
        for batch in batches:
            values = [_parts(batch, name) for name in columns]
            for row in zip(*values, strict=True):
                number += 1
                yield number, list(row)


def _parts(batch: Any, name: str) -> list[Any]:
    """Return the values of a column, or of a part of a struct, such as `image.path`."""
    if name in batch.schema.names:
        values: list[Any] = batch.column(name).to_pylist()
        return values
    column, _, part = name.partition(".")
    return [
        each[part] if isinstance(each, dict) else None for each in batch.column(column).to_pylist()
    ]


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line that is not blank as a dictionary."""
    for number, text in read_lines(file, MAX_LINE_BYTES):
        try:
            values = parse_json(text)
        except InvalidValue as error:
            refuse(file, number, f"{error}; wanted one JSON object a line", error)
        if not isinstance(values, dict):
            refuse(file, number, "no JSON object; wanted one a line, as in JSON Lines")
        yield number, values
