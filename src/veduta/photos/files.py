"""Photos on disk: finding them in folders, and reading their bytes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from veduta.errors import PhotoTooLarge, PhotoUnreadable
from veduta.photos.formats import HEAD_BYTES, sniff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_BYTES", "Candidate", "find_photos", "is_ignored", "read_bytes"]

MAX_BYTES = 256 * 1024 * 1024
"""The default cap on a file's size."""

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # To open a FIFO must not wait for its writer.
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)

_PHOTO_EXTENSIONS = frozenset(
    b"jpg jpeg jpe jfif jif jfi pjpeg pjp png apng webp avif avifs heic heif heics heifs hif "
    b"tif tiff gif bmp dib".split()
)

# Files with these extensions are not opened to see whether they are photos.
_OTHER_EXTENSIONS = frozenset(
    b"7z aac aae ai aif apk arw asc asf avi bak bat bin blend bz2 c cfg class conf cpp cr2 cr3 crw "
    b"cs css csv ctl dat db dbf dll dmg dng doc docx dylib egg eml eps epub erf exe flac flv gpx "
    b"gz h hpp htm html ics ico ini ipynb iso jar java js json jsonl kml kmz lance lock log lua "
    b"m3u m4a m4v map md mdb mkv mov mp3 mp4 mpeg mpg mts nef npy npz o odp ods odt ogg onnx opus "
    b"orf parquet pdf pef php pickle pid pkl pl plist po pot ppt pptx properties ps psd pt pth py "
    b"pyc pyd pyi r raf rar raw rb rm rs rst rtf rw2 safetensors scss sh so sql sqlite sqlite3 "
    b"sr2 srt srw sub svg svgz swf swp tar tex tgz tmp toml torrent ts tsv tsx ttf txt url vcf vob "
    b"wasm wav webm wma wmv woff woff2 x3f xcf xhtml xls xlsx xml xmp xsl xz yaml yml zip "
    b"zst".split()
)

_SYSTEM_NAMES = frozenset({b"thumbs.db", b"desktop.ini", b"@eadir", b"__macosx", b"$recycle.bin"})

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
        raise PhotoUnreadable(name, _reason(error, path)) from error
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


def _reason(error: OSError, path: str | bytes | os.PathLike[str]) -> str:
    if error.errno == errno.ENOENT and os.path.islink(path):
        return "a link to a file that is not there"
    reason = _REASONS.get(error.errno or 0)
    return reason or f"it cannot be read ({error.strerror or error})"


def _impossible_name(error: ValueError) -> str:
    return f"no file can have this name ({error})"


def find_photos(folders: Iterable[str | bytes | os.PathLike[str]]) -> Iterator[Candidate]:
    """List the files in folders that may be photos.

    The entries of a folder come in the order of their names (as bytes), sub-folders at their
    position. Links to files and folders are followed. A folder is entered only once, however many
    links lead to it, so circles of links do no harm. A file with two names is listed twice, like
    two copies. Hidden files and the files that operating systems and network disks leave behind are
    skipped. The extension of a file decides; if it is missing or unknown, its first bytes decide. A
    file that is given in place of a folder is always listed.

    An error below a given folder does not end the list, and is not lost: a broken link with a
    photo's name, and a sub-folder that cannot be listed, come with the size -1. `read_bytes` of
    that path raises the error for the report.

    Args:
        folders: folders, or single files.

    Yields:
        The files.

    Raises:
        PhotoUnreadable: a given folder is missing or cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        start = os.fsencode(folder)
        try:
            status = os.stat(start)
            if not stat.S_ISDIR(status.st_mode):
                yield Candidate(start, status.st_size, status.st_mtime_ns)
                continue
            if not _first_visit(status, seen):
                continue
            entries = _sorted_entries(start)
        except OSError as error:
            raise PhotoUnreadable(os.fsdecode(start), _reason(error, start)) from error
        except ValueError as error:  # A null byte in the name.
            raise PhotoUnreadable(os.fsdecode(start), _impossible_name(error)) from error
        yield from _walk(entries, seen)


def is_ignored(name: bytes) -> bool:
    """Return whether `find_photos` skips files and folders with this name."""
    return name.startswith(b".") or name.lower() in _SYSTEM_NAMES


def _walk(entries: list[os.DirEntry[bytes]], seen: set[tuple[int, int]]) -> Iterator[Candidate]:
    # This is no recursion, because a tree of folders may be deeper than Python's stack.
    pending = entries[::-1]
    while pending:
        entry = pending.pop()
        name = entry.name
        if is_ignored(name):
            continue
        extension = name.rpartition(b".")[2].lower() if b"." in name else b""
        try:
            if entry.is_dir():
                if _first_visit(os.stat(entry.path), seen):
                    pending.extend(reversed(_sorted_entries(entry.path)))
                continue
            if extension in _OTHER_EXTENSIONS:
                continue
            status = entry.stat()
            if extension not in _PHOTO_EXTENSIONS and not _begins_like_a_photo(entry.path, status):
                continue
        except OSError:
            # Whoever reads this path gets the same error and reports it. A broken link is reported
            # only if it is named like a photo.
            if extension in _PHOTO_EXTENSIONS or not entry.is_symlink():
                yield Candidate(entry.path, -1, 0)
            continue
        yield Candidate(entry.path, status.st_size, status.st_mtime_ns)


def _sorted_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _first_visit(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    """Return whether this folder was not seen before, and note it."""
    identity = (status.st_dev, status.st_ino)
    if status.st_ino == 0:  # The file system has no numbers.
        return True
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _begins_like_a_photo(path: bytes, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    with open(path, "rb") as file:
        return sniff(file.read(HEAD_BYTES)) is not None
