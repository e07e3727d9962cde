"""What is split: every column of a labels file, or what the folders say; and the way back."""

from __future__ import annotations

import csv
import os
import posixpath
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.datasets import open_dataset
from veduta.datasets.csv_records import read_header, read_records, refuse
from veduta.errors import DatasetError, readable
from veduta.files import atomic_file

__all__ = ["SplitTable", "read_split_table", "write_folders", "write_labels"]

_SPLIT_FOLDERS = frozenset(
    (
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "query",
        "queries",
        "gallery",
        "database",
        "distractor",
        "distractors",
        "junk",
    )
)
_UNLABELLED = "_unlabelled"


@dataclass(frozen=True, slots=True)
class SplitTable:
    """N photos.

    `root`
        the folder that the paths are relative to.
    `paths`, `labels`, `splits`
        (N,); a split is "" where there is none.
    `others`
        the further columns of the labels file, by name, each (N,).
    `problems`
        what was left out and why.
    """

    root: Path
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str, ...]
    others: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """The photos' files."""
        return [self.root / path for path in self.paths]

    def column(self, name: str) -> tuple[str, ...]:
        """Return a further column. Raises `DatasetError` when there is none of that name."""
        if name not in self.others:
            found = ", ".join(map(repr, self.others)) or "none"
            raise DatasetError(
                f"{readable(self.root)}: no column {name!r}; further columns are {found}"
            )
        return self.others[name]


def read_split_table(path: Path, *, labels: str | None = None, column: str = "split") -> SplitTable:
    """Read a labels file, a folder of classes, or a folder of splits with classes in them.

    Args:
        path: a folder, or a CSV file in the folder that its paths are relative to.
        labels: the CSV file in the folder `path`; `labels.csv` is read unasked if it is there.
        column: the column of the CSV file that holds the split; any words may be in it.

    Raises:
        DatasetError: it is none of these, or the file is not as `veduta.datasets.csv_records`
            wants it.
    """
    file = path if path.is_file() else path / (labels or "labels.csv")
    if labels is not None or file.is_file():
        return _of_csv(file, column)
    parts = _split_folders(path)
    if not parts:
        dataset = open_dataset(path)
        table = dataset.table
        count = len(table)
        return SplitTable(
            dataset.root,
            tuple(table["path"].to_pylist()),
            tuple(table["label"].to_pylist()),
            ("",) * count,
            {},
            dataset.problems,
        )
    paths: list[str] = []
    found: list[str | None] = []
    splits: list[str] = []
    problems: list[str] = []
    for part in parts:
        dataset = open_dataset(path / part)
        paths += [f"{part}/{inside}" for inside in dataset.table["path"].to_pylist()]
        found += dataset.table["label"].to_pylist()
        splits += [part] * len(dataset.table)
        problems += dataset.problems
    return SplitTable(path, tuple(paths), tuple(found), tuple(splits), {}, tuple(problems))


def write_labels(
    table: SplitTable,
    chosen: Sequence[str],
    file: Path,
    *,
    column: str = "split",
    overwrite: bool = False,
) -> None:
    """Write the rows with their part in `column`, which replaces one of that name.

    Paths are relative to the folder of `file`. The file appears complete or not at all.

    Raises:
        DatasetError: `file` is there and is not to be overwritten, does not lie in the folder of
            the photos or above it, or cannot be written.
    """
    if file.exists() and not overwrite:
        raise DatasetError(f"{readable(file)} is there already: name another, or --overwrite it")
    folder, root = (os.path.abspath(place) for place in (file.parent, table.root))
    if os.path.commonpath([folder, root]) != folder:
        raise DatasetError(
            f"{readable(file)}: a labels file must lie with its photos, in {readable(root)} or a "
            "folder above it"
        )
    prefix = Path(os.path.relpath(root, folder)).as_posix()
    others = {name: values for name, values in table.others.items() if name != column}
    try:
        with atomic_file(file) as draft, draft.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["path", "label", column, *others])
            for row in zip(table.paths, table.labels, chosen, *others.values(), strict=True):
                path, label, part, *rest = row
                whole = posixpath.normpath(posixpath.join(prefix, str(path)))
                writer.writerow([whole, label or "", part, *rest])
    except OSError as error:
        raise DatasetError(f"{readable(file)}: cannot be written: {error.strerror}") from error


def write_folders(
    table: SplitTable, chosen: Sequence[str], folder: Path, *, links: bool = True
) -> None:
    """Write `folder`/part/label/photo: links to the photos, or copies of them.

    Photos of one name get a number; those without a label lie in `_unlabelled`.

    Raises:
        DatasetError: `folder` is not empty, lies among the photos, or cannot be written.
    """
    of_name: dict[str, str | None] = {}
    for label in sorted(set(table.labels), key=str):
        other = of_name.setdefault(_folder_name(label), label)
        if other != label:
            raise DatasetError(
                f"{readable(folder)}: the labels {other!r} and {label!r} would be one folder; "
                "rename one, or write a labels file with --out"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DatasetError(f"{readable(folder)} is not empty: name a new folder")
        taken: set[Path] = set()
        for at in sorted(range(len(table.paths)), key=lambda at: table.paths[at]):
            source = Path(os.path.abspath(table.root / table.paths[at]))
            place = folder / chosen[at] / _folder_name(table.labels[at])
            target, number = place / source.name, 2
            while target in taken:
                target = place / f"{source.stem}-{number}{source.suffix}"
                number += 1
            taken.add(target)
            place.mkdir(parents=True, exist_ok=True)
            if links:
                target.symlink_to(source)
            else:
                shutil.copy2(source, target)
    except OSError as error:
        raise DatasetError(f"{readable(folder)}: cannot be written: {error.strerror}") from error


def _folder_name(label: str | None) -> str:
    if label is None:
        return _UNLABELLED
    name = label.replace("/", "_").replace("\0", "_")
    return f"_{name}" if name.startswith(".") else name


def _split_folders(path: Path) -> list[str]:
    """Return the folders of `path` when each is named after a split."""
    if not path.is_dir():
        return []
    names = sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    named = all(name.lower() in _SPLIT_FOLDERS for name in names)
    return names if named and len(names) > 1 else []


def _of_csv(file: Path, column: str) -> SplitTable:
    header = [name.strip() for name in read_header(file)]
    known = ("path", "label", column.lower())
    further = [name for name in header if name and name.lower() not in known]
    paths: list[str] = []
    labels: list[str | None] = []
    splits: list[str] = []
    others: dict[str, list[str]] = {name: [] for name in further}
    missing = 0
    lines: dict[str, int] = {}
    for line, (written, label, split, *rest) in read_records(
        file, ("path", "label"), (column, *further)
    ):
        path = posixpath.normpath(written) if written.strip() else ""
        if not path or "\0" in path or path.startswith("/") or path.split("/", 1)[0] == "..":
            refuse(file, line, f"{readable(written)!r} is no path inside the dataset")
        if path in lines:
            refuse(file, line, f"{readable(path)} is already on line {lines[path]}")
        lines[path] = line
        if not os.path.isfile(file.parent / path):
            missing += 1
            continue
        paths.append(path)
        labels.append(label.strip() or None)
        splits.append(split.strip())
        for name, value in zip(further, rest, strict=True):
            others[name].append(value)
    if not paths:
        raise DatasetError(f"{readable(file)}: none of its {missing} photos is there")
    problems = (f"{readable(file)}: {missing} photos are missing, left out",) if missing else ()
    return SplitTable(
        file.parent,
        tuple(paths),
        tuple(labels),
        tuple(splits),
        {name: tuple(values) for name, values in others.items()},
        problems,
    )
