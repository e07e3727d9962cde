"""The one place that writes files: a reader finds the whole file or folder, or the one before it.

A draft is written beside the target and takes its name at the end. Drafts that a killed process
left are hidden files or folders whose names begin with ".draft-". They can be deleted.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

__all__ = [
    "AppendOnlyFile",
    "atomic_file",
    "atomic_files",
    "atomic_folder",
    "is_disk_full",
    "is_draft",
    "open_regular",
    "replace_file",
    "sync",
    "write_by_draft",
    "write_bytes",
    "write_text",
]

_DRAFT_PREFIX = ".draft-"
_PARTIAL_WRITE = re.compile(r"\d+ requested and \d+ written")


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
            failure.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(file)
    draft = _draft_path(target.parent, target.suffix)
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

    If the block raises, the draft is removed and `folder` stays as it was.

    Args:
        folder: the folder to write. The folder above it is made if it is missing. If `folder`
            exists, it is moved aside and removed after the draft has taken its name.
        durable: wait until all files and names are on the disk before the draft takes its name,
            so that a power failure leaves the whole folder or none.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft, old = _draft_path(target.parent), _draft_path(target.parent)
    draft.mkdir()
    try:
        yield draft
        if durable:
            for path in (*draft.rglob("*"), draft):
                sync(path)
        if target.exists():
            target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        if durable:
            sync(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_files(folder: str | os.PathLike[str], *, last: str) -> Iterator[Path]:
    """Yield an empty draft folder whose entries move into `folder` at the end of the block.

    If the block raises, nothing moves. Other files of `folder` stay.

    Args:
        folder: the folder that receives the entries. It is made if it is missing.
        last: the name of the entry that moves last. An older one is removed first, so that this
            entry exists only together with all others.

    Raises:
        OSError: an entry cannot be written.
    """
    target_folder = Path(folder)
    target_folder.mkdir(parents=True, exist_ok=True)
    draft = _draft_path(target_folder)
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


def write_text(
    file: str | os.PathLike[str], parts: Iterable[str], *, durable: bool = False
) -> None:
    r"""Write text atomically, as UTF-8 with `\n` at the end of lines.

    Args:
        file: the file to write. Its folder must exist.
        parts: the text in pieces. A plain string is one text.
        durable: as for `atomic_file`.

    Raises:
        OSError: the file cannot be written.
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
        OSError: the file cannot be written.
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


def is_disk_full(error: OSError) -> bool:
    """Tell whether an error means that the disk, or the user's share of it, has no room.

    numpy reports a write that the disk took only in part without an error number.

    Args:
        error: raised while a file was written.
    """
    if error.errno is None:
        return _PARTIAL_WRITE.search(str(error)) is not None
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


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
            OSError: the file cannot be opened or cut.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
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
            OSError: they cannot be written. The file is as it was before.
        """
        os.lseek(self._descriptor, self.end, os.SEEK_SET)
        left = memoryview(data)
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


def _draft_path(folder: Path, suffix: str = "") -> Path:
    return folder / f"{_DRAFT_PREFIX}{os.urandom(8).hex()}{suffix}"
