"""The one place that writes files: a reader finds all of a file or folder, or none of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "AppendOnlyFile",
    "atomic_file",
    "atomic_files",
    "atomic_folder",
    "sync",
    "write_bytes",
    "write_text",
]

_DRAFT_PREFIX = ".draft-"


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
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_DRAFT_PREFIX, suffix=target.suffix)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        if durable:
            sync(draft)
        draft.replace(target)
        if durable:
            sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty draft folder that replaces `folder` at the end of the block.

    If the block raises, the draft is removed and `folder` stays as it was. The folder above it is
    made if it is missing.

    Args:
        folder: the folder to write. If it exists, it is removed just before the replacement.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=_DRAFT_PREFIX))
    try:
        yield draft
        draft.chmod(0o777 & ~_umask())
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
    draft = Path(tempfile.mkdtemp(dir=target_folder, prefix=_DRAFT_PREFIX))
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


def write_text(file: str | os.PathLike[str], parts: Iterable[str]) -> None:
    """Write text atomically, as UTF-8 with `\\n` at the end of lines.

    Args:
        file: the file to write.
        parts: the text in pieces. A plain string is one text.

    Raises:
        OSError: the file cannot be written.
    """
    pieces = [parts] if isinstance(parts, str) else parts
    with atomic_file(file) as draft, draft.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(pieces)


def write_bytes(file: str | os.PathLike[str], data: bytes, *, durable: bool = False) -> None:
    """Write bytes atomically.

    Args:
        file: the file to write.
        data: its whole content.
        durable: as for `atomic_file`.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_file(file, durable=durable) as draft:
        draft.write_bytes(data)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk.

    Windows cannot open a folder, so nothing is done for folders there.

    Args:
        path: a file or a folder.

    Raises:
        OSError: the disk does not take it.
    """
    if os.name == "nt" and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AppendOnlyFile:
    """A file that only grows at its end, such as a journal.

    A failed `append` leaves nothing behind: the file is cut back to its last whole entry.

    Attributes:
        end: the position of the next entry, in bytes.
    """

    def __init__(self, file: str | os.PathLike[str], *, end: int | None = None) -> None:
        """Open a file for appending; it is made if it is missing.

        Args:
            file: the file.
            end: where its last whole entry ends, in bytes; what follows is cut off. `None`: all of
                it is whole.

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
        except OSError:
            os.ftruncate(self._descriptor, self.end)
            raise
        self.end += len(data)

    def read(self, start: int, length: int) -> bytes:
        """Return at most `length` bytes from the position `start`."""
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


def _umask() -> int:
    # `mkstemp` and `mkdtemp` make files for their owner alone. The result gets the usual rights.
    mask = os.umask(0)
    os.umask(mask)
    return mask
