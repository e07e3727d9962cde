"""Labels files: CSV files with one photo a row.

Refused with the line, besides what `veduta.datasets.csv_records` refuses: an unknown split, a path
that leaves the folder of the dataset, a path that occurs twice, and a row without a label whose
`label_group` has two.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from veduta.datasets.csv_records import read_table, refuse
from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.label_columns import SPLIT_COLUMN, LabelColumns, find_columns
from veduta.datasets.row_matching import MatchedRows, match_rows
from veduta.datasets.split_names import NO_SPLIT, SPLITS, split_named
from veduta.errors import DatasetError, native_path, readable
from veduta.photos.finding import ExcludedPhotos, find_photos
from veduta.text import composed, count

__all__ = [
    "LABELS_FILE",
    "LabelledRow",
    "LabelsFile",
    "PhotoLabels",
    "read_labels_dataset",
    "read_relabelled",
    "read_rows",
]

LABELS_FILE = "labels.csv"
"""The name of the labels file that is read from a folder by default."""

MAX_EXAMPLES = 3
"""How many rows that name no photo a message names."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row of a labels file.

    Attributes:
        line: the line of the row, counted from 1.
        path: the normalised path of the photo, with forward slashes.
        label: the label of the row or of its group; None if both are empty.
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


@dataclass(frozen=True, slots=True)
class PhotoLabels:
    """The labels that a labels file gives to the photos of an index.

    Attributes:
        label_of: absolute path as bytes → label. Photos that no row names are missing.
        notes: how rows were matched, and which rows name no photo, one sentence each.
    """

    label_of: Mapping[bytes, str]
    notes: tuple[str, ...]


class _NamedLabel(NamedTuple):
    line: int
    path: str
    label: str | None


class LabelsFile:
    """A labels file for any photos, such as those of an index.

    Attributes:
        file: the labels file.
        rows: its rows. Paths may be absolute, or lead out of the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file.

        Args:
            path: the labels file.

        Raises:
            DatasetError: as the module docstring says, except that paths may leave the folder; or
                there is no row.
        """
        self.file = Path(path)
        rows = read_rows(self.file)
        self.rows = [_NamedLabel(row.line, row.path, row.label) for row in rows]
        if not self.rows:
            raise DatasetError(f"{readable(self.file)}: holds no labelled photo")

    def match(
        self, photos: Iterable[bytes], folders: Iterable[str | bytes | os.PathLike[str]] = ()
    ) -> PhotoLabels:
        """Return the labels of photos.

        Paths in the file are relative to its folder or to one of `folders`, or absolute. Links are
        not followed. `veduta.datasets.row_matching` says which differences are forgiven.

        Args:
            photos: absolute paths.
            folders: absolute folders of photos.

        Raises:
            DatasetError: there are photos, and no row names one; or a row could name two, or two
                rows name one.
        """
        known = {os.fsdecode(path) for path in photos}
        bases = [os.path.abspath(self.file.parent), *map(os.fsdecode, folders)]
        bases = list(dict.fromkeys(bases))
        matched = match_rows(
            self.file, self.rows, bases, exists=known.__contains__, photos=lambda: known
        )
        missing = [
            row.path for row, photo in zip(self.rows, matched.photos, strict=True) if photo is None
        ]
        if known and len(missing) == len(self.rows):
            raise DatasetError(_none_there(self.file, missing, bases))
        notes = list(matched.notes)
        if missing:
            notes.append(
                f"{readable(self.file)}: {count(len(missing), 'row names', 'rows name')} no photo, "
                f"of {len(self.rows):,} ({some_of(missing, MAX_EXAMPLES)})"
            )
        pairs = zip(self.rows, matched.photos, strict=True)
        label_of = {
            os.fsencode(photo): row.label for row, photo in pairs if photo and row.label is not None
        }
        return PhotoLabels(label_of, tuple(notes))


