"""The undo file of a quarantine: which photos moved, one line a photo.

A stranger may have written it. So it says only which photos of the dataset moved, never where they
go, and no path in it leads out of the dataset.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from veduta.errors import DatasetError, readable
from veduta.files import is_path_inside, open_regular, sync, write_text
from veduta.text import printable
from veduta.validation import convert, parse_json

__all__ = ["UNDO_FILE", "check_path", "read_undo_file", "write_undo_file"]

UNDO_FILE = "undo.jsonl"
_VERSION = 1
# Longer than the longest path that a system opens, even if each byte is an escape of six letters.
_MAX_LINE_BYTES = 1 << 15
_MAX_PHOTOS = 10_000_000

_Line = TypeVar("_Line")


class _Header(msgspec.Struct):
    """The first line of an undo file."""

    version: int = msgspec.field(name="veduta clean")
    photos: int


class _PhotoLine(msgspec.Struct):
    """Each other line of an undo file."""

    path: str


def write_undo_file(undo_file: Path, root: Path, paths: Sequence[str]) -> None:
    """Write an undo file into a new folder, and wait until both are on the disk.

    Args:
        undo_file: the file.
        root: the dataset. It is noted for people; `read_undo_file` does not use it.
        paths: of the photos, relative to the dataset.

    Raises:
        OSError: the file cannot be written.
    """
    header = {"veduta clean": _VERSION, "root": os.fspath(root), "photos": len(paths)}
    lines = [json.dumps(header), *(json.dumps({"path": path}) for path in paths)]
    write_text(undo_file, (f"{line}\n" for line in lines), durable=True)
    sync(undo_file.parent.parent)


def read_undo_file(undo_file: Path) -> list[str]:
    """Read an undo file.

    Args:
        undo_file: the file.

    Returns:
        The paths of the photos, relative to the dataset.

    Raises:
        DatasetError: it cannot be read, is not a whole undo file, or a path leads out of the
            dataset.
    """
    invalid = f"{readable(undo_file)}: not an undo file of `veduta clean`"
    try:
        with open_regular(undo_file) as stream:
            header = _parsed(_next_line(stream, invalid), 1, _Header, invalid)
            if header.version != _VERSION:
                raise DatasetError(f"{invalid} of this version")
            if not 0 <= header.photos <= _MAX_PHOTOS:
                raise DatasetError(f"{invalid}: it promises {header.photos} photos")
            paths = _read_paths(stream, header.photos, invalid)
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(f"{readable(undo_file)}: cannot be read ({reason})") from error
    for path in paths:
        check_path(path, undo_file)
    return paths


def check_path(path: str, named_in: Path) -> None:
    """Refuse a path that leads out of the dataset, or has another form than `quarantine` writes.

    Args:
        path: relative to the dataset, with forward slashes.
        named_in: the dataset or the file that has the path, for the message.

    Raises:
        DatasetError: the path is refused.
    """
    if not is_path_inside(path) or path == UNDO_FILE:
        raise DatasetError(
            f"{readable(named_in)}: {printable(path)!r} is no path inside the dataset"
        )


def _read_paths(stream: BinaryIO, photos: int, invalid: str) -> list[str]:
    paths: list[str] = []
    for number in range(2, photos + 2):
        line = _next_line(stream, invalid, promised=photos, found=len(paths))
        paths.append(_parsed(line, number, _PhotoLine, invalid).path)
    if stream.read(1):
        raise DatasetError(f"{invalid}: it promises {photos} photos and has more")
    return paths


def _next_line(stream: BinaryIO, invalid: str, promised: int = 0, found: int = 0) -> bytes:
    line = stream.readline(_MAX_LINE_BYTES)
    if len(line) == _MAX_LINE_BYTES:
        raise DatasetError(f"{invalid}: a line is longer than {_MAX_LINE_BYTES:,} bytes")
    if not line and promised:
        raise DatasetError(f"{invalid}: {found} photos, but it promises {promised}")
    if not line.endswith(b"\n"):
        raise DatasetError(f"{invalid}, or cut off; nothing moves before it is whole")
    return line


def _parsed(line: bytes, number: int, kind: type[_Line], invalid: str) -> _Line:
    try:
        return convert(parse_json(line), kind)
    except ValueError as error:
        raise DatasetError(f"{invalid} (line {number}: {error})") from error
