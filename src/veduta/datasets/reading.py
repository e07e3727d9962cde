"""The one reader of datasets. Everything that reads a dataset from disk calls it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from veduta.datasets.dataset import Dataset
from veduta.datasets.excluded_classes import exclude_classes
from veduta.datasets.folders import read_folder_pair, read_folders
from veduta.datasets.label_columns import SPLIT_COLUMN
from veduta.datasets.labels_csv import LABELS_FILE, read_labels_dataset
from veduta.datasets.split_names import NO_SPLIT
from veduta.errors import DatasetError, readable

__all__ = ["find_labels_file", "open_dataset", "read_dataset"]

# The roles of training and test photos where a dataset names no queries and no gallery.
EVALUATION_ROLES = {"train": "gallery", "test": "query"}


def read_dataset(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    split_column: str = SPLIT_COLUMN,
    keep_columns: bool = False,
    every_photo: bool = False,
    exclude: Sequence[str] = (),
    need_labels: bool = True,
) -> Dataset:
    """Read a dataset of any layout.

    A folder with a `labels.csv` is read from that file. Any other folder holds class folders, or
    the folders of splits with class folders in them: see `veduta.datasets.folders`. Which columns
    of a CSV file are read is decided in `veduta.datasets.label_columns`.

    Args:
        path: a folder, or a CSV file in the folder that its paths are relative to.
        labels: the CSV file to read in place of `labels.csv`: in the folder `path`, or if it is
            not there, relative to the working directory. Its paths are relative to `path` or to
            its own folder.
        queries: a folder of class folders, together with `gallery`; relative to `path` if it exists
            there, to the working directory otherwise. The two folders are read in place of any
            CSV file.
        gallery: the other folder of class folders.
        split_column: the column of the CSV file that holds the split.
        keep_columns: read all columns of a CSV file into `Dataset.further_columns`, accept any word
            as a split, rows without a split, and a file without any label.
        every_photo: in folders, keep photos that cannot be read, that have names that are not
            UTF-8, and that lie in no class folder; accept photos without any label.
        exclude: patterns of photos and folders that are left out, in the syntax of gitignore,
            relative to `path`. `veduta.photos.find_photos` says what else is passed over.
        need_labels: whether folders or a CSV file without any label are refused.

    Returns:
        The dataset. Photos that a CSV file names and that do not exist are left out and listed in
        its problems.

    Raises:
        DatasetError: there is no dataset at `path`, or it has no labels. The message names the
            file and what was wanted.
    """
    folder = Path(path)
    if queries is not None or gallery is not None:
        if queries is None or gallery is None:
            raise DatasetError(f"{readable(folder)}: give both a query folder and a gallery folder")
        if labels is not None:
            raise DatasetError(
                f"{readable(folder)}: labels come from a CSV file or from folder names, not both"
            )
        return read_folder_pair(
            _inside(folder, queries),
            _inside(folder, gallery),
            exclude=exclude,
            need_labels=need_labels,
        )
    file = find_labels_file(folder, labels)
    if file is not None:
        return read_labels_dataset(
            file,
            None if folder.is_file() else folder,
            split_column=split_column,
            keep_columns=keep_columns,
            exclude=exclude,
            need_labels=need_labels,
        )
    if not folder.is_dir():
        circle = os.path.islink(folder) and not folder.exists()
        why = (
            "a link that leads nowhere or in a circle"
            if circle
            else "not a folder and not a CSV file"
        )
        raise DatasetError(f"{readable(folder)}: {why}")
    return read_folders(folder, every_photo=every_photo, exclude=exclude, need_labels=need_labels)


def open_dataset(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    distractors: Sequence[str] = (),
    unknown: Sequence[str] = (),
    exclude: Sequence[str] = (),
    column: str = SPLIT_COLUMN,
    need_labels: bool = True,
) -> Dataset:
    """Read a dataset for an evaluation.

    Without queries and gallery photos, the split `train` becomes `gallery` and `test` becomes
    `query`.

    The classes in `distractors` and `unknown` are no classes: their photos show things that nobody
    looks for, and lose their label. In the gallery and in an unsplit dataset, those of
    `distractors` get the split `distractor`. Among the queries and in an unsplit dataset, those of
    `unknown` get the split `unknown`. A class on both sides must be named in both.

    Args:
        path: as for `read_dataset`.
        labels: as for `read_dataset`.
        queries: as for `read_dataset`.
        gallery: as for `read_dataset`.
        distractors: names of class folders, or labels of the CSV file.
        unknown: names of class folders, or labels of the CSV file.
        exclude: as for `read_dataset`.
        column: the column of the CSV file that holds the split.
        need_labels: as for `read_dataset`.

    Raises:
        DatasetError: as for `read_dataset`; there is no such column; or a class of `distractors`
            or `unknown` does not exist, or only on the other side.
    """
    dataset = read_dataset(
        path,
        labels=labels,
        queries=queries,
        gallery=gallery,
        split_column=column,
        exclude=exclude,
        need_labels=need_labels,
    )
    splits = set(dataset.splits)
    if column != SPLIT_COLUMN and splits <= {NO_SPLIT}:
        raise DatasetError(
            f"{readable(path)}: no column {column!r} says which photos are queries and which are "
            "the gallery; leave out --column, or name a column of the labels file"
        )
    if not splits & {"query", "gallery"} and splits & EVALUATION_ROLES.keys():
        roles = [EVALUATION_ROLES.get(split, split) for split in dataset.splits]
        dataset = dataset.with_splits(roles)
    return exclude_classes(dataset, distractors=distractors, unknown=unknown)


def find_labels_file(path: Path, labels: str | None = None) -> Path | None:
    """Return the CSV file of a dataset; None if its labels are the names of folders.

    Args:
        path: a folder or a CSV file.
        labels: the CSV file, in the folder or relative to the working directory; None:
            `labels.csv`, if it exists.

    Raises:
        DatasetError: `path` is a file, and `labels` names another.
    """
    if path.is_file():
        if labels is not None:
            raise DatasetError(f"{readable(path)}: a file, so --labels has nothing to add")
        return path
    if labels is not None:
        inside = path / labels
        return inside if inside.exists() or not Path(labels).exists() else Path(labels)
    file = path / LABELS_FILE
    return file if os.path.lexists(file) else None  # A link that leads nowhere is reported.


def _inside(folder: Path, part: Path) -> Path:
    inside = folder / part
    return inside if inside.is_dir() else part
