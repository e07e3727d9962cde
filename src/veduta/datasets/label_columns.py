"""Which columns of a CSV file hold the photo, the label and the split.

Veduta's own names are `path`, `label` and `split`. A file with `path` and `label` is read by these
names alone. In any other file the columns are found by the usual names below. What is still not
found is decided by the content: the path is the only column whose first value is the name of a
photo file, and the label is the only column that is left.

Rows with the same text in a column `label_group` share one label, which is written in any of them.
So a person names a group of photos in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets.csv_records import normalised, read_table, refuse, refuse_columns

__all__ = [
    "GROUP_COLUMN",
    "SPLIT_COLUMN",
    "LabelColumns",
    "check_once",
    "find_columns",
    "group_position",
    "match_columns",
]

SPLIT_COLUMN = "split"
GROUP_COLUMN = "label_group"

PATH_NAMES = (
    "path",
    "file",
    "file_name",
    "filename",
    "file_path",
    "filepath",
    "image",
    "image_path",
    "image_file",
    "image_name",
    "img",
    "img_path",
    "photo",
    "photo_path",
    "photo_file",
    "relative_path",
)
LABEL_NAMES = (
    "label",
    "labels",
    "label_name",
    "class",
    "class_name",
    "classname",
    "category",
    "landmark",
    "landmark_name",
    "landmark_id",
    "place",
    "species",
    "target",
)
SPLIT_NAMES = ("split", "subset", "partition", "set")


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """Positions of the columns of a CSV file of labels.

    Attributes:
        line: the line of the header, counted from 1.
        header: the names of all columns, as they are written.
        path: position of the path of the photo.
        label: position of the label; None if the file has none and needs none.
        split: position of the split; None if the file has none.
        group: position of `label_group`; None if the file has none.
    """

    line: int
    header: tuple[str, ...]
    path: int
    label: int | None
    split: int | None
    group: int | None = None

    @property
    def further(self) -> dict[str, int]:
        """Name → position of the other columns. Columns without a name are left out."""
        known = (self.path, self.label, self.split, self.group)
        return {
            name.strip(): position
            for position, name in enumerate(self.header)
            if position not in known and name.strip()
        }


def find_columns(
    file: Path, *, split_column: str = SPLIT_COLUMN, need_label: bool = True
) -> LabelColumns:
    """Find the columns of a CSV file of labels.

    Args:
        file: the file.
        split_column: name of the column that holds the split.
        need_label: whether a file without a label is refused.

    Raises:
        DatasetError: the path or the label is not found, or a column has a name twice. The message
            names the columns that the file has.
    """
    records = read_table(file)
    line, header = next(records, (1, []))
    path, label, split = match_columns(header, next(records, (2, []))[1], split_column)
    if path is None or (label is None and need_label):
        positions = {"path": path, "label": label}
        missing = [name for name, position in positions.items() if position is None]
        refuse_columns(file, line, missing, header, tuple(positions), (split_column,))
    group = group_position(header)
    check_once(file, line, header, (path, label, split, group))
    return LabelColumns(line, tuple(header), path, label, split, group)


def match_columns(
    header: Sequence[str], first_row: Sequence[str], split_column: str = SPLIT_COLUMN
) -> tuple[int | None, int | None, int | None]:
    """Return the positions of path, label and split; None for what is not found.

    Args:
        header: the names of the columns.
        first_row: the fields of the first row below; empty if there is none.
        split_column: name of the column that holds the split.
    """
    names = [_normalised(name) for name in header]
    split = _position(names, (_normalised(split_column),))
    if split is None and split_column == SPLIT_COLUMN and not {"path", "label"} <= set(names):
        split = _position(names, SPLIT_NAMES)
    path = _position(names, PATH_NAMES)
    if path is None:
        path = _only([n for n, value in enumerate(first_row) if _is_photo_name(value)])
    label = _position(names, LABEL_NAMES)
    if label is None and path is not None:
        known = (path, split, group_position(header))
        label = _only([n for n, name in enumerate(names) if name and n not in known])
    return path, label, split


def group_position(header: Sequence[str]) -> int | None:
    """Return the position of the column `label_group`; None if the file has none."""
    return _position([_normalised(name) for name in header], (GROUP_COLUMN,))


def check_once(
    file: Path, line: int, header: Sequence[str], positions: Sequence[int | None]
) -> None:
    """Raise `DatasetError` if another column has the name of one of these."""
    names = [_normalised(name) for name in header]
    for position in positions:
        if position is not None and names.count(names[position]) > 1:
            count = names.count(names[position])
            refuse(file, line, f"the column {names[position]!r} is there {count} times")


def _normalised(name: str) -> str:
    return normalised(name).replace(" ", "_").replace("-", "_")


def _position(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _only(positions: Sequence[int]) -> int | None:
    return positions[0] if len(positions) == 1 else None


def _is_photo_name(value: str) -> bool:
    from veduta.photos.formats import EXTENSIONS

    ending = value.strip().rpartition(".")[2].lower()
    known = {name for names in EXTENSIONS.values() for name in names}
    return "://" not in value and "." in value and ending in known
