"""Photos out of a dataset, and back: nothing is deleted, nothing is overwritten.

They go to a new folder beside the dataset, with the same tree below. A file in it says which ones:
it is written whole and forced to disk before the first photo moves, and never changed. Whether a
photo has moved the disk itself tells, so a process that is killed at any time can be undone, and
undone again when undoing is killed.

Where the file system allows, a photo is moved by giving it a second name and then taking the first
away, which, unlike renaming, fails when there is something under the new name.
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

from veduta.errors import DatasetError, readable

__all__ = ["UNDO_FILE", "Moved", "quarantine", "undo"]

UNDO_FILE = "undo.jsonl"
_FORM = 1
_HALF = ".veduta-half"
_NO_LINKS = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
)

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved.

    `undo_file`
        what puts it back.
    `moved`
        paths relative to the dataset.
    `left`
        path → why it stayed where it was.
    `interrupted`
        whether Ctrl-C stopped it; what had not come to its turn is in neither.
    """

    undo_file: Path
    moved: tuple[str, ...]
    left: Mapping[str, str]
    interrupted: bool = False


def quarantine(
    root: Path,
    paths: Sequence[str],
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Moved:
    """Move photos of a dataset out of it.

    A photo that cannot be moved (no permission, gone, behind a linked folder that leads out of the
    dataset) stays and is told in `Moved.left`. Links are moved, not what they lead to.

    Args:
        root: the dataset.
        paths: relative to it, with forward slashes.
        folder: where to; must not be there yet. None: `root`.quarantine, or with a number behind.
        on_progress: called with (done, total).

    Raises:
        DatasetError: a path leads out of the dataset; the folder is inside it or cannot be made;
            the undo file cannot be written (then nothing has moved).
    """
    root = Path(os.path.realpath(root))
    for path in paths:
        _check_path(path, root)
    target = _new_folder(root, folder)
    undo_file = target / UNDO_FILE
    _write_plan(undo_file, root, paths)
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
            left[path] = _why(error)
        except KeyboardInterrupt:
            return Moved(undo_file, tuple(moved), left, interrupted=True)
    return Moved(undo_file, tuple(moved), left)


def undo(undo_file: Path, *, on_progress: OnProgress | None = None) -> Moved:
    """Put back what `quarantine` moved, as far as it has not been put back already.

    When all is back the folder is removed, with the undo file, unless something else is in it.

    Raises:
        DatasetError: it is no undo file, is damaged, or its dataset is not there.
    """
    root, paths = _read_plan(undo_file)
    target = Path(os.path.realpath(undo_file.parent))
    moved: list[str] = []
    left: dict[str, str] = {}
    for done, path in enumerate(reversed(paths), start=1):
        try:
            _check_inside(root, path)
            if _put_back(target / path, root / path):
                moved.append(path)
        except OSError as error:
            left[path] = _why(error)
        if on_progress:
            on_progress(done, len(paths))
    if not left:
        _remove_empty(target, undo_file, paths)
    return Moved(undo_file, tuple(moved), left)


def _new_folder(root: Path, folder: Path | None) -> Path:
    if folder is not None:
        wanted = Path(os.path.realpath(folder))
        if wanted == root or root in wanted.parents:
            raise DatasetError(
                f"{readable(folder)}: inside the dataset, where its photos would be found again; "
                "name a folder outside"
            )
    if root.parent == root:
        raise DatasetError(f"{readable(root)}: nothing can lie beside it; clean a folder in it")
    number = 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        target = wanted if folder is not None else root.with_name(f"{root.name}.quarantine{suffix}")
        try:
            target.mkdir()
        except FileExistsError:
            if folder is not None:
                raise DatasetError(f"{readable(folder)}: is there already; name another") from None
            number += 1
            continue
        except OSError as error:
            raise DatasetError(
                f"{readable(target)}: cannot be made ({_why(error)}); name another folder with "
                "--quarantine"
            ) from error
        return target


def _write_plan(undo_file: Path, root: Path, paths: Sequence[str]) -> None:
    lines = [json.dumps({"veduta clean": _FORM, "root": os.fspath(root), "photos": len(paths)})]
    lines += [json.dumps({"path": path}) for path in paths]
    try:
        with undo_file.open("x", encoding="ascii", newline="\n") as out:
            out.write("\n".join(lines) + "\n")
            out.flush()
            os.fsync(out.fileno())
        for folder in (undo_file.parent, undo_file.parent.parent):
            _sync(folder)
    except OSError as error:
        undo_file.unlink(missing_ok=True)
        undo_file.parent.rmdir()
        raise DatasetError(
            f"{readable(undo_file)}: cannot be written ({_why(error)}); nothing has moved"
        ) from error


def _sync(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_plan(undo_file: Path) -> tuple[Path, list[str]]:
    no_plan = f"{readable(undo_file)}: not an undo file of `veduta clean`"
    try:
        text = undo_file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{readable(undo_file)}: cannot be read ({_why(error)})") from error
    if not text.endswith(b"\n"):
        raise DatasetError(f"{no_plan}, or cut off; nothing moves before it is whole")
    paths = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            facts = json.loads(line)
            if number == 1:
                if facts["veduta clean"] != _FORM:
                    raise DatasetError(f"{no_plan} of this version")
                root, wanted = Path(str(facts["root"])), int(facts["photos"])
            else:
                path = str(facts["path"])
                _check_path(path, undo_file)
                paths.append(path)
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{no_plan} (line {number})") from error
    if len(paths) != wanted:
        raise DatasetError(f"{no_plan}: {len(paths)} photos, but it promises {wanted}")
    if not root.is_dir():
        raise DatasetError(
            f"{readable(undo_file)}: the dataset {readable(root)} is not there; put it back first"
        )
    return Path(os.path.realpath(root)), paths


def _check_path(path: str, where: Path) -> None:
    """Refuse a path that leads out, or means another than it says."""
    plain = posixpath.normpath(path) == path and "\0" not in path
    plain = plain and path not in (".", UNDO_FILE)
    if not plain or path.startswith("/") or path.split("/", 1)[0] == ".." or Path(path).drive:
        raise DatasetError(f"{readable(where)}: {readable(path)!r} is no path inside the dataset")


def _check_inside(root: Path, path: str) -> None:
    folder = Path(os.path.realpath((root / path).parent))
    if folder != root and root not in folder.parents:
        raise OSError(errno.EXDEV, "it lies behind a linked folder, outside the dataset")


def _move(source: Path, target: Path) -> None:
    """Move a file or a link to a name that is free; FileExistsError when it is not.

    At every moment the file is whole under at least one of the names.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except NotImplementedError:
        _copy(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(source, target)
    try:
        source.unlink()
    except OSError:
        target.unlink()  # it could not be taken away, so it has not moved
        raise


def _copy(source: Path, target: Path) -> None:
    """Copy to another file system, by way of a file that is not under the final name."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
        return
    half = target.with_name(target.name + _HALF)
    try:
        shutil.copy2(source, half)
        with half.open("rb") as written:
            os.fsync(written.fileno())
        half.rename(target)
    except OSError:
        half.unlink(missing_ok=True)
        raise


def _put_back(source: Path, target: Path) -> bool:
    """Put a photo back; False when it is back, or never went."""
    for half in (source, target):
        half.with_name(half.name + _HALF).unlink(missing_ok=True)
    away, there = os.path.lexists(source), os.path.lexists(target)
    if not away:
        if not there:
            raise FileNotFoundError(errno.ENOENT, "it is in neither place")
        return False
    if there:
        if not _same(source, target):
            raise FileExistsError(errno.EEXIST, "another file is in its place")
        source.unlink()  # killed between the two steps of a move
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(source, target)
    return True


def _same(first: Path, second: Path) -> bool:
    if first.is_symlink() or second.is_symlink():
        both = first.is_symlink() and second.is_symlink()
        return both and os.readlink(first) == os.readlink(second)
    return os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False)


def _remove_empty(target: Path, undo_file: Path, paths: Sequence[str]) -> None:
    """Take the quarantine's empty folders away, the deepest first, and the undo file at last."""
    folders = {target / parent for path in paths for parent in Path(path).parents}
    for folder in sorted(folders - {target}, key=lambda one: -len(one.parts)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if [entry.name for entry in target.iterdir()] == [undo_file.name]:
        undo_file.unlink()
        target.rmdir()


def _why(error: OSError) -> str:
    words = {
        errno.ENOENT: "the file is not there (any more)",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.EROFS: "the folder is on a read-only disk",
        errno.ENOSPC: "the disk is full",
        errno.EEXIST: "there is another file of that name",
    }
    if error.strerror and error.strerror != os.strerror(error.errno or 0):
        return error.strerror
    return words.get(error.errno or 0, str(error.strerror or error))
