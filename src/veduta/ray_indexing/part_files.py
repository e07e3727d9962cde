"""The files of a part that a merge needs, with their digests: a part is there whole or not at all.

The name of the file with the digests tells a copied part from any other index. The snapshot of a
part is left out, because a merge does not read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from blake3 import blake3

from veduta.errors import IndexDamaged, readable
from veduta.files import is_draft, sync
from veduta.index.snapshot import SNAPSHOT_FOLDER
from veduta.index.storage_errors import index_errors
from veduta.index.table import LOCK_FILE
from veduta.validation import InvalidValue, read_json

__all__ = ["DIGESTS_FILE", "copy_part", "require_whole"]

DIGESTS_FILE = "part-digests.json"

_LEFT_OUT = frozenset({SNAPSHOT_FOLDER, LOCK_FILE, DIGESTS_FILE, "stamps.json"})
_CHUNK_BYTES = 2**20


class _Digests(msgspec.Struct):
    """The content of the file: the name of each file below the folder → its hash, hex."""

    files: dict[str, str]


def copy_part(part: Path, target: Path) -> None:
    """Copy the files of a part that a merge needs, and note their digests. They are on the disk.

    Args:
        part: the folder of the part.
        target: an empty folder.

    Raises:
        StorageError: the disk does not accept them.
    """
    digests: dict[str, str] = {}
    with index_errors(target, "write"):
        for file in _files(part):
            name = file.relative_to(part).as_posix()
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            digests[name] = _copied(file, copy)
        (target / DIGESTS_FILE).write_text(json.dumps({"files": digests}), "utf-8")
        for path in target.rglob("*"):
            sync(path)
        sync(target)


def require_whole(part: Path) -> None:
    """Refuse a copied part of which a file is missing or changed.

    Args:
        part: its folder.

    Raises:
        IndexDamaged: it is not what was copied.
        StorageError: the disk does not read.
    """
    with index_errors(part, "read"):
        try:
            digests = read_json(part / DIGESTS_FILE, _Digests).files
        except (FileNotFoundError, NotADirectoryError, InvalidValue) as error:
            raise _damaged(part / DIGESTS_FILE) from error
        there = {file.relative_to(part).as_posix(): file for file in _files(part)}
        if set(there) != set(digests):
            raise _damaged(part / min(set(there) ^ set(digests)))
        for name, file in there.items():
            if _digest(file) != digests[name]:
                raise _damaged(file)


def _damaged(file: Path) -> IndexDamaged:
    return IndexDamaged(f"{readable(file)} is missing or damaged, so its block is read again")


def _files(part: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(part):
        names[:] = sorted(name for name in names if not _is_left_out(Path(folder, name)))
        for name in sorted(files):
            if not _is_left_out(Path(folder, name)):
                yield Path(folder, name)


def _is_left_out(path: Path) -> bool:
    return path.name in _LEFT_OUT or is_draft(path)


def _copied(file: Path, copy: Path) -> str:
    """Copy a file, and return the digest of what was read."""
    digest = blake3()
    with file.open("rb") as source, copy.open("xb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def _digest(file: Path) -> str:
    digest = blake3()
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
