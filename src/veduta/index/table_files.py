"""The files of the table, and their checksums.

Lance keeps no checksums, and believes what it reads. Its files never change: each commit adds some,
and a clean-up removes some. So the folder is sealed after each commit (`veduta.index.checksums`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from veduta.index.checksums import Checksums, seal
from veduta.validation import InvalidValue, read_json

__all__ = [
    "HINT_FILE",
    "VERSIONS",
    "files_of_fragment",
    "files_of_version",
    "hinted_versions",
    "is_index_file",
    "seal_table",
    "sealed_versions",
    "version_number",
]

VERSIONS = "_versions"
"""The folder of the manifests inside the folder of the table."""
HINT_FILE = f"{VERSIONS}/latest_version_hint.json"
"""Lance notes the number of its newest version in it."""
_DATA = "data"
_INDICES = "_indices"
# Lance also has hints and transactions, which it does not need for reading.
_FILES = (f"{VERSIONS}/*.manifest", f"{_DATA}/*", "_deletions/*", f"{_INDICES}/*/*")
_MAX_UINT64 = 2**64 - 1


class _Hint(msgspec.Struct):
    version: int


def version_number(name: str) -> int | None:
    """Return the number of the version whose manifest has this name, None for another file."""
    match = re.fullmatch(rf"(?:{VERSIONS}/)?(\d+)\.manifest", name)
    if match is None:
        return None
    number = int(match[1])
    # Newer releases of Lance count from the largest number down.
    return _MAX_UINT64 - number if number > 2**63 else number


def sealed_versions(sealed: Checksums) -> dict[int, str]:
    """Return the number of each version that was sealed, and the name of its manifest."""
    numbers = {name: version_number(name) for name in sealed.digests}
    return {number: name for name, number in numbers.items() if number is not None}


def hinted_versions(folder: Path) -> list[int]:
    """Return the version that Lance notes as its newest, for a table that was not sealed yet.

    Args:
        folder: of the table.

    Returns:
        No number if the note is missing or damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return [read_json(folder / HINT_FILE, _Hint).version]
    except (FileNotFoundError, InvalidValue):
        return []


def is_index_file(name: str) -> bool:
    """Return whether a file belongs to an approximate index, which can be built again."""
    return name.startswith(f"{_INDICES}/")


def seal_table(folder: Path) -> None:
    """Bring the new files of the table to the disk, and note their checksums.

    Args:
        folder: of the table.

    Raises:
        OSError: the disk does not accept them.
        InvalidValue: the checksums that are there are damaged.
    """
    paths = [path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()]
    seal(folder, [path.relative_to(folder).as_posix() for path in paths])


def files_of_version(dataset: Any, sealed: Checksums) -> list[str]:
    """Return the names of the files that an open version reads, without its manifest.

    Args:
        dataset: the open `lance.LanceDataset`.
        sealed: the checksums of its folder. Of an approximate index, they name the files.
    """
    names = [name for fragment in dataset.get_fragments() for name in files_of_fragment(fragment)]
    for index in dataset.describe_indices():
        folders = tuple(f"{_INDICES}/{segment.uuid}/" for segment in index.segments)
        names += [name for name in sealed.digests if name.startswith(folders)]
    return names


def files_of_fragment(fragment: Any) -> list[str]:
    """Return the names of the files of one `lance.LanceFragment`."""
    names = [f"{_DATA}/{file.path}" for file in fragment.data_files()]
    deletions = fragment.deletion_file()
    return [*names, deletions] if deletions else names
