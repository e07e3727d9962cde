"""Counting the classes of a CSV file of any length, without its photos.

Arrow's reader takes the file block by block, and memory holds the classes and a few blocks. What it
refuses is read again by the strict reader of `veduta.datasets`, which is slower and either accepts
it after all or names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.datasets.csv_records import read_header, read_records
from veduta.errors import DatasetError, readable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CsvKind", "count_csv", "csv_kind"]

_BLOCK = 1 << 19  # bytes
_MERGE = 200_000  # rows held before they are summed
_AT_ONCE = 100_000  # records of the slow reader

_NO_LANDMARK = "None"  # as the first edition of Google's CSV files writes it


@dataclass(frozen=True, slots=True)
class CsvKind:
    """Which columns of a file say what.

    `many`: the column that lists photos separated by spaces; None where each row is a photo.
    """

    label: str
    split: str | None = None
    many: str | None = None


def csv_kind(file: Path) -> CsvKind:
    """Tell from its header what kind of labels a CSV file holds.

    Google Landmarks (`id,url,landmark_id`), its cleaned list (`landmark_id,images`), or `path` and
    `label` with or without `split`; in any order and case, beside any other columns.

    Raises `DatasetError`, with the columns found and wanted.
    """
    header = read_header(file)
    names = [name.strip().lower() for name in header]
    if "landmark_id" in names:
        cleaned = "images" in names and "id" not in names
        kind = CsvKind("landmark_id", many="images" if cleaned else None)
    elif "label" in names:
        kind = CsvKind("label", split="split" if "split" in names else None)
    else:
        found = ", ".join(repr(name) for name in header) or "none"
        hint = "; separate the columns with commas" if len(header) == 1 and header[0] else ""
        raise DatasetError(
            f"{readable(file)}, line 1: no column of labels; found {found}; wanted 'path' and "
            f"'label', or 'id', 'url' and 'landmark_id' as in Google Landmarks{hint}"
        )
    for name in (kind.label, kind.split, kind.many):
        if name is not None and names.count(name) > 1:
            raise DatasetError(
                f"{readable(file)}, line 1: the column {name!r} is there {names.count(name)} times"
            )
    return kind


def count_csv(
    file: Path, kind: CsvKind, on_progress: Callable[[int, int], None] | None = None
) -> pa.Table:
    """Return one row for each label and split: `label`, `split` (strings), `photos` (int64).

    A row without a label has the label "". `on_progress` is told rows so far, and about how many
    there are.

    Raises `DatasetError`, with the line, as `veduta.datasets.csv_records` says.
    """
    import pyarrow as pa

    try:
        return _merged(_blocks(file, kind, on_progress))
    except pa.ArrowInvalid:
        return _merged(_records(file, kind))
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be read: {error.strerror}") from error


def _blocks(
    file: Path, kind: CsvKind, on_progress: Callable[[int, int], None] | None
) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow import csv

    names = [name.strip().lower() for name in read_header(file)]
    columns = [name for name in (kind.label, kind.split, kind.many) if name is not None]
    size = file.stat().st_size
    rows = 0
    with pa.OSFile(str(file)) as source:
        reader = csv.open_csv(
            source,
            # One thread is as fast here, and holds fewer blocks.
            csv.ReadOptions(use_threads=False, block_size=_BLOCK, skip_rows=1, column_names=names),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            rows += len(batch)
            yield _partial(pa.table(batch), kind)
            if on_progress:
                on_progress(rows, max(rows, rows * size // max(1, source.tell())))


def _records(file: Path, kind: CsvKind) -> Iterator[pa.Table]:
    import pyarrow as pa

    columns = [name for name in (kind.label, kind.split, kind.many) if name is not None]
    rows: list[list[str]] = []

    def table() -> pa.Table:
        arrays = [pa.array([row[at] for row in rows], pa.string()) for at in range(len(columns))]
        return _partial(pa.table(arrays, columns), kind)

    for _line, fields in read_records(file, columns):
        rows.append(fields)
        if len(rows) == _AT_ONCE:
            yield table()
            rows.clear()
    yield table()


def _partial(rows: pa.Table, kind: CsvKind) -> pa.Table:
    """Return what some rows say as `label`, `split`, `photos`; a label may come several times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    label = rows[kind.label]
    if kind.many:
        listed = pc.utf8_trim_whitespace(rows[kind.many])
        photos = pc.if_else(pc.equal(listed, ""), 0, pc.add(pc.count_substring(listed, " "), 1))
        photos = photos.cast(pa.int64())
    elif kind.split:
        photos = pa.repeat(pa.scalar(1, pa.int64()), len(rows))
    else:
        counted = label.value_counts()  # three times as fast as a group for each block
        label, photos = counted.field("values"), counted.field("counts")
    if kind.label == "landmark_id":
        label = pc.if_else(pc.equal(label, _NO_LANDMARK), "", label)
    split = rows[kind.split] if kind.split else pa.repeat(pa.scalar(""), len(label))
    return pa.table({"label": label, "split": split, "photos": photos})


def _merged(parts: Iterator[pa.Table]) -> pa.Table:
    import pyarrow as pa

    held: list[pa.Table] = []
    rows, limit = 0, _MERGE
    for part in parts:
        held.append(part)
        rows += len(part)
        if rows > limit:
            held = [_summed(pa.concat_tables(held))]
            rows = len(held[0])
            limit = max(_MERGE, 2 * rows)
    return _summed(pa.concat_tables(held))


def _summed(table: pa.Table) -> pa.Table:
    summed = table.group_by(["label", "split"], use_threads=False).aggregate([("photos", "sum")])
    return summed.rename_columns(["label", "split", "photos"])
