"""Write a split: as a labels file, or as a folder for each part."""

from __future__ import annotations

import csv
import os
import posixpath
import shutil
from collections.abc import Sequence
from pathlib import Path

from veduta.curate.splitting import NO_PART
from veduta.datasets import Dataset
from veduta.datasets.labels_csv import LABELS_FILE
from veduta.datasets.split_names import split_named
from veduta.errors import DatasetError, readable
from veduta.files import atomic_file, atomic_folder, is_disk_full
from veduta.safe_names import safe_name
from veduta.text import printable

__all__ = ["is_dataset_by_itself", "write_folders", "write_labels"]

_UNLABELLED_FOLDER = "_unlabelled"
_MAX_NAME_BYTES = 255


def write_labels(
    dataset: Dataset,
    parts: Sequence[str],
    file: Path,
    *,
    column: str = "split",
    overwrite: bool = False,
) -> None:
    """Write a labels file with the part of each photo.

    The file has the columns `path`, `label`, the part, and the further columns of the dataset.
    In the folder of the photos or above it, paths are relative to the file's own folder, so the
    file is a dataset by itself. Anywhere else they are relative to the folder of the photos, which
    every reader of a labels file looks in too. The file is replaced as a whole. Photos without a
    part are not in it.

    Args:
        dataset: the photos.
        parts: (N,) the part of each photo.
        file: the file to write.
        column: the name of the column of parts. A further column of that name is left out.
        overwrite: replace an existing file.

    Raises:
        DatasetError: `file` exists and `overwrite` is False, or it cannot be written.
    """
    if file.exists() and not overwrite:
        raise DatasetError(f"{readable(file)} is there already: name another, or --overwrite it")
    prefix = "."
    if is_dataset_by_itself(dataset, file):
        prefix = Path(os.path.relpath(dataset.root, os.path.abspath(file.parent))).as_posix()
    further = {name: values for name, values in dataset.further_columns.items() if name != column}
    try:
        with atomic_file(file) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["path", "label", column, *further])
            for path, label, part, *others in zip(
                dataset.paths, dataset.labels, parts, *further.values(), strict=True
            ):
                if part == NO_PART:
                    continue
                whole_path = posixpath.normpath(posixpath.join(prefix, path))
                writer.writerow([whole_path, label or "", part, *others])
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be written: {error.strerror}") from error


def is_dataset_by_itself(dataset: Dataset, file: Path) -> bool:
    """Return whether a labels file lies in the folder of the photos or above it.

    Args:
        dataset: the photos.
        file: the labels file. It need not exist.
    """
    folder, root = os.path.abspath(file.parent), os.path.abspath(dataset.root)
    return os.path.commonpath([folder, root]) == folder


def write_folders(
    dataset: Dataset, parts: Sequence[str], folder: Path, *, links: bool = True
) -> list[str]:
    """Write the photos into `folder`/part/label, as links or as copies.

    Photos of the same name in one folder get a number. Photos without a label lie in `_unlabelled`.
    If it fails, nothing is left in `folder`.

    Not every label can be the name of a folder: "Paris/Eiffel" cannot. If there is such a label,
    the new folder has a `labels.csv` with the labels as they are, which every command reads.

    Args:
        dataset: the photos.
        parts: (N,) the part of each photo.
        folder: a new or empty folder.
        links: write links to the photos instead of copies.

    Returns:
        The labels that are no names of folders, sorted.

    Raises:
        DatasetError: `folder` is not empty or cannot be written.
    """
    renamed = sorted(
        {label for label in dataset.labels if label is not None and _folder_name(label) != label}
    )
    if folder.is_dir() and any(folder.iterdir()):
        raise DatasetError(f"{readable(folder)} is not empty: name a new folder")
    try:
        with atomic_folder(folder) as draft:
            rows = _fill(draft, dataset, parts, links=links)
            if renamed:
                _write_rows(draft / LABELS_FILE, rows)
    except OSError as error:
        is_named = error.filename is not None and not is_disk_full(error)
        file = f"{readable(error.filename)}: " if is_named else ""
        raise DatasetError(
            f"{readable(folder)}: cannot be written: {file}{error.strerror}"
        ) from error
    return renamed


def _fill(
    folder: Path, dataset: Dataset, parts: Sequence[str], *, links: bool
) -> list[tuple[str, str, str]]:
    """Write the photos, and return path, label and part of each."""
    rows = []
    taken: set[Path] = set()
    for path, label, part in sorted(
        zip(dataset.paths, dataset.labels, parts, strict=True), key=lambda row: row[0]
    ):
        if part == NO_PART:
            continue
        source = Path(os.path.abspath(dataset.root / path))
        target_folder = folder / part / _folder_name(label)
        target, number = target_folder / source.name, 2
        while target in taken:
            target = target_folder / f"{source.stem}-{number}{source.suffix}"
            number += 1
        taken.add(target)
        target_folder.mkdir(parents=True, exist_ok=True)
        if links:
            target.symlink_to(source)
        else:
            shutil.copy2(source, target)
        rows.append((target.relative_to(folder).as_posix(), label or "", part))
    return rows


def _write_rows(file: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    # A part of another name is no split, and would be refused in that column.
    are_splits = all(split_named(part) for _, _, part in rows)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", "split") if are_splits else ("path", "label"))
        for path, label, part in rows:
            if readable(path) == path:  # A CSV file cannot hold a name that is not UTF-8.
                writer.writerow((path, label, part) if are_splits else (path, label))


def _folder_name(label: str | None) -> str:
    if label is None:
        return _UNLABELLED_FOLDER
    is_name = (
        len(os.fsencode(label)) <= _MAX_NAME_BYTES
        and not label.startswith(".")
        and "/" not in label
        and printable(label) == label != _UNLABELLED_FOLDER
    )
    return label if is_name else safe_name(label)
