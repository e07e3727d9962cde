"""The one place that writes files: a reader finds the whole file or folder, or the one before it.

A draft is written beside the target and takes its name at the end. Drafts that a killed process
left are hidden files or folders whose names begin with ".draft-". They can be deleted. The next
process that writes the same folder deletes them. A pipe or a device, such as /dev/stdout, is not
replaced: it receives the whole content at the end.

What cannot be written raises `CannotWrite`, which names the target and not the draft.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from veduta.errors import CannotWrite

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "AppendOnlyFile",
    "SystemFailure",
    "atomic_file",
    "atomic_files",
    "atomic_folder",
    "check_writable",
    "check_writable_folder",
    "is_disk_full",
    "is_draft",
    "is_path_inside",
    "open_regular",
    "remove_drafts",
    "remove_path",
    "replace_file",
    "room_for_open_files",
    "scratch_folder",
    "sync",
    "system_failure",
    "write_by_draft",
    "write_bytes",
    "write_text",
]

_DRAFT_PREFIX = ".draft-"
_TRIAL_MARK = "trial-"
_SCRATCH_SECONDS = 60.0
"""A temporary folder that is younger may not be locked yet by the process that makes it."""
_MAX_RENAMES = 100
_OTHER_OPEN_FILES = 256
"""So many files the rest of a process may have open."""
_NAME_IS_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_PARTIAL_WRITE = re.compile(r"\d+ requested and \d+ written")
_ERROR_NUMBER = re.compile(r"(?:os error |\[?errno:? )(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SystemFailure:
    """Why the operating system did not read or write a file, although the file may be sound.

    Attributes:
        reason: in a few words, such as "the disk is full".
        remedy: what the user can do, as the beginning of a sentence without a full stop.
        is_full: whether more room on the disk is what is needed.
    """

    reason: str
    remedy: str
    is_full: bool = False


_FREE_SPACE = "Free some space"
_GONE = SystemFailure("the file system does not answer", "Connect the disk or network folder again")
_NO_PERMISSION = SystemFailure("no permission", "Give the user who runs this the permission")
_FAILURES = {
    "ENOSPC": SystemFailure("the disk is full", _FREE_SPACE, is_full=True),
    "EDQUOT": SystemFailure("the user's share of the disk is full", _FREE_SPACE, is_full=True),
    "EFBIG": SystemFailure(
        "a file would be larger than this user or file system may have (see `ulimit -f`)",
        "Raise the limit, or name a folder on another file system",
    ),
    "EROFS": SystemFailure(
        "the file system is read-only", "Make it writable, or name a folder on another one"
    ),
    "EACCES": _NO_PERMISSION,
    "EPERM": _NO_PERMISSION,
    "EMFILE": SystemFailure(
        "too many files are open in this process (see `ulimit -n`)", "Raise the limit"
    ),
    "ENFILE": SystemFailure("too many files are open on this machine", "End other programs"),
    "ENAMETOOLONG": SystemFailure(
        "a name is too long for the file system", "Name a folder with a shorter path"
    ),
    "ENOMEM": SystemFailure("there is not enough memory", "End other programs"),
    "EIO": SystemFailure("the disk reports an error", "Check the disk and its cable"),
    **dict.fromkeys(
        ("ENOLCK", "EOPNOTSUPP", "ENOSYS"),
        SystemFailure("the file system has no locks", "Name a folder on another file system"),
    ),
    **dict.fromkeys(
        ("ESTALE", "ENOTCONN", "ENODEV", "ENXIO", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH"), _GONE
    ),
}
_FAILURE_OF_NUMBER = {
    getattr(errno, name): failure for name, failure in _FAILURES.items() if hasattr(errno, name)
}


def is_draft(path: Path) -> bool:
    """Return whether a path is named like an unfinished file or folder of this module."""
    return path.name.startswith(_DRAFT_PREFIX)


@contextmanager
def atomic_file(file: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield the path of an empty draft that replaces `file` at the end of the block.

    If the block raises, the draft is removed and `file` stays as it was.

    Args:
        file: the file to write. Its folder must exist.
        durable: wait until the content and the name are on the disk, so that they survive a power
            failure. A pipe or a device in this place is replaced, because it keeps nothing.

    Raises:
        CannotWrite: the file cannot be written.
    """
    target = Path(file)
    if not durable and _takes_no_draft(target):
        with _naming(target), _copied_into(target) as draft:
            yield draft
        return
    draft = _draft_path(target.parent, target.suffix)
    with _naming(target, draft):
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield draft
            if durable:
                sync(draft)
            draft.replace(target)
            if durable:
                sync(target.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield an empty draft folder that replaces `folder` at the end of the block.

    If the block raises, the draft is removed and `folder` stays as it was. Drafts of the same
    folder that killed processes left are removed first.

    Args:
        folder: the folder to write. The folder above it is made if it is missing. If `folder`
            exists, it is moved aside and removed after the draft has taken its name.
        durable: wait until all files and names are on the disk before the draft takes its name,
            so that a power failure leaves the whole folder or none.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    target = Path(folder)
    mark = f"{zlib.crc32(os.fsencode(target.name)):08x}-"
    draft, old = _draft_path(target.parent, mark=mark), _draft_path(target.parent)
    with _naming(target, draft), ExitStack() as stack:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Another process must not take a draft that has no lock yet for an abandoned one.
        with _locked(target.parent, wait=True):
            _remove_abandoned(target.parent.glob(f"{_DRAFT_PREFIX}{mark}*"))
            draft.mkdir()
            stack.enter_context(_locked(draft))
        try:
            yield draft
            if durable:
                for path in (*draft.rglob("*"), draft):
                    sync(path)
            _take_name(draft, target, old)
            if durable:
                sync(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def scratch_folder(name: str, above: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder for temporary files, which is removed at the end of the block.

    Those of the same name that killed processes of this user left are removed first.

    Args:
        name: how the names of the folders begin.
        above: where they lie; None: in the system's folder for temporary files.

    Raises:
        CannotWrite: the folder cannot be made.
    """
    above = above or Path(tempfile.gettempdir())
    before = time.time() - _SCRATCH_SECONDS
    _remove_abandoned(
        other
        for other in above.glob(f"{name}-*")
        if not other.is_symlink() and _is_own(other, before)
    )
    with _naming(above), ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=above))
        stack.enter_context(_locked(folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path, made_before: float) -> bool:
    """Tell whether a folder belongs to this user and was made before a time."""
    with suppress(OSError):
        status = folder.lstat()
        is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        return is_own and status.st_mtime < made_before
    return False


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on a folder, which ends with the process, however it ends.

    Yield whether there is a lock. Some file systems have none, and a folder may not be readable.
    """
    if fcntl is None:
        yield False
        return
    with ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            is_locked = False
        else:
            is_locked = True
        yield is_locked


def _remove_abandoned(drafts: Iterable[Path]) -> None:
    """Remove the draft folders that no process holds."""
    for draft in drafts:
        # Another process may remove it at the same time. What cannot be removed stays.
        with suppress(OSError), _locked(draft) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(draft, ignore_errors=True)


def _take_name(draft: Path, target: Path, old: Path) -> None:
    """Give a draft folder its name, and move what has the name to `old`.

    Another process may give the name to its own folder at the same time. The last one keeps it.
    """
    for attempt in range(1, _MAX_RENAMES + 1):
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            draft.rename(target)
        except OSError as error:
            if error.errno in _NAME_IS_TAKEN and attempt < _MAX_RENAMES:
                continue
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        return


@contextmanager
def atomic_files(folder: str | os.PathLike[str], *, last: str) -> Iterator[Path]:
    """Yield an empty draft folder whose entries move into `folder` at the end of the block.

    If the block raises, nothing moves. Other files of `folder` stay.

    Args:
        folder: the folder that receives the entries. It is made if it is missing.
        last: the name of the entry that moves last. An older one is removed first, so that this
            entry exists only together with all others.

    Raises:
        CannotWrite: an entry cannot be written.
    """
    target_folder = Path(folder)
    draft = _draft_path(target_folder)
    with _naming(target_folder, draft):
        target_folder.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        try:
            yield draft
            (target_folder / last).unlink(missing_ok=True)
            for entry in sorted(draft.iterdir(), key=lambda path: (path.name == last, path.name)):
                target = target_folder / entry.name
                if target.is_dir():
                    shutil.rmtree(target)
                entry.replace(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_writable(file: str | os.PathLike[str]) -> None:
    """Check that `atomic_file` can write a file, before the work whose result it holds.

    Args:
        file: the file. If it exists, it stays as it is.

    Raises:
        CannotWrite: it cannot be written.
    """
    target = Path(file)
    with _naming(target):
        if _takes_no_draft(target):
            return
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        draft = _draft_path(target.parent, target.suffix)
        with _naming(target, draft):
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            draft.unlink()


def check_writable_folder(folder: str | os.PathLike[str]) -> None:
    """Check that a folder can be made or added to, before the work whose results it holds.

    Args:
        folder: the folder, which need not exist.

    Raises:
        CannotWrite: it cannot be made, or nothing can be written into it.
    """
    target = Path(folder)
    with _naming(target):
        place = target
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is not a folder")
        draft = _draft_path(place, mark=_TRIAL_MARK)
        with _naming(target, draft), _locked(place, wait=True):
            _remove_abandoned(place.glob(f"{_DRAFT_PREFIX}{_TRIAL_MARK}*"))
            draft.mkdir()
            draft.rmdir()


def write_text(
    file: str | os.PathLike[str], parts: Iterable[str], *, durable: bool = False
) -> None:
    r"""Write text atomically, as UTF-8 with `\n` at the end of lines.

    Args:
        file: the file to write. Its folder must exist.
        parts: the text in pieces. A plain string is one text.
        durable: as for `atomic_file`.

    Raises:
        CannotWrite: the file cannot be written.
    """
    pieces = [parts] if isinstance(parts, str) else parts
    # The stream is left first, so that everything is in the draft before it is synced.
    with (
        atomic_file(file, durable=durable) as draft,
        draft.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.writelines(pieces)


def write_bytes(file: str | os.PathLike[str], data: bytes, *, durable: bool = False) -> None:
    """Write bytes atomically.

    Args:
        file: the file to write. Its folder must exist.
        data: its whole content.
        durable: as for `atomic_file`.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with atomic_file(file, durable=durable) as draft:
        draft.write_bytes(data)


def write_by_draft(
    file: str | os.PathLike[str], data: bytes, draft: str | os.PathLike[str]
) -> None:
    """Write bytes atomically by way of a given draft. Many small files are written fast like this.

    Args:
        file: the file to write. Its folder is made if it is missing.
        data: its whole content.
        draft: the unfinished file, in the same file system. If it exists, it is overwritten.

    Raises:
        OSError: the file cannot be written. The draft is removed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    descriptor = os.open(draft, flags, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.unlink(draft)
        raise
    finally:
        os.close(descriptor)
    replace_file(file, draft)


def replace_file(
    file: str | os.PathLike[str], draft: str | os.PathLike[str], *, durable: bool = False
) -> None:
    """Rename a complete draft, so that it replaces a file.

    Args:
        file: the file to replace or to make. Its folder is made if it is missing.
        draft: the complete content, in the same file system.
        durable: as for `atomic_file`.

    Raises:
        OSError: the draft cannot be renamed.
    """
    if durable:
        sync(draft)
    try:
        os.replace(draft, file)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        os.replace(draft, file)
    if durable:
        sync(os.path.dirname(file) or ".")


@contextmanager
def room_for_open_files(count: int) -> Iterator[None]:
    """Let this process have so many more files open, as far as the system allows it.

    Systems often allow 1,024, and many more to a process that asks.

    Args:
        count: how many files the block opens at most.
    """
    if sys.platform == "win32":  # It has no such limit.
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_OPEN_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_regular(file: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading. A pipe or a device, which may never end, is refused.

    Args:
        file: the file.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    # To open a pipe must not wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(file, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(file))
    return os.fdopen(descriptor, "rb")


def system_failure(error: BaseException) -> SystemFailure | None:
    """Return why the operating system failed; None if the error has another cause.

    Every message about a file that was not read or written rests on this function.

    Args:
        error: an `OSError`, or an error of a library that quotes one in its text, as Lance does.
    """
    if isinstance(error, MemoryError):
        return _FAILURES["ENOMEM"]
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        text = str(error)
        if _PARTIAL_WRITE.search(text):  # numpy and a disk that took a part of a write.
            return _FAILURES["ENOSPC"]
        if match := _ERROR_NUMBER.search(text):
            number = int(match[1])
    return _FAILURE_OF_NUMBER.get(number) if number is not None else None


def is_path_inside(path: str) -> bool:
    """Return whether a path from a file leads to a place inside the folder that it is relative to.

    Links are not followed: compare `os.path.realpath` with the folder before a file is changed.

    Args:
        path: as a file has it, with forward slashes. `.`, `..`, empty parts, NUL and, on Windows,
            backslashes and colons are refused, and what the file system cannot name.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    foreign = "\0\\:" if os.name == "nt" else "\0"
    parts = path.split("/")
    return not any(part in ("", ".", "..") for part in parts) and not set(foreign) & set(path)


def remove_path(path: str | os.PathLike[str]) -> None:
    """Remove a file, a link, or a folder with all that is in it. It may be missing.

    Args:
        path: what is removed.

    Raises:
        OSError: it cannot be removed.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def is_disk_full(error: OSError) -> bool:
    """Tell whether an error means that the disk, or the user's share of it, has no room.

    Args:
        error: raised while a file was written.
    """
    failure = system_failure(error)
    return failure is not None and failure.is_full


def remove_drafts(folder: Path, *, older_than_seconds: float = 0.0) -> None:
    """Remove the unfinished files and folders that killed processes left in a folder.

    Args:
        folder: it may be missing.
        older_than_seconds: keep a draft of which a part was written after this time, because
            another process may be at work on it.

    Raises:
        OSError: a draft cannot be removed.
    """
    newest = time.time() - older_than_seconds
    for draft in folder.glob(f"{_DRAFT_PREFIX}*"):
        parts = [draft, *(draft.iterdir() if draft.is_dir() else ())]
        if max(part.lstat().st_mtime for part in parts) > newest and older_than_seconds:
            continue
        remove_path(draft)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk.

    Windows cannot open a folder, so nothing is done for folders there.

    Args:
        path: a file or a folder.

    Raises:
        OSError: the disk does not accept it.
    """
    on_windows = os.name == "nt"
    if on_windows and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AppendOnlyFile:
    """A file that only grows at its end, such as a journal.

    A failed `append` leaves nothing behind: the file is cut back to its last whole entry. Use it in
    a `with` statement, or call `close`.

    Attributes:
        end: the position of the next entry, in bytes.
    """

    def __init__(self, file: str | os.PathLike[str], *, end: int | None = None) -> None:
        """Open a file for appending. It is made if it is missing.

        Args:
            file: the file.
            end: where its last whole entry ends, in bytes. What follows is cut off. `None` means
                that the whole file is sound.

        Raises:
            CannotWrite: the file cannot be opened or cut.
        """
        self._file = Path(file)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        with _naming(self._file):
            self._descriptor = os.open(file, flags, 0o666)
            try:
                self.end = os.fstat(self._descriptor).st_size if end is None else end
                self.cut(self.end)
            except OSError:
                os.close(self._descriptor)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, data: bytes, *, durable: bool = False) -> None:
        """Write `data` at the end.

        Args:
            data: one or more whole entries.
            durable: wait until they are on the disk.

        Raises:
            CannotWrite: they cannot be written. The file is as it was before.
        """
        left = memoryview(data)
        with _naming(self._file):
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
                if durable:
                    os.fsync(self._descriptor)
            except BaseException:
                os.ftruncate(self._descriptor, self.end)
                raise
        self.end += len(data)

    def read(self, start: int, length: int) -> bytes:
        """Return at most `length` bytes from the position `start`.

        Args:
            start: in bytes.
            length: in bytes.
        """
        os.lseek(self._descriptor, start, os.SEEK_SET)
        return os.read(self._descriptor, length)

    def cut(self, end: int) -> None:
        """Remove everything from the position `end` on, in bytes."""
        os.ftruncate(self._descriptor, end)
        self.end = end

    def sync(self) -> None:
        """Wait until everything that was appended is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@contextmanager
def _naming(target: Path, draft: Path | None = None) -> Iterator[None]:
    """Turn an error of the system while `target` is written into `CannotWrite`.

    An error that names another file stays as it is, because the block may also read.
    """
    if "\0" in str(target):
        reason = OSError(errno.EINVAL, "the name has a NUL character")
        raise CannotWrite(str(target).replace("\0", "\\0"), reason)
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        name = None if error.filename is None else Path(os.fsdecode(error.filename))
        is_write = name is None and (error.errno is not None or is_disk_full(error))
        ours = {target, target.parent, draft}
        if is_write or (name is not None and (name in ours or draft in name.parents)):
            if error.errno == errno.ENOENT and not target.parent.is_dir():
                missing = FileNotFoundError(errno.ENOENT, "its folder does not exist")
                raise CannotWrite(target, missing) from error
            raise CannotWrite(target, error) from error
        raise


def _takes_no_draft(target: Path) -> bool:
    """Return whether a path is a pipe, a device or a socket, which a draft must not replace."""
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _copied_into(target: Path) -> Iterator[Path]:
    """Yield an empty draft elsewhere, and copy it into a pipe or a device at the end."""
    with tempfile.TemporaryDirectory(prefix="veduta-") as folder:
        draft = Path(folder, f"draft{target.suffix}")
        draft.touch()
        yield draft
        with draft.open("rb") as content, target.open("wb", buffering=0) as stream:
            shutil.copyfileobj(content, stream)


def _draft_path(folder: Path, suffix: str = "", mark: str = "") -> Path:
    return folder / f"{_DRAFT_PREFIX}{mark}{os.urandom(8).hex()}{suffix}"
