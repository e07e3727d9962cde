"""The photos of a folder that is to be cleaned: all of them, also those that nobody can read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets import SPLITS, open_dataset
from veduta.errors import DatasetError, readable

__all__ = ["DatasetPhotos", "open_photos"]

_SPLIT_FOLDERS = frozenset({*SPLITS, "queries", "distractors", "val", "valid", "validation"})


@dataclass(frozen=True, slots=True)
class DatasetPhotos:
    """N photos.

    `root`
        the folder that the paths are relative to, absolute, links followed.
    `paths`
        (N,) with forward slashes; bytes that are not UTF-8 as Python's surrogate escapes.
    `labels`
        (N,) None where a photo has none.
    `splits`
        (N,) "" where there are none.
    `table`
        the CSV file that the labels come from; None: they are the names of folders.
    `problems`
        what was left out and why.
    """

    root: Path
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str, ...]
    table: Path | None
    problems: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """(N,) where the photos are."""
        return tuple(self.root / path for path in self.paths)


def open_photos(path: Path, *, labels: str | None = None) -> DatasetPhotos:
    """List the photos of a dataset.

    Args:
        path: a folder with a `labels.csv`, of class folders, of splits with class folders, or of
            photos without labels; or a CSV file.
        labels: the CSV file to read, relative to the folder.

    Raises:
        DatasetError: there are no photos, or the CSV file is not as it should be.
    """
    if path.is_file() or labels is not None or (path / "labels.csv").exists():
        if path.is_file() and labels is not None:
            raise DatasetError(f"{readable(path)}: a file, so --labels has nothing to add")
        opened = open_dataset(path, labels=labels)
        table = path if path.is_file() else path / (labels or "labels.csv")
        columns = (opened.table[name].to_pylist() for name in ("path", "label", "split"))
        paths, names, splits = (tuple(column) for column in columns)
        root = Path(os.path.realpath(opened.root))
        return DatasetPhotos(root, paths, names, splits, table, opened.problems)
    if not path.is_dir():
        raise DatasetError(f"{readable(path)}: not a folder and not a CSV file")
    return _from_folders(Path(os.path.realpath(path)))


def _from_folders(root: Path) -> DatasetPhotos:
    from veduta.photos import find_photos

    base = os.path.join(os.fsencode(root), b"")
    paths = [os.fsdecode(found.path[len(base) :]) for found in find_photos([root])]
    if not paths:
        raise DatasetError(f"{readable(root)}: holds no photos")
    parts = [path.split("/") for path in paths]
    first = {part[0] for part in parts if len(part) > 1}
    by_split = len(first) > 1 and all(name.lower() in _SPLIT_FOLDERS for name in first)
    depth = 1 if by_split else 0
    labels = [readable(part[depth]) if len(part) > depth + 1 else None for part in parts]
    splits = [part[0] if by_split and len(part) > 1 else "" for part in parts]
    return DatasetPhotos(root, tuple(paths), tuple(labels), tuple(splits), None, ())
