"""Photos on disk: reading their bytes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from veduta.errors import PhotoTooLarge, PhotoUnreadable

__all__ = ["MAX_BYTES", "Candidate", "read_bytes", "why_unreadable"]

MAX_BYTES = 256 * 1024 * 1024
"""The default cap on a file's size."""

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # To open a FIFO must not wait for its writer.
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)

_KINDS_OF_FILES = (
    (stat.S_ISDIR, "a folder, not a photo"),
    (stat.S_ISFIFO, "a pipe, not a regular file"),
    (stat.S_ISSOCK, "a socket, not a regular file"),
    (stat.S_ISCHR, "a device, not a regular file"),
    (stat.S_ISBLK, "a device, not a regular file"),
)

_REASONS = {
    errno.ENOENT: "the file is not there (any more)",
    errno.ENOTDIR: "the file is not there (a part of its path is not a folder)",
    errno.ELOOP: "its links lead in a circle",
    errno.EACCES: "permission denied: make it readable for the user who runs this",
    errno.EPERM: "permission denied: make it readable for the user who runs this",
    errno.EIO: "the disk reports a read error",
    errno.ENAMETOOLONG: "its name is too long for the file system",
    errno.EMFILE: "too many files are open in this process (see `ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ESTALE: "its network folder is gone",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a photo.

    Attributes:
        path: as the file system has it: the given folder, then the path from there to the file.
        size: in bytes; -1 for a broken link or a folder that cannot be listed. `read_bytes` of the
            path says why.
        mtime_ns: time of the last change, in nanoseconds since 1970; 0 if the size is -1.
    """

    path: bytes
    size: int
    mtime_ns: int


def read_bytes(path: str | bytes | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file. Links are followed.

    Args:
        path: the file.
        max_bytes: cap on its size.

    Raises:
        PhotoUnreadable: it is missing, there is no permission, it is a folder, pipe, socket or
            device, its links lead in a circle, or the disk reports an error.
        PhotoTooLarge: it has more than `max_bytes`.
    """
    name = os.fsdecode(path)
    try:
        # To open some devices has an effect, so the kind of the file is checked before. A folder is
        # opened, to learn whether it can be listed. The kind is checked again after the file is
        # open, because another file may have its name by now.
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            _check_regular(name, status)
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            status = os.fstat(descriptor)
            _check_regular(name, status)
            data = b""
            if status.st_size <= max_bytes:
                data = _read_up_to(descriptor, status.st_size, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PhotoUnreadable(name, why_unreadable(error, path)) from error
    except ValueError as error:  # A null byte in the name.
        raise PhotoUnreadable(name, _impossible_name(error)) from error
    size = max(status.st_size, len(data))
    if size > max_bytes:
        raise PhotoTooLarge(
            name, f"{size / 1e6:.1f} MB are more than the cap of {max_bytes / 1e6:.1f} MB"
        )
    return data


def _check_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        reasons = (reason for is_kind, reason in _KINDS_OF_FILES if is_kind(status.st_mode))
        raise PhotoUnreadable(name, next(reasons, "not a regular file"))


def _read_up_to(descriptor: int, expected: int, max_bytes: int) -> bytes:
    """Read to the end, or one byte beyond the cap if the file grows meanwhile."""
    chunks = []
    total = 0
    request = expected + 1
    while total <= max_bytes:
        chunk = os.read(descriptor, min(request, max_bytes + 1 - total))
        if not chunk:
            break
        chunks.append(chunk)
        total += len(chunk)
        request = max(expected + 1 - total, 1 << 16)
    return b"".join(chunks) if len(chunks) != 1 else chunks[0]


def why_unreadable(error: OSError, path: str | bytes | os.PathLike[str]) -> str:
    """Return in a few words why the operating system does not read a file or folder.

    Args:
        error: what it raised.
        path: the file or folder.
    """
    if error.errno == errno.ENOENT and os.path.islink(path):
        return "a link to a file that is not there"
    reason = _REASONS.get(error.errno or 0)
    return reason or f"it cannot be read ({error.strerror or error})"


def _impossible_name(error: ValueError) -> str:
    return f"no file can have this name ({error})"
