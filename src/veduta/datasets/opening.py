"""One way in: which layout a folder has, and its table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from veduta.datasets.dataset import NO_SPLIT, Dataset, as_table, some_of
from veduta.datasets.folders import class_folders, folder_pair
from veduta.datasets.labels_csv import read_rows
from veduta.datasets.side_classes import with_side_classes
from veduta.errors import DatasetError, readable

__all__ = ["open_dataset"]

_DEFAULT_LABELS = "labels.csv"
_EVALUATION_NAMES = {"train": "gallery", "test": "query"}


def open_dataset(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    distractors: Sequence[str] = (),
    unknown: Sequence[str] = (),
) -> Dataset:
    """Open a labelled collection.

    `path`
        a folder, or a CSV file in the folder that its paths are relative to.
    `labels`
        the CSV file to read, relative to the folder; `labels.csv` is read unasked if it is there.
        Without query and gallery rows, `train` counts as `gallery` and `test` as `query`.
    `queries`, `gallery`
        two folders of class folders, both or neither; relative to `path` when they are there, to
        the working directory otherwise. They go before any CSV file.

    `distractors`, `unknown`
        classes (names of class folders, or labels of the CSV file) that are none: photos of things
        that are not looked for. In the gallery, and in an unsplit collection, those of
        `distractors` get the split `distractor`; among the queries, and in an unsplit collection,
        those of `unknown` get the split `unknown`; both lose their label. A class that is on both
        sides has to be named in both.

    A folder with neither is read as a folder of class folders. Photos that a CSV names and that are
    not there are dropped and told in `Dataset.problems`.

    Raises `DatasetError`, naming the file and what was wanted, when no labels can be had, and when
    a class of `distractors` or `unknown` is not there, or only on the side that it does not serve.
    """
    folder = Path(path)
    opened = _opened(folder, labels, queries, gallery)
    return with_side_classes(opened, distractors=distractors, unknown=unknown)


def _opened(
    folder: Path, labels: str | None, queries: Path | None, gallery: Path | None
) -> Dataset:
    if queries is not None or gallery is not None:
        if queries is None or gallery is None:
            raise DatasetError(f"{readable(folder)}: give both a query folder and a gallery folder")
        if labels is not None:
            raise DatasetError(
                f"{readable(folder)}: labels come from a CSV file or from folder names, not both"
            )
        return folder_pair(_placed(folder, queries), _placed(folder, gallery))
    if labels is None and folder.is_file():
        return _from_csv(folder.parent, folder)
    if not folder.is_dir():
        raise DatasetError(f"{readable(folder)}: not a folder")
    if labels is not None or (folder / _DEFAULT_LABELS).exists():
        return _from_csv(folder, folder / (labels or _DEFAULT_LABELS))
    return class_folders(folder)


def _placed(folder: Path, part: Path) -> Path:
    inside = folder / part
    return inside if inside.is_dir() else part


def _from_csv(root: Path, file: Path) -> Dataset:
    paths: list[str] = []
    labels: list[str | None] = []
    splits: list[str] = []
    lines: list[int] = []
    missing: list[str] = []
    for row in read_rows(file):
        if not os.path.isfile(root / row.path):  # half the cost of Path.is_file
            missing.append(row.path)
            continue
        paths.append(row.path)
        labels.append(row.label)
        splits.append(row.split)
        lines.append(row.line)
    _check_content(file, labels, splits, lines, missing)
    problems: tuple[str, ...] = ()
    if missing:
        problems = (f"{readable(file)}: {len(missing)} missing, left out ({some_of(missing)})",)
    if not {"query", "gallery"}.intersection(splits):
        splits = [_EVALUATION_NAMES.get(split, split) for split in splits]
    return Dataset(root, as_table(paths, labels, splits), problems)


def _check_content(
    file: Path,
    labels: list[str | None],
    splits: list[str],
    lines: list[int],
    missing: list[str],
) -> None:
    if not labels and missing:
        raise DatasetError(
            f"{readable(file)}: none of its {len(missing)} photos is there ({some_of(missing)}); "
            f"paths are taken from {readable(file.parent)}"
        )
    if not any(labels):
        raise DatasetError(f"{readable(file)}: holds no labelled photo")
    if any(splits) and NO_SPLIT in splits:
        raise DatasetError(
            f"{readable(file)}, line {lines[splits.index(NO_SPLIT)]}: the split is empty, but "
            "other rows have one"
        )
