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
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from veduta.curate.undo_file import UNDO_FILE, check_path, read_undo_file, write_undo_file
from veduta.errors import DatasetError, readable
from veduta.files import is_draft, remove_drafts, sync
from veduta.photos.formats import EXTENSIONS
from veduta.text import veduta_command

__all__ = ["UNDO_FILE", "Moved", "quarantine", "undo"]

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

_PHOTO_EXTENSIONS = frozenset(chain.from_iterable(EXTENSIONS.values()))
_COMPARED_BYTES = 1 << 20
# How `quarantine` names a folder beside a dataset.
_FOLDER_BESIDE = re.compile(r"(?P<dataset>.+)\.quarantine(-\d+)?")

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved.

    Attributes:
        root: the dataset.
        undo_file: the file that `undo` needs. It is removed when no photo is left to put back.
        moved: paths relative to the dataset.
        left: path → why the photo did not move.
        interrupted: whether Ctrl-C stopped it. Later photos are in neither of the two.
    """

    root: Path
    undo_file: Path
    moved: tuple[str, ...]
    left: Mapping[str, str]
    interrupted: bool = False

    @property
    def dataset_is_found(self) -> bool:
        """Whether `undo` finds the dataset itself. If not, name it as its `root`."""
        beside = _dataset_beside(self.undo_file.parent)
        return beside == self.root and all(map(_is_plain, self.moved))


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
        check_path(path, root)
    target = _new_folder(root, folder)
    undo_file = target / UNDO_FILE
    _write_undo_file(undo_file, root, paths)
    moved: list[str] = []
    left: dict[str, str] = {}
    interrupted = False
    for done, path in enumerate(paths, start=1):
        try:
            _check_inside(root, path, _OUTSIDE)
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            _move(root / path, target / path)
            moved.append(path)
            if on_progress:
                on_progress(done, len(paths))
        except OSError as error:
            left[path] = _reason(error)
        except KeyboardInterrupt:
            interrupted = True
            break
    if not moved and not interrupted:
        _remove_folder(target, undo_file, paths)
    return Moved(root, undo_file, tuple(moved), left, interrupted)


def undo(
    undo_file: Path, *, root: Path | None = None, on_progress: OnProgress | None = None
) -> Moved:
    """Put back the photos that `quarantine` moved and that are not back yet.

    A stranger may have written the undo file. So the photos go to the dataset that the folder lies
    beside and is named after, or to the one that the caller names, whatever the file says. When all
    photos are back, the undo file and the folder are removed, unless the folder has other files.

    Args:
        undo_file: the file that `quarantine` wrote.
        root: the dataset. None means the one beside the folder of the undo file. Then hidden files
            and files that are not named like a photo stay, because they may be settings or code.
        on_progress: called with the number done and the total.

    Raises:
        DatasetError: the file is not an undo file, is damaged, or the dataset does not exist.
    """
    paths = read_undo_file(undo_file)
    target = Path(os.path.realpath(undo_file.parent))
    dataset = _dataset_of(target, undo_file) if root is None else _named_dataset(root)
    moved: list[str] = []
    left: dict[str, str] = {}
    for done, path in enumerate(reversed(paths), start=1):
        try:
            if root is None and not _is_plain(path):
                raise OSError(errno.EPERM, _NOT_PLAIN)
            _check_inside(dataset, path, _OUTSIDE)
            _check_inside(target, path, "it lies behind a linked folder, outside the quarantine")
            if _put_back(target / path, dataset / path):
                moved.append(path)
        except OSError as error:
            left[path] = _reason(error)
        if on_progress:
            on_progress(done, len(paths))
    if not left:
        _remove_folder(target, undo_file, paths)
    return Moved(dataset, undo_file, tuple(moved), left)


def _dataset_beside(target: Path) -> Path | None:
    """Return the dataset that a quarantine folder lies beside and is named after, if it is there.

    A link leads elsewhere, and a hidden folder holds settings instead of photos. So these are none.
    """
    match = _FOLDER_BESIDE.fullmatch(target.name)
    if match is None or _is_hidden(target.name):
        return None
    beside = target.with_name(match["dataset"])
    return beside if beside.is_dir() and not beside.is_symlink() else None


def _dataset_of(target: Path, undo_file: Path) -> Path:
    beside = _dataset_beside(target)
    if beside is None:
        raise DatasetError(
            f"{readable(undo_file)}: its dataset is not there: no folder lies beside "
            f"{readable(target)} that this is named after, as photos.quarantine is after photos; "
            f"name the dataset: {veduta_command('clean', 'DATASET', '--undo', undo_file)}"
        )
    return beside


def _named_dataset(root: Path) -> Path:
    if not root.is_dir():
        raise DatasetError(f"{readable(root)}: not a folder; name the folder of the dataset")
    return Path(os.path.realpath(root))


def _is_plain(path: str) -> bool:
    """Return whether a file is named like a photo and not hidden, nor in a hidden folder."""
    return not _is_hidden(path) and path.rpartition(".")[2].lower() in _PHOTO_EXTENSIONS


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


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
    """Make a new folder, or take an empty one that a killed process left; False if it is in use."""
    try:
        folder.mkdir()
    except FileExistsError:
        return _is_left_empty(folder)
    except OSError as error:
        raise DatasetError(
            f"{readable(folder)}: cannot be made ({_reason(error)}); name another folder with "
            "--quarantine"
        ) from error
    return True


def _is_left_empty(folder: Path) -> bool:
    """Return whether a folder has nothing but unfinished undo files, and remove these."""
    if folder.is_symlink() or not folder.is_dir() or not all(map(is_draft, folder.iterdir())):
        return False
    remove_drafts(folder)
    return True


def _write_undo_file(undo_file: Path, root: Path, paths: Sequence[str]) -> None:
    try:
        write_undo_file(undo_file, root, paths)
    except BaseException as error:
        undo_file.unlink(missing_ok=True)
        undo_file.parent.rmdir()
        if not isinstance(error, OSError):
            raise
        raise DatasetError(
            f"{readable(undo_file)}: cannot be written ({_reason(error)}); nothing has moved"
        ) from error


_NOT_PLAIN = (
    "it is hidden or not named like a photo; it goes only into a dataset that you name: "
    "veduta clean DATASET --undo FILE"
)
_OUTSIDE = "it lies behind a linked folder, outside the dataset"


def _check_inside(root: Path, path: str, reason: str) -> None:
    folder = Path(os.path.realpath((root / path).parent))
    if folder != root and root not in folder.parents:
        raise OSError(errno.EXDEV, reason)


def _move(source: Path, target: Path) -> None:
    """Move a file or a link to a new name; FileExistsError if the name exists.

    At every moment, at least one of the names has the whole file.
    """
    kind = source.lstat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
        raise OSError(errno.EINVAL, "not a regular file")
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
    draft = _draft_of(target)
    try:
        with source.open("rb") as whole, draft.open("xb") as half:
            shutil.copyfileobj(whole, half)
    except FileExistsError:
        raise OSError(errno.EEXIST, f"a file named {readable(draft.name)} is in the way") from None
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    try:
        shutil.copystat(source, draft)
        sync(draft)
        draft.rename(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _put_back(source: Path, target: Path) -> bool:
    """Put a photo back; False if it is back already, or never moved."""
    _remove_half(_draft_of(source), target)
    _remove_half(_draft_of(target), source)
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
    if source.is_symlink() and (target.parent / os.readlink(source)).is_dir():
        raise OSError(errno.EINVAL, "a link to a folder is no photo")
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(source, target)
    return True


def _draft_of(path: Path) -> Path:
    return path.with_name(path.name + _DRAFT_SUFFIX)


def _remove_half(draft: Path, whole: Path) -> None:
    """Remove the half copy of a killed process. Any other file of that name stays."""
    if not _is_regular(draft) or not _is_regular(whole):
        return
    with draft.open("rb") as half, whole.open("rb") as full:
        while piece := half.read(_COMPARED_BYTES):
            if full.read(len(piece)) != piece:
                return
    draft.unlink()


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_same_file(first: Path, second: Path) -> bool:
    if first.is_symlink() or second.is_symlink():
        both = first.is_symlink() and second.is_symlink()
        return both and os.readlink(first) == os.readlink(second)
    return os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False)


def _remove_folder(target: Path, undo_file: Path, paths: Sequence[str]) -> None:
    """Remove the empty folders of the quarantine, the deepest first, and then the undo file."""
    folders = {target / parent for path in paths for parent in Path(path).parents}
    for folder in sorted(folders - {target}, key=lambda folder: -len(folder.parts)):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
    if [entry.name for entry in target.iterdir()] == [undo_file.name]:
        undo_file.unlink()
        target.rmdir()


def _reason(error: OSError) -> str:
    if error.strerror and error.strerror != os.strerror(error.errno or 0):
        return error.strerror
    return _REASONS.get(error.errno or 0, str(error.strerror or error))
