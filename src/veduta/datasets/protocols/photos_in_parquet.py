"""Photos that parquet files hold as bytes: written once to the user's cache, a file a photo.

A photo that is there already is not written again, and rows are only read where one is missing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets.judged_set import OnProgress
from veduta.datasets.protocols.list_tables import (
    open_parquet,
    reading_parquet,
    refuse_table,
    text_id,
)
from veduta.datasets.protocols.unpacked_photos import unpacked_name, write_photo
from veduta.errors import DatasetError, readable
from veduta.text import count

__all__ = ["PhotoColumn", "find_bytes", "unpack_photos"]

_BATCH_ROWS = 64
"""Rows that are handed over at a time. Arrow holds the page that they stand in as a whole."""

_BYTE_COLUMNS = ("image.bytes", "img.bytes", "photo.bytes", "image", "img", "photo", "bytes")


@dataclass(frozen=True, slots=True)
class PhotoColumn:
    """Where a parquet file holds photos.

    Attributes:
        file: the file.
        side: "query" or "corpus": a query and a photo of the corpus may have the same id.
        ids: the column of the ids.
        photos: the column of the bytes, such as `image.bytes`.
    """

    file: Path
    side: str
    ids: str
    photos: str


def find_bytes(file: Path) -> str | None:
    """Return the column of a parquet file that holds photos as bytes; None without one.

    Only the description of the file is read.

    Args:
        file: the parquet file.

    Raises:
        DatasetError: it cannot be read, or some rows have no photo.
    """
    with open_parquet(file) as table:
        columns = {
            column.path: number
            for number, column in enumerate(table.schema)
            if column.physical_type == "BYTE_ARRAY" and column.logical_type.type == "NONE"
        }
        for name in _BYTE_COLUMNS:
            if name not in columns:
                continue
            rows, empty = table.metadata.num_rows, 0
            for group in range(table.num_row_groups):
                part = table.metadata.row_group(group).column(columns[name])
                empty += (part.statistics and part.statistics.null_count) or 0
            if empty == rows:
                continue
            if empty:
                raise DatasetError(
                    f"{readable(file)}: {count(empty, 'row')} of {rows:,} without a photo in the "
                    f"column {name!r}; queries and corpus must be photos, not texts"
                )
            return name
    return None


def unpack_photos(
    columns: Sequence[PhotoColumn], folder: Path, on_progress: OnProgress | None = None
) -> None:
    """Write the photos that are not there yet.

    Args:
        columns: where the photos are.
        folder: receives them.
        on_progress: called with (stage, done, total).

    Raises:
        DatasetError: a file cannot be read, or a row has no photo.
        CannotWrite: a photo cannot be written.
    """
    total = 0
    for column in columns:
        with open_parquet(column.file) as table:
            total += table.metadata.num_rows
    done = 0
    for column in columns:
        with open_parquet(column.file) as table:
            first = 1
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                with reading_parquet(column.file):
                    names = table.read_row_group(group, [column.ids]).column(0).to_pylist()
                files = [
                    folder / unpacked_name(column.side, text_id(column.file, row, "photo", name))
                    for row, name in enumerate(names, start=first)
                ]
                if not all(map(os.path.isfile, files)):
                    _unpack_group(column, group, first, files, on_progress, (done, total))
                first += rows
                done += rows
                if on_progress is not None:
                    on_progress("Unpacking photos", done, total)


def _unpack_group(
    column: PhotoColumn,
    group: int,
    first: int,
    files: Sequence[Path],
    on_progress: OnProgress | None,
    progress: tuple[int, int],
) -> None:
    """Write the photos of one group of rows, which is not held as a whole."""
    row = 0
    part = column.photos.partition(".")[2]
    with open_parquet(column.file) as table:
        batches = table.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=[group], columns=[column.photos]
        )
        for batch in batches:
            values = batch.column(0)
            photos = values.field(part) if part else values
            for photo in photos:
                data = photo.as_py()
                if not data:
                    raise refuse_table(column.file, first + row, "no photo; only photos are ranked")
                if not os.path.isfile(files[row]):
                    write_photo(files[row], data)
                row += 1
            if on_progress is not None:
                on_progress("Unpacking photos", progress[0] + row, progress[1])
