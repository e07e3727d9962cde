"""The labels of a dataset as they would be after cleaning, in a new file beside the old one."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from veduta.datasets import Dataset
from veduta.datasets.labels_csv import read_relabelled
from veduta.errors import readable

__all__ = ["write_labels"]

_NAME = "labels.cleaned"


def write_labels(photos: Dataset, gone: Collection[str], labels: Mapping[str, str]) -> Path:
    """Write what `veduta evaluate DATASET --labels` reads; nothing is overwritten.

    A labels file keeps its columns and their order. Photos of class folders get the columns `path`,
    `label` and, of folders of splits, `split`; names that are not UTF-8 have no place in such a
    file and are left out.

    Args:
        photos: the dataset.
        gone: paths that are left out.
        labels: path → another label.

    Raises:
        DatasetError: the labels file does not read any more.
        OSError: the new file cannot be written.
    """
    file = photos.labels_file
    rows: _Rows = read_relabelled(file, labels) if file else _listed(photos, labels)
    number = 1
    while True:
        name = f"{_NAME}.csv" if number == 1 else f"{_NAME}-{number}.csv"
        folder = file.parent if file else photos.root
        try:
            out = (folder / name).open("x", encoding="utf-8", newline="")
        except FileExistsError:
            number += 1
            continue
        with out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerows(row for path, row in rows if path not in gone)
        return folder / name


_Rows = Iterable[tuple[str, Sequence[str]]]


def _listed(photos: Dataset, labels: Mapping[str, str]) -> Iterator[tuple[str, Sequence[str]]]:
    split = any(photos.splits)
    yield "", ("path", "label", *(("split",) if split else ()))
    for path, label, part in zip(photos.paths, photos.labels, photos.splits, strict=True):
        if readable(path) == path:
            yield path, (path, labels.get(path) or label or "", *((part,) if split else ()))