def read_rows(
    file: Path,
    columns: LabelColumns | None = None,
    *,
    any_split: bool = False,
) -> Iterator[LabelledRow]:
    """Yield the rows of a labels file in order, one at a time.

    Args:
        file: the labels file.
        columns: the positions of its columns; None: those of `find_columns`.
        any_split: accept any word as a split.

    Yields:
        The rows.

    Raises:
        DatasetError: as the module docstring says, except that paths may leave the folder. The
            message names file, line and remedy.
    """
    columns = columns or find_columns(file)
    label_of_group = _GroupLabels(file, columns)
    line_of: dict[str, int] = {}
    records = read_table(file)
    next(records, None)
    for line, fields in records:
        path = _path(file, line, fields[columns.path])
        if path in line_of:
            refuse(
                file,
                line,
                f"{readable(path)} is already on line {line_of[path]}; keep one of the two",
            )
        line_of[path] = line
        label = _label(fields, columns) or label_of_group(line, fields)
        written = "" if columns.split is None else fields[columns.split].strip()
        split = _split(file, line, written, any_split=any_split)
        yield LabelledRow(line, path, label, split, written, fields)


def _label(fields: Sequence[str], columns: LabelColumns) -> str | None:
    """Return the label that a row has itself."""
    return None if columns.label is None else composed(fields[columns.label].strip()) or None


class _GroupLabels:
    """The label of each group of rows, see `veduta.datasets.label_columns`."""

    def __init__(self, file: Path, columns: LabelColumns) -> None:
        self._file, self._columns = file, columns
        self._lines: dict[str, dict[str, int]] = {}
        """Group → label → the first line that has it."""
        if columns.group is None:
            return
        records = read_table(file)
        next(records, None)
        for line, fields in records:
            group, label = fields[columns.group].strip(), _label(fields, columns)
            if group and label is not None:
                self._lines.setdefault(group, {}).setdefault(label, line)

    def __call__(self, line: int, fields: Sequence[str]) -> str | None:
        """Return the label of the group of a row without a label; None without one."""
        if self._columns.group is None:
            return None
        group = fields[self._columns.group].strip()
        lines = self._lines.get(group, {})
        if len(lines) > 1:
            named = ", ".join(f"{label!r} on line {at}" for label, at in list(lines.items())[:2])
            refuse(
                self._file,
                line,
                f"the row has no label, and its group {group!r} has {len(lines)} ({named}); label "
                "this row too, or empty the column label_group in the rows of another label",
            )
        return next(iter(lines), None)


