"""Labels files: CSV files with one photo a row.

Refused with the line, besides what `veduta.datasets.csv_records` refuses: an unknown split, a path
that leaves the folder of the file, and a path that occurs twice.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets.csv_records import read_table, refuse
from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.label_columns import SPLIT_COLUMN, LabelColumns, find_columns
from veduta.datasets.split_names import NO_SPLIT, SPLITS, split_named
from veduta.errors import DatasetError, readable

__all__ = [
    "LABELS_FILE",
    "LabelledRow",
    "read_labels_csv",
    "read_labels_dataset",
    "read_relabelled",
    "read_rows",
]

LABELS_FILE = "labels.csv"
"""The name of the labels file that is read from a folder by default."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row of a labels file.

    Attributes:
        line: the line of the row, counted from 1.
        path: the normalised path of the photo, with forward slashes.
        label: the label; None if it is empty.
        split: one of `SPLITS`, `NO_SPLIT`, or another word where the reader allows it.
        written_split: the split as the file has it.
        fields: all fields of the row.
    """

    line: int
    path: str
    label: str | None
    split: str
    written_split: str
    fields: list[str]


def read_labels_csv(path: str | os.PathLike[str]) -> dict[bytes, str]:
    """Return the labels of a labels file by absolute path, for any index.

    Paths in the file are relative to its folder, or absolute. They may lead out of the folder.
    Links are not followed. Rows without a label are left out.

    Args:
        path: the labels file.

    Returns:
        Absolute path as bytes → label. `labels.get(os.path.abspath(photo))` is the label of a
        photo, whatever folder the index was built from.

    Raises:
        DatasetError: as the module docstring says, except that paths may leave the folder.
    """
    file = Path(path)
    folder = os.path.abspath(file.parent)
    rows = read_rows(file, inside_root=False)
    return {
        os.fsencode(os.path.normpath(os.path.join(folder, row.path))): row.label
        for row in rows
        if row.label is not None
    }


def read_rows(
    file: Path,
    columns: LabelColumns | None = None,
    *,
    inside_root: bool = True,
    any_split: bool = False,
) -> Iterator[LabelledRow]:
    """Yield the rows of a labels file in order, one at a time.

    Args:
        file: the labels file.
        columns: the positions of its columns; None: those of `find_columns`.
        inside_root: refuse absolute paths and those that leave the folder with `..`.
        any_split: accept any word as a split.

    Yields:
        The rows.

    Raises:
        DatasetError: as the module docstring says. The message names file, line and remedy.
    """
    columns = columns or find_columns(file)
    line_of: dict[str, int] = {}
    records = read_table(file)
    next(records, None)
    for line, fields in records:
        path = _path(file, line, fields[columns.path], inside_root=inside_root)
        if path in line_of:
            refuse(
                file,
                line,
                f"{readable(path)} is already on line {line_of[path]}; keep one of the two",
            )
        line_of[path] = line
        label = fields[columns.label].strip() or None
        written = "" if columns.split is None else fields[columns.split].strip()
        split = _split(file, line, written, any_split=any_split)
        yield LabelledRow(line, path, label, split, written, fields)


def read_relabelled(file: Path, labels: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield all columns of a labels file with some labels changed.

    Args:
        file: the labels file.
        labels: path → new label. The other rows keep their label.

    Yields:
        "" and the header; then the path and the fields of each row.

    Raises:
        DatasetError: as the module docstring says.
    """
    columns = find_columns(file)
    yield "", list(columns.header)
    for row in read_rows(file, columns, any_split=True):
        fields = list(row.fields)
        fields[columns.label] = labels.get(row.path, fields[columns.label])
        yield row.path, fields


def read_labels_dataset(
    file: Path, *, split_column: str = SPLIT_COLUMN, keep_columns: bool = False
) -> Dataset:
    """Read a labels file and check which of its photos exist.

    Args:
        file: the labels file. Its folder is the root of the dataset.
        split_column: name of the column that holds the split.
        keep_columns: also read the further columns, accept any word as a split, and accept rows
            without a split beside rows that have one and a file without any label.

    Returns:
        The dataset. Photos that do not exist are left out and listed in its problems.

    Raises:
        DatasetError: as the module docstring says, and if none of the photos exists.
    """
    root = file.parent
    columns = find_columns(file, split_column=split_column)
    further = columns.further if keep_columns else {}
    if keep_columns:
        _check_names(file, columns)
    paths: list[str] = []
    labels: list[str | None] = []
    splits: list[str] = []
    written_splits: list[str] = []
    values: dict[str, list[str]] = {name: [] for name in further}
    missing: list[str] = []
    first_unsplit: int | None = None
    for row in read_rows(file, columns, any_split=keep_columns):
        # os.path.isfile costs half as much as Path.is_file.
        if not os.path.isfile(root / row.path):
            missing.append(row.path)
            continue
        paths.append(row.path)
        labels.append(row.label)
        splits.append(row.split)
        written_splits.append(row.written_split)
        if row.split == NO_SPLIT and first_unsplit is None:
            first_unsplit = row.line
        for name, position in further.items():
            values[name].append(row.fields[position])
    if not paths and missing:
        raise DatasetError(
            f"{readable(file)}: none of its {len(missing)} photos is there ({some_of(missing)}); "
            f"paths are taken from {readable(file.parent)}"
        )
    if not paths or not (keep_columns or any(labels)):
        raise DatasetError(f"{readable(file)}: holds no labelled photo")
    if first_unsplit is not None and any(splits) and not keep_columns:
        raise DatasetError(
            f"{readable(file)}, line {first_unsplit}: the split is empty, but other rows have one"
        )
    problem = f"{readable(file)}: {len(missing)} missing, left out ({some_of(missing)})"
    return Dataset(
        root,
        as_table(paths, labels, splits),
        (problem,) if missing else (),
        labels_file=file,
        written_splits=tuple(written_splits),
        further_columns={name: tuple(column) for name, column in values.items()},
    )


def _check_names(file: Path, columns: LabelColumns) -> None:
    """Refuse further columns of one name."""
    names = [name.strip().lower() for name in columns.header if name.strip()]
    for name in names:
        if names.count(name) > 1:
            refuse(file, columns.line, f"the column {name!r} is there {names.count(name)} times")


def _path(file: Path, line: int, written: str, *, inside_root: bool) -> str:
    if not written.strip():
        refuse(file, line, "the path is empty")
    if "\0" in written:
        refuse(file, line, "the path holds a NUL character")
    path = posixpath.normpath(written)
    if inside_root and (path.startswith("/") or path.split("/", 1)[0] == ".."):
        refuse(
            file,
            line,
            f"{readable(written)} leads out of the dataset; write paths relative to its folder",
        )
    return path


def _split(file: Path, line: int, written: str, *, any_split: bool) -> str:
    split = split_named(written)
    if split is not None:
        return split
    if written and not any_split:
        refuse(file, line, f"unknown split {written!r}; wanted one of {', '.join(SPLITS)}")
    return written or NO_SPLIT
