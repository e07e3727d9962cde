"""Reading `labels.csv`: strict about what would silently change a result, lenient about the rest.

Beside what `veduta.datasets.csv_records` refuses of any CSV file, refused with the line: an unknown
split, a path that leaves the root, the same path twice.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets.csv_records import read_records, refuse
from veduta.datasets.dataset import NO_SPLIT, SPLITS
from veduta.errors import readable

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
    line_of: dict[str, int] = {}
    for line, (written, label, split) in read_records(file, ("path", "label"), ("split",)):
        path = _path(file, line, written, inside_root=inside_root)
        if path in line_of:
            refuse(
                file,
                line,
                f"{readable(path)} is already on line {line_of[path]}; keep one of the two",
            )
        line_of[path] = line
        yield LabelledRow(line, path, label.strip() or None, _split(file, line, split))


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


def _split(file: Path, line: int, written: str) -> str:
    split = written.strip().lower()
    split = _SPLIT_ALIASES.get(split, split) or NO_SPLIT
    if split and split not in SPLITS:
        refuse(file, line, f"unknown split {written.strip()!r}; wanted one of {', '.join(SPLITS)}")
    return split