def read_relabelled(
    file: Path, labels: Mapping[str, str], path_of: Mapping[str, str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield all columns of a labels file with some labels changed.

    Args:
        file: the labels file.
        labels: path → new label. The other rows keep their label.
        path_of: path as the file has it → path of the photo, see `Dataset.written_paths`. A row
            that is not in it has its own path.

    Yields:
        "" and the header; then the path of the photo and the fields of each row.

    Raises:
        DatasetError: as the module docstring says.
    """
    columns = find_columns(file)
    yield "", list(columns.header)
    for row in read_rows(file, columns, any_split=True):
        fields = list(row.fields)
        path = path_of.get(row.path, row.path)
        if columns.label is not None:
            own = row.label or "" if columns.group is not None else fields[columns.label]
            fields[columns.label] = labels.get(path, own)
        yield path, fields


def read_labels_dataset(
    file: Path,
    folder: Path | None = None,
    *,
    split_column: str = SPLIT_COLUMN,
    keep_columns: bool = False,
    exclude: Sequence[str] = (),
    need_labels: bool = True,
) -> Dataset:
    """Read a labels file and check which of its photos exist.

    Args:
        file: the labels file.
        folder: the folder of the dataset, which is its root; None: the folder of the file. Paths
            are relative to it or to the folder of the file. Where no photo has that path,
            `veduta.datasets.row_matching` says which differences are forgiven.
        split_column: name of the column that holds the split.
        keep_columns: also read the further columns, accept any word as a split, and accept rows
            without a split beside rows that have one and a file without any label.
        exclude: patterns of photos that are left out, as for `veduta.photos.find_photos`.
        need_labels: whether a file without any label, or without a column for it, is refused.

    Returns:
        The dataset. Photos that do not exist are left out and listed in its problems.

    Raises:
        DatasetError: as the module docstring says, and if none of the photos exists.
    """
    root = file.parent if folder is None else folder
    columns = find_columns(file, split_column=split_column, need_label=need_labels)
    if keep_columns:
        _check_names(file, columns)
    rows = list(read_rows(file, columns, any_split=keep_columns))
    matched, bases = _matched_in(root, file, rows, columns)
    base = os.path.join(os.path.abspath(root), "")
    missing = [row.path for row, photo in zip(rows, matched.photos, strict=True) if photo is None]
    if rows and len(missing) == len(rows):
        raise DatasetError(_none_there(file, missing, bases))
    found = [(row, photo) for row, photo in zip(rows, matched.photos, strict=True) if photo]
    excluded_photos = ExcludedPhotos(os.fsencode(os.path.abspath(root)), exclude)
    excluded = {photo for _, photo in found if os.fsencode(photo) in excluded_photos}
    found = [(row, photo) for row, photo in found if photo not in excluded]
    if excluded and not found:
        raise DatasetError(f"{readable(file)}: all of its photos are excluded by patterns")
    if not found or not (keep_columns or not need_labels or any(row.label for row, _ in found)):
        raise DatasetError(f"{readable(file)}: holds no labelled photo")
    unsplit = [row.line for row, _ in found if row.split == NO_SPLIT]
    if unsplit and any(row.split for row, _ in found) and not keep_columns:
        raise DatasetError(
            f"{readable(file)}, line {unsplit[0]}: the split is empty, but other rows have one"
        )
    further = columns.further if keep_columns else {}
    problems = list(matched.notes)
    if missing:
        problems.append(
            f"{readable(file)}: {len(missing)} missing, left out ({some_of(missing, 1)})"
        )
    if excluded:
        names = sorted(os.path.relpath(photo, root) for photo in excluded)
        problems.append(
            f"{readable(file)}: {len(excluded)} excluded by patterns ({some_of(names)})"
        )
    return Dataset(
        root,
        as_table(
            [readable(Path(photo[len(base) :]).as_posix()) for _, photo in found],
            [row.label for row, _ in found],
            [row.split for row, _ in found],
        ),
        tuple(problems),
        labels_file=file,
        written_splits=tuple(row.written_split for row, _ in found),
        written_paths=tuple(row.path for row, _ in found),
        further_columns={
            name: tuple(row.fields[position] for row, _ in found)
            for name, position in further.items()
        },
    )


def _matched_in(
    root: Path, file: Path, rows: Sequence[LabelledRow], columns: LabelColumns
) -> tuple[MatchedRows, list[str]]:
    """Return the photos below a folder that rows name, and the folders that were tried."""
    base = os.path.abspath(root)
    inside = os.path.join(base, "")
    bases = list(dict.fromkeys((os.path.abspath(file.parent), base)))
    for row in rows:
        whole = os.path.isabs(row.path)
        if row.path.split("/", 1)[0] == ".." or (whole and os.path.isfile(row.path)):
            places = (os.path.normpath(os.path.join(base, row.path)) for base in bases)
            if not any(place.startswith(inside) for place in places):
                refuse(
                    file,
                    row.line,
                    f"{readable(row.fields[columns.path])} leads out of the dataset; write paths "
                    "relative to its folder",
                )

    def exists(path: str) -> bool:
        return path.startswith(inside) and os.path.isfile(path)

    def photos() -> Iterator[str]:
        return (os.fsdecode(photo.path) for photo in find_photos([base]))

    return match_rows(file, rows, bases, exists=exists, photos=photos), bases


def _none_there(file: Path, missing: Sequence[str], bases: Sequence[str]) -> str:
    return (
        f"{readable(file)}: none of its {len(missing)} photos is there "
        f"({some_of(missing, MAX_EXAMPLES)}); paths are taken from "
        f"{' and from '.join(map(readable, bases))}"
    )


def _check_names(file: Path, columns: LabelColumns) -> None:
    """Refuse further columns of one name."""
    names = [name.strip().lower() for name in columns.header if name.strip()]
    for name in names:
        if names.count(name) > 1:
            refuse(file, columns.line, f"the column {name!r} is there {names.count(name)} times")


def _path(file: Path, line: int, written: str) -> str:
    if not written.strip():
        refuse(file, line, "the path is empty")
    if "\0" in written:
        refuse(file, line, "the path holds a NUL character")
    path = posixpath.normpath(written)
    return native_path(path)


def _split(file: Path, line: int, written: str, *, any_split: bool) -> str:
    split = split_named(written)
    if split is not None:
        return split
    if written and not any_split:
        refuse(file, line, f"unknown split {written!r}; wanted one of {', '.join(SPLITS)}")
    return written or NO_SPLIT
