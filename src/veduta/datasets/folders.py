"""Labels from folder names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from veduta.datasets.dataset import NO_SPLIT, SPLITS, Dataset, as_table, some_of
from veduta.errors import DatasetError, readable

__all__ = ["class_folders", "folder_pair", "labels_from_folders"]

_SPLIT_FOLDERS = frozenset(
    {*SPLITS, "queries", "distractors", "training", "testing", "val", "valid", "validation"}
)


def labels_from_folders(
    paths: Iterable[str | bytes | os.PathLike[str]], root: str | os.PathLike[str]
) -> Iterator[str | None]:
    """Yield for each path, in order, the name of the first folder between `root` and the photo.

    None for a photo directly in `root` or outside it. Bytes that are not UTF-8 come out as
    `\\xNN`. Links are not followed, so a linked class folder keeps the name of its link.
    """
    base = os.path.join(os.fsencode(os.path.abspath(root)), b"")
    for path in paths:
        whole = os.path.abspath(os.fsencode(path))
        parts = whole[len(base) :].split(b"/") if whole.startswith(base) else []
        yield readable(parts[0]) if len(parts) > 1 else None


def class_folders(root: Path) -> Dataset:
    """Return the photos of a folder of class folders, without a split.

    Raises `DatasetError` when there is no photo, when no photo lies in a class folder, and when the
    class folders are the names of splits.
    """
    paths, labels, problems = _labelled_photos(root)
    classes = {label for label in labels if label is not None}
    if not classes:
        raise DatasetError(
            f"{readable(root)}: no labels: wanted a labels.csv with the columns path and label, or "
            "one folder of photos for each class, or a folder of queries and one of gallery photos"
        )
    if all(label.lower() in _SPLIT_FOLDERS for label in classes):
        raise DatasetError(
            f"{readable(root)}: its folders ({some_of(sorted(classes))}) are splits, not classes; "
            "name the folder of queries and the folder of gallery photos (--queries, --gallery)"
        )
    return Dataset(root, as_table(paths, labels, [NO_SPLIT] * len(paths)), tuple(problems))


def folder_pair(queries: Path, gallery: Path) -> Dataset:
    """Return the photos of two folders of class folders, split into `query` and `gallery`.

    The root is the deepest folder that holds both.

    Raises `DatasetError` when one holds the other, and when either has no labelled photo.
    """
    pair = [Path(os.path.abspath(folder)) for folder in (queries, gallery)]
    root = Path(os.path.commonpath(pair))
    if root in pair:
        raise DatasetError(
            f"{readable(queries)} and {readable(gallery)}: one holds the other, so photos would be "
            "found as their own answer; give two folders side by side, or one folder of classes"
        )
    paths: list[str] = []
    labels: list[str | None] = []
    splits: list[str] = []
    problems: list[str] = []
    for folder, split in zip(pair, ("query", "gallery"), strict=True):
        found, found_labels, found_problems = _labelled_photos(folder)
        if not any(found_labels):
            raise DatasetError(
                f"{readable(folder)}: no labels: wanted one folder of photos for each class inside "
                "it, or a labels.csv for the whole dataset"
            )
        prefix = folder.relative_to(root).as_posix()
        paths += [f"{prefix}/{path}" for path in found]
        labels += found_labels
        splits += [split] * len(found)
        problems += found_problems
    return Dataset(root, as_table(paths, labels, splits), tuple(problems))


def _labelled_photos(root: Path) -> tuple[list[str], list[str | None], list[str]]:
    """Return paths relative to `root`, labels, and problems."""
    from veduta.photos import find_photos

    if not root.is_dir():
        raise DatasetError(f"{readable(root)}: not a folder")
    base = os.path.join(os.fsencode(os.path.abspath(root)), b"")
    paths: list[str] = []
    unnameable: list[str] = []
    unreadable: list[str] = []
    for candidate in find_photos([root]):
        relative = os.path.abspath(candidate.path)[len(base) :]
        if candidate.size < 0:
            unreadable.append(readable(relative))
            continue
        try:
            paths.append(relative.decode("utf-8"))
        except UnicodeDecodeError:
            unnameable.append(readable(relative))
    labels = list(labels_from_folders((base + os.fsencode(path) for path in paths), root))
    if not paths:
        raise DatasetError(f"{readable(root)}: holds no photos")
    problems: list[str] = []
    if unreadable:
        problems.append(
            f"{readable(root)}: {len(unreadable)} cannot be read, left out ({some_of(unreadable)})"
        )
    if unnameable:
        problems.append(
            f"{readable(root)}: {len(unnameable)} left out, their names are not UTF-8 "
            f"({some_of(unnameable)}); rename them"
        )
    loose = [path for path, label in zip(paths, labels, strict=True) if label is None]
    if loose and len(loose) < len(paths):
        problems.append(
            f"{readable(root)}: {len(loose)} in no class folder, so without a label "
            f"({some_of(loose)})"
        )
    return paths, labels, problems
