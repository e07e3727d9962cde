"""Move photos out of a dataset, and back. No file is deleted or overwritten.

The photos move to a new folder beside the dataset, which has the same folders inside. An undo file
lists them. It is complete and on the disk before the first photo moves, and never changes. Whether
a photo has moved is visible on the disk. So a process that is killed at any time can be undone. So
can an undo that is killed.

Where the file system allows it, a photo gets a second name, and then the first name is removed.
Unlike a rename, this fails if the new name exists.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import posixpath
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from veduta.errors import DatasetError, readable
from veduta.files import sync, write_text
from veduta.validation import convert

__all__ = ["UNDO_FILE", "Moved", "quarantine", "undo"]

UNDO_FILE = "undo.jsonl"
_VERSION = 1
_DRAFT_SUFFIX = ".veduta-half"
# Errors of file systems and folders that allow no second name for a file.
_NO_LINK_ERRORS = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
)
_REASONS = {
    errno.ENOENT: "the file is not there (any more)",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the folder is on a read-only disk",
    errno.ENOSPC: "the disk is full",
    errno.EEXIST: "there is another file of that name",
}

OnProgress = Callable[[int, int], None]

_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved.

    Attributes:
        undo_file: the file that `undo` needs.
        moved: paths relative to the dataset.
        left: path → why the photo did not move.
        interrupted: whether Ctrl-C stopped it. Later photos are in neither of the two.
    """

    undo_file: Path
    moved: tuple[str, ...]
    left: Mapping[str, str]
    interrupted: bool = False


class _Header(msgspec.Struct):
    """The first line of an undo file."""

    version: int = msgspec.field(name="veduta clean")
    root: str
    photos: int


class _PhotoLine(msgspec.Struct):
    """Each other line of an undo file."""

    path: str


