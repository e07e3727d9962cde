"""What a described thing is: a collection with its photos, or a list of labels alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.datasets import Dataset, open_dataset
from veduta.datasets.dataset import as_table
from veduta.errors import DatasetError, readable
from veduta.explore.csv_counts import count_csv, csv_kind

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Source", "open_source"]

_SPLIT_OF_FOLDER = {
    "query": "query",
    "queries": "query",
    "gallery": "gallery",
    "database": "gallery",
    "distractor": "distractor",
    "distractors": "distractor",
    "junk": "junk",
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


@dataclass(frozen=True, slots=True)
class Source:
    """`counted`: `label`, `split`, `photos` as `class_sizes` wants it. `dataset`: with photos."""

    counted: pa.Table
    dataset: Dataset | None


def open_source(
    path: Path,
    *,
    labels: str | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    photos: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Open what `veduta.explore.describe` describes; the arguments are its own.

    Raises `DatasetError` when it is nothing that has labels.
    """
    file = _csv_file(path, labels) if queries is None and gallery is None else None
    if file is not None and file.is_file():
        kind = csv_kind(file)
        if kind.label != "label" or not photos:
            return Source(count_csv(file, kind, on_progress), None)
    if labels is None and queries is None and gallery is None and file is None:
        parts = _split_folders(path)
        dataset = _of_parts(path, parts) if parts else open_dataset(path)
    else:
        dataset = open_dataset(path, labels=labels, queries=queries, gallery=gallery)
    table = dataset.table.group_by(["label", "split"]).aggregate([("path", "count")])
    return Source(table.rename_columns(["label", "split", "photos"]), dataset)


def _csv_file(path: Path, labels: str | None) -> Path | None:
    if path.is_file():
        if labels is not None:
            raise DatasetError(f"{readable(path)}: a file, so --labels has nothing to add")
        return path
    if labels is not None:
        return path / labels
    usual = path / "labels.csv"
    return usual if usual.exists() else None


def _split_folders(path: Path) -> dict[str, str]:
    """Return folder → split when every folder directly in `path` is named after a split."""
    if not path.is_dir():
        return {}
    with os.scandir(path) as entries:
        folders = sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )
    splits = {name: _SPLIT_OF_FOLDER.get(name.lower(), "") for name in folders}
    return splits if len(splits) > 1 and all(splits.values()) else {}


def _of_parts(root: Path, split_of: dict[str, str]) -> Dataset:
    paths: list[str] = []
    labels: list[str | None] = []
    splits: list[str] = []
    problems: list[str] = []
    for folder, split in split_of.items():
        part = open_dataset(root / folder)
        paths += [f"{folder}/{path}" for path in part.table["path"].to_pylist()]
        labels += part.table["label"].to_pylist()
        splits += [split] * len(part.table)
        problems += part.problems
    return Dataset(root, as_table(paths, labels, splits), tuple(problems))
