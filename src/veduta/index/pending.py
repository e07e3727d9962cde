"""Files of an index that change together with a commit of its table.

A merge changes the rows and a few small files. The rows change in one commit, the files one by one.
So the new files are written into the folder `pending` before the commit, with the number of the
version that the commit makes. Whoever locks the index next brings a killed merge to its end: if the
table has that version, the files move into the index; if not, they are removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from veduta.files import atomic_folder, sync
from veduta.validation import InvalidValue, read_json

__all__ = ["PENDING_FOLDER", "has_pending", "pending_files", "settle"]

PENDING_FOLDER = "pending"
_FACTS_FILE = "pending.json"


class _Facts(msgspec.Struct):
    """The content of `pending.json`: from which version of the table on the files count."""

    version: int


def has_pending(index: Path) -> bool:
    """Tell whether a killed merge has left files that wait for `settle`.

    Args:
        index: the folder of the index.
    """
    return (index / PENDING_FOLDER).is_dir()


@contextmanager
def pending_files(index: Path, version: int) -> Iterator[Path]:
    """Yield an empty folder for files that replace those of the index, by their names.

    The folder is on the disk when the block ends.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        version: of the table, from which on the files count.

    Raises:
        CannotWrite: they cannot be written.
    """
    with atomic_folder(index / PENDING_FOLDER, durable=True) as draft:
        yield draft
        (draft / _FACTS_FILE).write_text(json.dumps({"version": version}), "utf-8")


def settle(index: Path, newest_version: Callable[[], int]) -> None:
    """Move pending files into the index if their commit was made; else remove them.

    Args:
        index: the folder of the index. The caller holds the writer's lock.
        newest_version: returns the number of the newest version of the table.

    Raises:
        OSError: the disk does not accept it.
    """
    folder = index / PENDING_FOLDER
    if not folder.is_dir():
        return
    try:
        counts = newest_version() >= read_json(folder / _FACTS_FILE, _Facts).version
    except (FileNotFoundError, InvalidValue):
        counts = False  # It was brought to its end, and the folder is not removed yet.
    if counts:
        for file in sorted(folder.iterdir()):
            if file.name != _FACTS_FILE:
                file.replace(index / file.name)
        sync(index)
        (folder / _FACTS_FILE).unlink()
    shutil.rmtree(folder)
