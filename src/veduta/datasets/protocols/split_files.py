"""The files of a list, which may be one file or several shards, and the splits that they name.

Splits are named as on Hugging Face: `test.tsv`, `test-00000-of-00002.parquet`. A file of another
name belongs to every split. Shards stand in a folder with the name of the list, or begin with that
name: `corpus-00000-of-00003.parquet`. Both may be in the folder `data`, where Hugging Face puts
the configuration "default".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable

__all__ = [
    "SPLITS",
    "chosen_split",
    "files_of_split",
    "find_default",
    "find_lists",
    "only_list",
    "split_of",
]

SPLITS = ("train", "dev", "validation", "test")

_SPLIT_NAME = re.compile(r"(train|dev|validation|test)(?:[-_.].*)?")
_SHARD_NAME = re.compile(r"(.+)-\d{5}-of-\d{5}")
_DATA = "data"


def find_lists(folder: Path, stems: Sequence[str], endings: Sequence[str]) -> list[list[Path]]:
    """Return the lists of a name: each a file, or its shards, sorted.

    Args:
        folder: where they are looked for, and in its folder `data`.
        stems: names without the ending.
        endings: the endings, with their dots.

    Raises:
        OSError: a folder cannot be read.
    """
    lists = []
    for holder in (folder, folder / _DATA):
        shards: dict[str, list[Path]] = {}
        for file in _files_in(holder, endings):
            if match := _SHARD_NAME.fullmatch(file.stem):
                shards.setdefault(match[1], []).append(file)
        for stem in stems:
            files = (holder / f"{stem}{ending}" for ending in endings)
            lists += [[file] for file in files if file.is_file()]
            several = (_files_in(holder / stem, endings), shards.get(stem, []))
            lists += [found for found in several if found]
    return lists


def find_default(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the files of the configuration "default", where MTEB keeps qrels; empty without it.

    Args:
        folder: of the set.
        endings: the endings, with their dots.

    Raises:
        OSError: a folder cannot be read.
    """
    for name in (_DATA, "default"):
        if found := [file for file in _files_in(folder / name, endings) if split_of(file)]:
            return found
    return []


def _files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in endings and not file.name.startswith(".") and file.is_file()
    )


def only_list(folder: Path, what: str, lists: Sequence[list[Path]]) -> list[Path]:
    """Return the files of a list, and refuse several lists of one name.

    Args:
        folder: the folder, for the message.
        what: what the list is of, such as "corpus".
        lists: at least one, as `find_lists` returns them.

    Raises:
        DatasetError: there are several.
    """
    if len(lists) > 1:
        found = some_of(str(files[0].relative_to(folder)) for files in lists)
        raise DatasetError(
            f"{readable(folder)}: {len(lists)} lists of the {what} ({found}); move all but one to "
            "another folder"
        )
    return lists[0]


def split_of(file: Path) -> str | None:
    """Return the split that a file names; None if it names none."""
    match = _SPLIT_NAME.fullmatch(file.name)
    return match[1] if match else None


def chosen_split(folder: Path, files: Sequence[Path], wanted: str | None) -> str | None:
    """Return the split that is wanted, "test" without a wish, or the only one there.

    Args:
        folder: the folder, for the message.
        files: of a list.
        wanted: the split; None: the usual one.

    Returns:
        The split; None if the files name none.

    Raises:
        DatasetError: there is no such split.
    """
    found = sorted({split for split in map(split_of, files) if split is not None})
    if not found and wanted is None:
        return None
    if len(found) == 1 and wanted is None:
        return found[0]
    split = wanted or "test"
    if split not in found:
        there = (
            f"found {', '.join(found)}; name one with --variant" if found else "it has no splits"
        )
        raise DatasetError(f"{readable(folder)}: no qrels of the split {split}; {there}")
    return split


def files_of_split(files: Sequence[Path], split: str | None) -> list[Path]:
    """Return the files of a split; without one, those of no split; without those, all.

    Args:
        files: of a list.
        split: the split; None for none.

    Raises:
        DatasetError: all files are of other splits, and of several. MTEB refuses these too.
    """
    splits = [split_of(file) for file in files]
    for wanted in (split, None):
        if wanted in splits:
            return [file for file, name in zip(files, splits, strict=True) if name == wanted]
    found = sorted({name for name in splits if name is not None})
    if split is not None and len(found) > 1:
        raise DatasetError(
            f"{readable(files[0].parent)}: no file of the split {split}; found {', '.join(found)}; "
            "which of them belongs to the qrels is not said: move the others to another folder"
        )
    return list(files)
