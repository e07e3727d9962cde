"""Write the labels of a dataset after cleaning, to a new file beside the old one."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from veduta.datasets import Dataset
from veduta.datasets.labels_csv import read_relabelled
from veduta.errors import readable

__all__ = ["write_cleaned_labels"]

_FILE_STEM = "labels.cleaned"


def write_cleaned_labels(
    dataset: Dataset, removed: Collection[str], new_labels: Mapping[str, str]
) -> Path:
    """Write a file for `veduta evaluate DATASET --labels`. No file is overwritten.

    The rows of a labels file keep their columns and their order. For class folders, the columns are
    `path`, `label` and, if there are splits, `split`. Such a file cannot hold names that are not
    UTF-8, so these are left out. So are photos beside the folders of splits, which are in no split.

    Args:
        dataset: the photos.
        removed: paths that are left out.
        new_labels: path → new label.

    Returns:
        The new file.

    Raises:
        DatasetError: the labels file cannot be read any more.
        OSError: the new file cannot be written.
    """
    file = dataset.labels_file
    rows: _Rows
    if file is not None:
        rows = read_relabelled(file, new_labels, dataset.path_of_row)
    else:
        rows = _folder_rows(dataset, new_labels)
    folder = file.parent if file else dataset.root
    number = 1
    while True:
        name = f"{_FILE_STEM}.csv" if number == 1 else f"{_FILE_STEM}-{number}.csv"
        try:
            stream = (folder / name).open("x", encoding="utf-8", newline="")
        except FileExistsError:
            number += 1
            continue
        with stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerows(row for path, row in rows if path not in removed)
        return folder / name


_Rows = Iterable[tuple[str, Sequence[str]]]


def _folder_rows(
    dataset: Dataset, new_labels: Mapping[str, str]
) -> Iterator[tuple[str, Sequence[str]]]:
    has_splits = any(dataset.splits)
    yield "", ("path", "label", *(("split",) if has_splits else ()))
    for path, label, split in zip(dataset.paths, dataset.labels, dataset.splits, strict=True):
        if readable(path) == path and (split or not has_splits):
            new_label = new_labels.get(path) or label or ""
            yield path, (path, new_label, *((split,) if has_splits else ()))