def quarantine(
    root: Path,
    paths: Sequence[str],
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Moved:
    """Move photos out of a dataset.

    A photo that cannot be moved stays and is in `Moved.left`: without permission, without a file,
    or behind a linked folder that leads out of the dataset. Of links, the link itself is moved.

    Args:
        root: the dataset.
        paths: relative to it, with forward slashes.
        folder: a new folder for the photos. None means `root`.quarantine, with a number if that
            exists.
        on_progress: called with the number done and the total.

    Raises:
        DatasetError: a path leads out of the dataset, or the folder is inside it or cannot be made,
            or the undo file cannot be written. Then nothing has moved.
    """
    root = Path(os.path.realpath(root))
    for path in paths:
        _check_path(path, root)
    target = _new_folder(root, folder)
    undo_file = target / UNDO_FILE
    _write_undo_file(undo_file, root, paths)
    moved: list[str] = []
    left: dict[str, str] = {}
    for done, path in enumerate(paths, start=1):
        try:
            _check_inside(root, path)
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            _move(root / path, target / path)
            moved.append(path)
            if on_progress:
                on_progress(done, len(paths))
        except OSError as error:
            left[path] = _reason(error)
        except KeyboardInterrupt:
            return Moved(undo_file, tuple(moved), left, interrupted=True)
    return Moved(undo_file, tuple(moved), left)


def undo(undo_file: Path, *, on_progress: OnProgress | None = None) -> Moved:
    """Put back the photos that `quarantine` moved and that are not back yet.

    When all photos are back, the undo file and the folder are removed, unless the folder has other
    files.

    Args:
        undo_file: the file that `quarantine` wrote.
        on_progress: called with the number done and the total.

    Raises:
        DatasetError: the file is not an undo file, is damaged, or its dataset does not exist.
    """
    root, paths = _read_undo_file(undo_file)
    target = Path(os.path.realpath(undo_file.parent))
    moved: list[str] = []
    left: dict[str, str] = {}
    for done, path in enumerate(reversed(paths), start=1):
        try:
            _check_inside(root, path)
            if _put_back(target / path, root / path):
                moved.append(path)
        except OSError as error:
            left[path] = _reason(error)
        if on_progress:
            on_progress(done, len(paths))
    if not left:
        _remove_folder(target, undo_file, paths)
    return Moved(undo_file, tuple(moved), left)


def _new_folder(root: Path, folder: Path | None) -> Path:
    if root.parent == root:
        raise DatasetError(f"{readable(root)}: nothing can lie beside it; clean a folder in it")
    if folder is not None:
        target = Path(os.path.realpath(folder))
        if target == root or root in target.parents:
            raise DatasetError(
                f"{readable(folder)}: inside the dataset, where its photos would be found again; "
                "name a folder outside"
            )
        if not _make_folder(target):
            raise DatasetError(f"{readable(folder)}: is there already; name another")
        return target
    number = 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        target = root.with_name(f"{root.name}.quarantine{suffix}")
        if _make_folder(target):
            return target
        number += 1


def _make_folder(folder: Path) -> bool:
    """Make a new folder; return False if it exists."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise DatasetError(
            f"{readable(folder)}: cannot be made ({_reason(error)}); name another folder with "
            "--quarantine"
        ) from error
    return True


def _write_undo_file(undo_file: Path, root: Path, paths: Sequence[str]) -> None:
    header = {"veduta clean": _VERSION, "root": os.fspath(root), "photos": len(paths)}
    lines = [json.dumps(header), *(json.dumps({"path": path}) for path in paths)]
    try:
        write_text(undo_file, (f"{line}\n" for line in lines), durable=True)
        sync(undo_file.parent.parent)
    except OSError as error:
        undo_file.unlink(missing_ok=True)
        undo_file.parent.rmdir()
        raise DatasetError(
            f"{readable(undo_file)}: cannot be written ({_reason(error)}); nothing has moved"
        ) from error


def _read_undo_file(undo_file: Path) -> tuple[Path, list[str]]:
    invalid = f"{readable(undo_file)}: not an undo file of `veduta clean`"
    try:
        data = undo_file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{readable(undo_file)}: cannot be read ({_reason(error)})") from error
    if not data.endswith(b"\n"):
        raise DatasetError(f"{invalid}, or cut off; nothing moves before it is whole")
    lines = data.splitlines()
    header = _parse_line(lines[0], 1, _Header, invalid)
    if header.version != _VERSION:
        raise DatasetError(f"{invalid} of this version")
    paths = [
        _parse_line(line, number, _PhotoLine, invalid).path
        for number, line in enumerate(lines[1:], start=2)
    ]
    for path in paths:
        _check_path(path, undo_file)
    if len(paths) != header.photos:
        raise DatasetError(f"{invalid}: {len(paths)} photos, but it promises {header.photos}")
    root = Path(header.root)
    if not root.is_dir():
        raise DatasetError(
            f"{readable(undo_file)}: the dataset {readable(root)} is not there; put it back first"
        )
    return Path(os.path.realpath(root)), paths


def _parse_line(line: bytes, number: int, kind: type[_Line], invalid: str) -> _Line:
    try:
        return convert(json.loads(line), kind)
    except ValueError as error:
        raise DatasetError(f"{invalid} (line {number}: {error})") from error


def _check_path(path: str, named: Path) -> None:
    """Refuse a path that leads out of the dataset, or has another form than `quarantine` writes."""
    normal = posixpath.normpath(path) == path and "\0" not in path
    normal = normal and path not in (".", UNDO_FILE)
    if not normal or path.startswith("/") or path.split("/", 1)[0] == ".." or Path(path).drive:
        raise DatasetError(f"{readable(named)}: {readable(path)!r} is no path inside the dataset")


def _check_inside(root: Path, path: str) -> None:
    folder = Path(os.path.realpath((root / path).parent))
    if folder != root and root not in folder.parents:
        raise OSError(errno.EXDEV, "it lies behind a linked folder, outside the dataset")


def _move(source: Path, target: Path) -> None:
    """Move a file or a link to a new name; FileExistsError if the name exists.

    At every moment, at least one of the names has the whole file.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except NotImplementedError:
        _copy(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK_ERRORS:
            raise
        _copy(source, target)
    try:
        source.unlink()
    except OSError:
        target.unlink()
        raise


def _copy(source: Path, target: Path) -> None:
    """Copy a file to another file system, under a draft name first."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
        return
    draft = target.with_name(target.name + _DRAFT_SUFFIX)
    try:
        shutil.copy2(source, draft)
        sync(draft)
        draft.rename(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _put_back(source: Path, target: Path) -> bool:
    """Put a photo back; False if it is back already, or never moved."""
    for path in (source, target):
        path.with_name(path.name + _DRAFT_SUFFIX).unlink(missing_ok=True)
    is_back = os.path.lexists(target)
    if not os.path.lexists(source):
        if not is_back:
            raise FileNotFoundError(errno.ENOENT, "it is in neither place")
        return False
    if is_back:
        if not _is_same_file(source, target):
            raise FileExistsError(errno.EEXIST, "another file is in its place")
        source.unlink()  # The process was killed between the two steps of a move.
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(source, target)
    return True


def _is_same_file(first: Path, second: Path) -> bool:
    if first.is_symlink() or second.is_symlink():
        both = first.is_symlink() and second.is_symlink()
        return both and os.readlink(first) == os.readlink(second)
    return os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False)


def _remove_folder(target: Path, undo_file: Path, paths: Sequence[str]) -> None:
    """Remove the empty folders of the quarantine, the deepest first, and then the undo file."""
    folders = {target / parent for path in paths for parent in Path(path).parents}
    for folder in sorted(folders - {target}, key=lambda folder: -len(folder.parts)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if [entry.name for entry in target.iterdir()] == [undo_file.name]:
        undo_file.unlink()
        target.rmdir()


def _reason(error: OSError) -> str:
    if error.strerror and error.strerror != os.strerror(error.errno or 0):
        return error.strerror
    return _REASONS.get(error.errno or 0, str(error.strerror or error))
