"""Counting the labels of a CSV file of any length, without its photos.

Arrow reads the file in blocks, and memory holds the classes and a few blocks. A file that Arrow
refuses is read again by `veduta.datasets.csv_records`, which is slower and either accepts it or
names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.datasets.csv_records import normalised, read_separator, read_table
from veduta.datasets.label_columns import check_once, group_position, match_columns
from veduta.datasets.split_names import split_named
from veduta.errors import DatasetError, readable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LabelList", "count_labels", "find_label_list"]

BLOCK_BYTES = 1 << 19

MAX_PENDING_ROWS = 200_000
"""Rows of partial counts that are held before they are summed."""

BATCH_RECORDS = 100_000
"""Records of the slow reader that are counted at a time."""

NO_LANDMARK = "None"
"""The label of photos without a landmark in the first edition of Google's CSV files."""


@dataclass(frozen=True, slots=True)
class LabelList:
    """The columns of a CSV file of labels that are counted.

    Attributes:
        file: the CSV file.
        header_line: the line of the header, counted from 1.
        width: number of columns.
        label: position of the label.
        split: position of the split; None if the file has none.
        photo_lists: position of the column that lists photos, separated by spaces; None if each row
            is one photo.
        names_photos: whether a column holds the paths of photos.
        has_groups: whether rows may have the label of their group. Such rows are not counted here
            but read (`veduta.datasets.labels_csv`).
        is_landmarks: whether the file is one of Google Landmarks.
    """

    file: Path
    header_line: int
    width: int
    label: int
    split: int | None = None
    photo_lists: int | None = None
    names_photos: bool = False
    has_groups: bool = False
    is_landmarks: bool = False

    @property
    def positions(self) -> list[int]:
        """The columns that are read."""
        columns = (self.label, self.split, self.photo_lists)
        return [position for position in columns if position is not None]


def find_label_list(file: Path) -> LabelList:
    """Find the columns that hold the labels of a CSV file.

    The file is one of Google Landmarks (`id,url,landmark_id`), its cleaned list
    (`landmark_id,images`), or a labels file as in `veduta.datasets.label_columns`.

    Args:
        file: the CSV file.

    Raises:
        DatasetError: no column holds labels. The message names the columns that the file has.
    """
    records = read_table(file)
    line, header = next(records, (1, []))
    names = [normalised(name) for name in header]
    path, label, split = match_columns(header, next(records, (2, []))[1])
    if path is None and "landmark_id" in names:
        cleaned = "images" in names and "id" not in names
        found = LabelList(
            file,
            line,
            len(header),
            names.index("landmark_id"),
            photo_lists=names.index("images") if cleaned else None,
            is_landmarks=True,
        )
    elif label is not None:
        found = LabelList(
            file,
            line,
            len(header),
            label,
            split,
            names_photos=path is not None,
            has_groups=path is not None and group_position(header) is not None,
        )
    else:
        columns = ", ".join(repr(name) for name in header) or "none"
        alone = len(header) == 1 and header[0]
        hint = "; separate the columns with commas, semicolons or tabs" if alone else ""
        raise DatasetError(
            f"{readable(file)}, line {line}: no column of labels; found {columns}; wanted 'path' "
            f"and 'label', or 'id', 'url' and 'landmark_id' as in Google Landmarks{hint}"
        )
    check_once(file, line, header, found.positions)
    return found


def count_labels(
    labels: LabelList, on_progress: Callable[[int, int], None] | None = None
) -> pa.Table:
    """Count the photos of each label and split.

    Args:
        labels: the columns to count.
        on_progress: called with the rows so far and an estimate of all rows.

    Returns:
        One row for each label and split: `label`, `split` (strings), `photos` (int64). Rows without
        a label have the label "".

    Raises:
        DatasetError: the file is refused by `veduta.datasets.csv_records`. The message names the
            line.
    """
    import pyarrow as pa

    try:
        return _merged(_count_blocks(labels, on_progress))
    except pa.ArrowInvalid:
        return _merged(_count_records(labels))
    except OSError as error:
        raise DatasetError(f"{readable(labels.file)}: cannot be read: {error.strerror}") from error


def _count_blocks(
    labels: LabelList, on_progress: Callable[[int, int], None] | None
) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow import csv

    names = list(map(str, range(labels.width)))
    columns = list(map(str, labels.positions))
    separator = read_separator(labels.file)
    size = labels.file.stat().st_size
    rows = 0
    with pa.OSFile(str(labels.file)) as source:
        reader = csv.open_csv(
            source,
            # One thread is as fast here, and holds fewer blocks.
            csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                skip_rows=labels.header_line,
                column_names=names,
            ),
            csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            rows += len(batch)
            yield _partial(pa.table(batch), labels)
            if on_progress:
                on_progress(rows, max(rows, rows * size // max(1, source.tell())))


def _count_records(labels: LabelList) -> Iterator[pa.Table]:
    import pyarrow as pa

    rows: list[list[str]] = []

    def table() -> pa.Table:
        columns = {
            str(n): pa.array([row[n] for row in rows], pa.string()) for n in labels.positions
        }
        return _partial(pa.table(columns), labels)

    records = read_table(labels.file)
    next(records, None)
    for _line, fields in records:
        rows.append(fields)
        if len(rows) == BATCH_RECORDS:
            yield table()
            rows.clear()
    yield table()


def _partial(rows: pa.Table, labels: LabelList) -> pa.Table:
    """Count some rows: `label`, `split`, `photos`. A label may come several times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    label = rows[str(labels.label)]
    if labels.photo_lists is not None:
        listed = pc.utf8_trim_whitespace(rows[str(labels.photo_lists)])
        photos = pc.if_else(pc.equal(listed, ""), 0, pc.add(pc.count_substring(listed, " "), 1))
        photos = photos.cast(pa.int64())
    elif labels.split is not None:
        photos = pa.repeat(pa.scalar(1, pa.int64()), len(rows))
    else:
        # Counting values is three times as fast as grouping each block.
        counted = label.value_counts()
        label, photos = counted.field("values"), counted.field("counts")
    if labels.is_landmarks:
        label = pc.if_else(pc.equal(label, NO_LANDMARK), "", label)
    split = (
        pa.repeat(pa.scalar(""), len(label)) if labels.split is None else rows[str(labels.split)]
    )
    return pa.table({"label": label, "split": split, "photos": photos})


def _merged(parts: Iterator[pa.Table]) -> pa.Table:
    import pyarrow as pa

    pending: list[pa.Table] = []
    rows, limit = 0, MAX_PENDING_ROWS
    for part in parts:
        pending.append(part)
        rows += len(part)
        if rows > limit:
            pending = [_summed(pa.concat_tables(pending))]
            rows = len(pending[0])
            limit = max(MAX_PENDING_ROWS, 2 * rows)
    return _with_split_names(_summed(pa.concat_tables(pending)))


def _summed(table: pa.Table) -> pa.Table:
    summed = table.group_by(["label", "split"], use_threads=False).aggregate([("photos", "sum")])
    return summed.rename_columns(["label", "split", "photos"])


def _with_split_names(table: pa.Table) -> pa.Table:
    """Replace the words of the split column by the splits that they stand for."""
    import pyarrow as pa

    words = table["split"].combine_chunks().dictionary_encode()
    names = [split_named(word) or word.strip() for word in words.dictionary.to_pylist()]
    splits = pa.array(names, pa.string()).take(words.indices)
    return _summed(table.set_column(table.schema.get_field_index("split"), "split", splits))
