"""Which files make an index, so that a copy of them answers the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from veduta.index.cell_files import FOLDER as CELLS_FOLDER
from veduta.index.checksums import CHECKSUMS_FILE, STAMPS_FILE
from veduta.index.damage import RECOGNISERS_FOLDER
from veduta.index.graph import FOLDER as GRAPH_FOLDER
from veduta.index.keypoint_files import FOLDER as KEYPOINTS_FOLDER
from veduta.index.label_edits import LABEL_EDITS_FILE
from veduta.index.manifest import MANIFEST_COPY, MANIFEST_FILE
from veduta.index.removed_photos import REMOVED_PHOTOS_FILE
from veduta.index.snapshot import SNAPSHOT_FOLDER
from veduta.index.table import TABLE_FOLDER

__all__ = ["files_of_index", "is_index_file", "sealed_folder_of"]

_FILES = frozenset({MANIFEST_FILE, MANIFEST_COPY, LABEL_EDITS_FILE, REMOVED_PHOTOS_FILE})
_PROJECTION = re.compile(r"projection-[0-9a-f]+\.npz")
_FOLDERS = frozenset(
    {
        TABLE_FOLDER,
        KEYPOINTS_FOLDER,
        SNAPSHOT_FOLDER,
        CELLS_FOLDER,
        GRAPH_FOLDER,
        RECOGNISERS_FOLDER,
    }
)
_SEALED = (SNAPSHOT_FOLDER, CELLS_FOLDER, GRAPH_FOLDER)


def is_index_file(name: str) -> bool:
    """Tell whether a path in the folder of an index is one of its files.

    Locks, jobs, drafts, and what a repair moved aside, belong to one machine.

    Args:
        name: the path, with slashes.
    """
    first, *others = name.split("/")
    if not others:
        return first in _FILES or _PROJECTION.fullmatch(first) is not None
    if any(part.startswith(".") for part in others) or others[-1] == STAMPS_FILE:
        return False
    return first in _FOLDERS


def files_of_index(index: Path) -> list[str]:
    """Return the files of an index, with slashes, the manifest first.

    Args:
        index: its folder. No process is writing to it.

    Raises:
        OSError: a folder cannot be listed.
    """
    return sorted(
        filter(is_index_file, _all_files(index)), key=lambda one: (one != MANIFEST_FILE, one)
    )


def _all_files(index: Path) -> Iterator[str]:
    for folder, _, names in os.walk(index, onerror=_raise):
        inside = Path(folder).relative_to(index)
        yield from ((inside / name).as_posix() for name in names)


def _raise(error: OSError) -> None:
    raise error


def sealed_folder_of(name: str) -> str | None:
    """Return the folder whose checksums hold that of a file, if there is one.

    Args:
        name: the file, as `files_of_index` names it.
    """
    parts = name.split("/")
    if parts[-1] == CHECKSUMS_FILE:
        return None
    if parts[0] == TABLE_FOLDER:
        return TABLE_FOLDER
    return "/".join(parts[:2]) if parts[0] in _SEALED and len(parts) > 2 else None
