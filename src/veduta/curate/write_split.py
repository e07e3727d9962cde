"""Write a split: as a labels file beside the photos, or as a folder for each part."""

from __future__ import annotations

import csv
import os
import posixpath
import shutil
from collections.abc import Sequence
from pathlib import Path

from veduta.datasets import Dataset
from veduta.errors import DatasetError, readable
from veduta.files import atomic_file, atomic_folder, is_disk_full

__all__ = ["write_folders", "write_labels"]

_UNLABELLED_FOLDER = "_unlabelled"


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
    Paths are relative to its folder. The file is replaced as a whole.

    Args:
        dataset: the photos.
        parts: (N,) the part of each photo.
        file: the file to write.
        column: the name of the column of parts. A further column of that name is left out.
        overwrite: replace an existing file.

    Raises:
        DatasetError: `file` exists and `overwrite` is False; or it does not lie in the folder of
            the photos or above it; or it cannot be written.
    """
    if file.exists() and not overwrite:
        raise DatasetError(f"{readable(file)} is there already: name another, or --overwrite it")
    folder, root = os.path.abspath(file.parent), os.path.abspath(dataset.root)
    if os.path.commonpath([folder, root]) != folder:
        raise DatasetError(
            f"{readable(file)}: a labels file must lie with its photos, in {readable(root)} or a "
            "folder above it"
        )
    prefix = Path(os.path.relpath(root, folder)).as_posix()
    further = {name: values for name, values in dataset.further_columns.items() if name != column}
    try:
        with atomic_file(file) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["path", "label", column, *further])
            for path, label, *others in zip(
                dataset.paths, dataset.labels, parts, *further.values(), strict=True
            ):
                whole_path = posixpath.normpath(posixpath.join(prefix, path))
                writer.writerow([whole_path, label or "", *others])
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be written: {error.strerror}") from error


def write_folders(
    dataset: Dataset, parts: Sequence[str], folder: Path, *, links: bool = True
) -> None:
    """Write the photos into `folder`/part/label, as links or as copies.

    Photos of the same name in one folder get a number. Photos without a label lie in `_unlabelled`.
    If it fails, nothing is left in `folder`.

    Args:
        dataset: the photos.
        parts: (N,) the part of each photo.
        folder: a new or empty folder.
        links: write links to the photos instead of copies.

    Raises:
        DatasetError: `folder` is not empty or cannot be written, or two labels give the same folder
            name.
    """
    label_of_name: dict[str, str | None] = {}
    for label in sorted(set(dataset.labels), key=str):
        other = label_of_name.setdefault(_folder_name(label), label)
        if other != label:
            raise DatasetError(
                f"{readable(folder)}: the labels {other!r} and {label!r} would be one folder; "
                "rename one, or write a labels file with --out"
            )
    if folder.is_dir() and any(folder.iterdir()):
        raise DatasetError(f"{readable(folder)} is not empty: name a new folder")
    try:
        with atomic_folder(folder) as draft:
            _fill(draft, dataset, parts, links=links)
    except OSError as error:
        is_named = error.filename is not None and not is_disk_full(error)
        file = f"{readable(error.filename)}: " if is_named else ""
        raise DatasetError(
            f"{readable(folder)}: cannot be written: {file}{error.strerror}"
        ) from error


def _fill(folder: Path, dataset: Dataset, parts: Sequence[str], *, links: bool) -> None:
    taken: set[Path] = set()
    for path, label, part in sorted(
        zip(dataset.paths, dataset.labels, parts, strict=True), key=lambda row: row[0]
    ):
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


def _folder_name(label: str | None) -> str:
    if label is None:
        return _UNLABELLED_FOLDER
    name = label.replace("/", "_").replace("\0", "_")
    return f"_{name}" if name.startswith(".") else name
