"""Copies of stored indexes in the user's cache folder, which several processes share.

```
~/.cache/veduta/indexes/HASH/     HASH: of the address
  source.json                     the address
  versions/7-0123abcd/            an ordinary index with `published.json`; never changed
  versions/.draft-7-0123abcd/     one that is being fetched
  changing/                       an index that is being changed, until it is published
  changes-1/                      changes that could not be published
  fetch.lock, changing.lock       held by the process that fetches, or that changes the index
```

A process that reads a version holds a shared lock on its folder until it ends. A version that
nobody holds is removed when a newer one was fetched.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from veduta.errors import IndexLocked, StorageError
from veduta.files import is_draft, write_text
from veduta.index.storage_errors import system_errors
from veduta.photos import content_hash
from veduta.stored_index.listing import Pointer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["CacheFolder", "hold", "indexes_folder", "is_shared_copy", "release", "release_others"]

_NAME_LETTERS = 20
_DIGEST_LETTERS = 12

_held: dict[str, int] = {}
"""Folder of each version that this process reads → an open descriptor with a shared lock."""


def indexes_folder() -> Path:
    """Return the folder of all copies."""
    from platformdirs import user_cache_path

    return user_cache_path("veduta", appauthor=False) / "indexes"


def is_shared_copy(index: Path) -> bool:
    """Tell whether a folder is a version that processes on this machine share.

    Args:
        index: the folder of an index.
    """
    folder = Path(os.path.abspath(index)).parent
    return folder.name == "versions" and folder.parent.parent == indexes_folder()


class CacheFolder:
    """The copies of one stored index.

    Attributes:
        url: of the store.
        folder: of the copies.
        versions: the folder of the versions.
        changing: the folder of the index that is being changed.
    """

    def __init__(self, url: str) -> None:
        """Name the folder. Nothing is made yet."""
        self.url = url
        self.folder = indexes_folder() / content_hash(url.encode()).hex()[:_NAME_LETTERS]
        self.versions = self.folder / "versions"
        self.changing = self.folder / "changing"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            StorageError: the disk does not accept them.
        """
        with system_errors(self.folder, "write"):
            self.versions.mkdir(parents=True, exist_ok=True)
            source = self.folder / "source.json"
            if not source.exists():
                write_text(source, json.dumps({"url": self.url}) + "\n")

    def version(self, pointer: Pointer) -> Path:
        """Return the folder of a version."""
        return self.versions / f"{pointer.version}-{pointer.digest[:_DIGEST_LETTERS]}"

    def draft(self, pointer: Pointer) -> Path:
        """Return the folder in which a version is fetched."""
        return self.versions / f".draft-{self.version(pointer).name}"

    def known(self) -> list[Path]:
        """Return the folders of all versions and drafts, the newest version first."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(self.versions.iterdir(), key=_number, reverse=True)
        return []

    def newest(self) -> Path | None:
        """Return the newest version on this machine, None if there is none."""
        return next((path for path in self.known() if not is_draft(path)), None)

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Hold the lock of the one process that fetches or removes versions. Others wait."""
        from filelock import FileLock

        self.prepare()
        with system_errors(self.folder, "write"):
            lock = FileLock(self.folder / "fetch.lock")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def changing_lock(self) -> Iterator[None]:
        """Hold the lock of the one process on this machine that changes the index.

        Raises:
            IndexLocked: another process holds it.
        """
        from filelock import FileLock, Timeout

        self.prepare()
        with system_errors(self.folder, "write"):
            lock = FileLock(self.folder / "changing.lock", timeout=0.2, poll_interval=0.02)
            try:
                lock.acquire()
            except Timeout:
                raise IndexLocked(
                    f"{self.url}: another process on this machine is changing this index. Wait "
                    "until it ends. Searches go on meanwhile."
                ) from None
        try:
            yield
        finally:
            lock.release()

    def remove_unused(self, kept: Path) -> None:
        """Remove the versions that no process reads, and drafts. The caller holds `fetching`.

        Args:
            kept: the version that stays in any case.
        """
        for path in self.known():
            if path == kept or os.fspath(path) in _held:
                continue
            if is_draft(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                _remove_if_unused(path)

    def next_changes(self) -> Path:
        """Return a folder that is not there yet, for changes that cannot be published."""
        number = 1
        while (self.folder / f"changes-{number}").exists():
            number += 1
        return self.folder / f"changes-{number}"


def hold(version: Path) -> bool:
    """Keep other processes from removing a version, until this process ends or releases it.

    Args:
        version: its folder.

    Returns:
        Whether it is there.

    Raises:
        StorageError: the disk does not read.
    """
    key = os.fspath(version)
    if fcntl is None:
        return version.is_dir()
    if key in _held:
        if _is_open_as(version, _held[key]):
            return True
        release(version)  # Somebody has emptied the cache.
    try:
        descriptor = os.open(version, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(
            f"{version}: {error.strerror}. Give the user who runs this the permission."
        ) from error
    with suppress(OSError):  # A file system without locks: versions there are not removed either.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    # It may have been removed, or moved away to be removed, before the lock was held.
    if not _is_open_as(version, descriptor):
        os.close(descriptor)
        return False
    _held[key] = descriptor
    return True


def release_others(url: str, kept: Collection[Path]) -> None:
    """Release the versions of an index that this process does not read any more.

    Args:
        url: of the store.
        kept: folders of the versions that it reads.
    """
    versions = CacheFolder(url).versions
    for key in list(_held):
        if Path(key).parent == versions and Path(key) not in kept:
            release(Path(key))


def release(version: Path) -> None:
    """Let other processes remove a version that this process held.

    Args:
        version: its folder.
    """
    descriptor = _held.pop(os.fspath(version), None)
    if descriptor is not None:
        os.close(descriptor)


def _is_open_as(version: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(version), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove_if_unused(version: Path) -> None:
    """Remove a version that no process holds."""
    aside = version.with_name(f".draft-gone-{version.name}")
    with ExitStack() as held, suppress(OSError):  # Somebody holds it, or reads it on Windows.
        if fcntl is not None:
            descriptor = os.open(version, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        version.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _number(version: Path) -> tuple[bool, int, str]:
    number = version.name.removeprefix(".draft-").partition("-")[0]
    return not is_draft(version), int(number) if number.isdecimal() else 0, version.name
