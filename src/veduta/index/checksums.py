"""Checksums of the files that Veduta writes into an index, by which damage is found.

A folder is sealed when its files are complete: `checksums.json` then holds the BLAKE3 digest of
each file and a digest of itself. The files of a sealed folder do not change. Files may come and go,
and then the folder is sealed again.

To hash all files at each search would take too long. So `stamps.json` remembers the size, times and
inode that a file had when its bytes had a digest. A file that still has them is not read again. The
change time is one of them: a program that writes to a file can set back the modification time, but
not the change time. A copied index has other stamps, so its files are hashed once. Damage of the
disk itself changes no stamp. Only a check that hashes all files anew finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from veduta.errors import readable
from veduta.files import open_regular, remove_path, sync, system_failure, write_text
from veduta.validation import InvalidValue, read_json

__all__ = ["CHECKSUMS_FILE", "STAMPS_FILE", "Checksums", "seal", "stamp_of", "stamps_in"]

CHECKSUMS_FILE = "checksums.json"
STAMPS_FILE = "stamps.json"

_CLOCK_STEP_NS = 50_000_000
"""More than the step of the clock by which file systems note changes. A file that changed so
recently can change again and keep its stamp. So it is hashed again the next time."""

_Stamp = tuple[int, int, int, int]
_Stamped = tuple[int, int, int, int, str]

_hashed_here: dict[str, _Stamped] = {}
"""What this process hashed, for folders in which it cannot write its stamps."""


class _Record(msgspec.Struct):
    """The content of `checksums.json`."""

    files: dict[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class Checksums:
    """What a sealed folder must hold.

    Attributes:
        folder: the folder.
        digests: file name, relative and with slashes → BLAKE3 digest of its bytes, 64 hex digits.
    """

    folder: Path
    digests: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Checksums | None:
        """Read the checksums of a folder.

        Args:
            folder: the folder.

        Returns:
            None if the folder was never sealed.

        Raises:
            OSError: they cannot be read.
            InvalidValue: `checksums.json` itself is damaged.
        """
        try:
            record = read_json(folder / CHECKSUMS_FILE, _Record)
            if record.digest != _digest_of(record.files):
                raise InvalidValue("its content does not match its own checksum")
        except FileNotFoundError:
            return None
        except (OSError, InvalidValue) as error:
            if system_failure(error) is not None:
                raise
            raise InvalidValue(f"{readable(folder / CHECKSUMS_FILE)}: {error}") from error
        return cls(folder, record.files)

    def damaged(
        self, names: Iterable[str] | None = None, *, anew: bool = False, remember: bool = True
    ) -> list[str]:
        """Return the files that are missing or do not have their digest.

        Args:
            names: of files. Those without a digest are passed over. None: all files that have one.
            anew: read all of them, whatever their stamps are.
            remember: write the stamps of those that were read.

        Raises:
            OSError: a file is there and cannot be read.
        """
        wanted = self.digests if names is None else [n for n in names if n in self.digests]
        stamps = {} if anew else _read_stamps(self.folder)
        before = dict(stamps)
        wrong = [
            name
            for name in wanted
            if _digest(self.folder, name, stamps, anew=anew) != self.digests[name]
        ]
        if remember and stamps != before:
            _write_stamps(self.folder, {n: s for n, s in stamps.items() if n in self.digests})
        return wrong


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """Note the checksums of files that are complete, after they are on the disk.

    A file that has a checksum keeps it and is not read. Files that are not named lose theirs.

    Args:
        folder: the folder of the files.
        names: of the files, relative to the folder and with slashes. None: all files that are in
            the folder itself.

    Raises:
        OSError: a file cannot be read, or the checksums cannot be written.
        InvalidValue: the checksums that are there are damaged.
    """
    known = Checksums.read(folder)
    old = known.digests if known else {}
    stamps = _read_stamps(folder) if known else {}
    digests: dict[str, str] = {}
    if names is None:
        names = {path.name for path in folder.iterdir()} - {CHECKSUMS_FILE, STAMPS_FILE}
    names = sorted(names)
    new = [folder / name for name in names if name not in old]
    for path in (*new, *{path.parent for path in new}):
        sync(path)
    for name in names:
        digests[name] = old.get(name) or _digest(folder, name, stamps, anew=True)
    if digests == old and known:
        return
    record = _Record(digests, _digest_of(digests))
    text = json.dumps(msgspec.to_builtins(record), indent=1)
    write_text(folder / CHECKSUMS_FILE, text, durable=True)
    _write_stamps(folder, {name: stamp for name, stamp in stamps.items() if name in digests})


def stamp_of(file: str | os.PathLike[str]) -> _Stamp | None:
    """Return what tells whether a file has changed: size, times and inode.

    Args:
        file: the file.

    Returns:
        None if there is no such file.
    """
    try:
        status = os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def stamps_in(folder: Path) -> tuple[tuple[str, _Stamp | None], ...]:
    """Return the stamps of the files of a sealed folder by their names; none without a folder.

    Args:
        folder: the folder.
    """
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if entry.name != STAMPS_FILE]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted((entry.name, stamp_of(entry.path)) for entry in files))


def _digest(folder: Path, name: str, stamps: dict[str, _Stamped], *, anew: bool) -> str:
    """Return the digest of a file, "" if there is no such file. A new stamp goes into `stamps`."""
    path = folder / name
    try:
        now = time.time_ns()
        status = path.lstat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        for known in () if anew else (stamps.get(name), _hashed_here.get(os.fspath(path))):
            if known is not None and known[:4] == stamp:
                return known[4]
        if not stat.S_ISREG(status.st_mode):
            return ""
        from blake3 import blake3

        with open_regular(path) as stream:
            opened: Any = stream
            new_hash: Any = blake3
            digest = str(hashlib.file_digest(opened, new_hash).hexdigest())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if status.st_ctime_ns < now - _CLOCK_STEP_NS:
        stamps[name] = _hashed_here[os.fspath(path)] = (*stamp, digest)
    return digest


def _digest_of(files: dict[str, str]) -> str:
    from blake3 import blake3

    return str(blake3(json.dumps(files, sort_keys=True).encode()).hexdigest())


def _read_stamps(folder: Path) -> dict[str, _Stamped]:
    """Return the stamps of a folder; none if they cannot be used: then all files are hashed."""
    try:
        return read_json(folder / STAMPS_FILE, dict[str, _Stamped])
    except (OSError, InvalidValue):
        return {}


def _write_stamps(folder: Path, stamps: dict[str, _Stamped]) -> None:
    # They only save time. Where they cannot be written, each process hashes the files once.
    with contextlib.suppress(OSError):
        if not (folder / STAMPS_FILE).is_file():
            remove_path(folder / STAMPS_FILE)
        write_text(folder / STAMPS_FILE, json.dumps(stamps, indent=1))
