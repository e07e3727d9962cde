"""Where finished parts wait for the merge: a folder beside the index, on a disk that all share.

A part gets its name when it is whole and on the disk. Its name tells the shard and the files, so
two workers that do the same block deliver the same part, and the second one is dropped.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from veduta.errors import IndexDamaged, IndexLocked, readable
from veduta.files import remove_path, sync, write_bytes
from veduta.index.storage_errors import index_errors
from veduta.ray_indexing.part_files import copy_part, require_whole
from veduta.validation import read_whole

__all__ = ["FolderStaging", "Staging"]

_PLAN_FILE = "plan.json"
_LOCK_FILE = "driver.lock"
_DRAFT = ".draft-"
_SEEN_LATE_SECONDS = 60.0
"""A network disk may show a new name that late on another machine."""
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})


class Staging(Protocol):
    """A place for the plan of a run and for finished parts. The driver and all workers see it."""

    @property
    def where(self) -> str:
        """The place, for messages."""

    @property
    def settings(self) -> dict[str, str]:
        """What `veduta.ray_indexing.places.staging_of` needs on another machine, plain values."""

    def plan(self) -> bytes | None:
        """Return the plan, None if there is none."""

    def keep_plan(self, plan: bytes) -> None:
        """Write a plan."""

    def has(self, name: str) -> bool:
        """Tell whether a part is there."""

    def like(self, prefix: str) -> list[str]:
        """Return the names of the parts that begin with a prefix, as far as they are known."""

    def put(self, name: str, part: Path) -> None:
        """Deliver a part, unless it is there."""

    def take(self, name: str) -> Path:
        """Return the folder of a part for the merge; raises IndexDamaged if it is not whole."""

    def fetch(self, name: str, target: Path) -> None:
        """Copy a part into a folder; raises IndexDamaged if it is not whole."""

    def remove(self, name: str) -> None:
        """Remove a part."""

    def clear(self) -> None:
        """Remove the plan and all parts."""


class FolderStaging:
    """A folder on a disk that the driver and all workers share."""

    def __init__(self, folder: Path) -> None:
        """Describe the place.

        Args:
            folder: absolute.
        """
        self._folder = folder

    @property
    def where(self) -> str:
        """The place, for messages."""
        return readable(self._folder)

    @property
    def settings(self) -> dict[str, str]:
        """What `veduta.ray_indexing.places.staging_of` needs on another machine."""
        return {"folder": str(self._folder)}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers away during the block. The folder is removed if it is empty then.

        Raises:
            IndexLocked: another driver is at work.
            StorageError: the disk does not accept it.
        """
        from filelock import FileLock, Timeout

        with index_errors(self._folder, "write"):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / _LOCK_FILE, timeout=0.2, poll_interval=0.02)
            try:
                lock.acquire()
            except Timeout:
                raise IndexLocked(
                    f"{self.where}: another process is indexing with Ray into this index. Wait "
                    "until it ends."
                ) from None
        try:
            yield
        finally:
            if not self._names() and self.plan() is None:
                (self._folder / _LOCK_FILE).unlink(missing_ok=True)
                with suppress(OSError):
                    self._folder.rmdir()
            lock.release()

    def plan(self) -> bytes | None:
        """Return the plan, None if there is none.

        Raises:
            StorageError: the disk does not read.
        """
        with index_errors(self._folder, "read"):
            try:
                return read_whole(self._folder / _PLAN_FILE)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def keep_plan(self, plan: bytes) -> None:
        """Write a plan.

        Args:
            plan: its content.

        Raises:
            StorageError: the disk does not accept it.
        """
        with index_errors(self._folder, "write"):
            write_bytes(self._folder / _PLAN_FILE, plan, durable=True)

    def has(self, name: str) -> bool:
        """Tell whether a part is there.

        Args:
            name: of the part.
        """
        return name in self._names()  # A list of names is newer than what a network disk remembers.

    def like(self, prefix: str) -> list[str]:
        """Return the names of the parts that begin with a prefix.

        Args:
            prefix: of the names.
        """
        return sorted(name for name in self._names() if name.startswith(prefix))

    def _names(self) -> set[str]:
        with index_errors(self._folder, "read"):
            try:
                return {name for name in os.listdir(self._folder) if name.startswith("part-")}
            except (FileNotFoundError, NotADirectoryError):
                return set()

    def put(self, name: str, part: Path) -> None:
        """Deliver a part, unless it is there.

        Args:
            name: of the part.
            part: the folder of its index.

        Raises:
            StorageError: the disk does not accept it.
        """
        draft = self._folder / f"{_DRAFT}{name}-{secrets.token_hex(4)}"
        with index_errors(self._folder, "write"):
            try:
                draft.mkdir()
                copy_part(part, draft)
                os.rename(draft, self._folder / name)
                sync(self._folder)
            except OSError as error:
                if error.errno not in _TAKEN or not (self._folder / name).is_dir():
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def take(self, name: str) -> Path:
        """Return the folder of a part.

        Args:
            name: of the part.

        Raises:
            IndexDamaged: it is missing, or a file of it is missing or changed.
            StorageError: the disk does not read.
        """
        part = self._folder / name
        deadline = time.monotonic() + _SEEN_LATE_SECONDS
        while not self.has(name):
            if time.monotonic() > deadline:
                raise IndexDamaged(f"{readable(part)} is missing, so its block is read again")
            time.sleep(0.2)
        require_whole(part)
        return part

    def fetch(self, name: str, target: Path) -> None:
        """Copy a part, so that it can be continued.

        Args:
            name: of the part.
            target: an empty folder.

        Raises:
            IndexDamaged: a file of it is missing or changed.
            StorageError: the disk does not read or write.
        """
        require_whole(self._folder / name)
        copy_part(self._folder / name, target)

    def remove(self, name: str) -> None:
        """Remove a part.

        Args:
            name: of the part.

        Raises:
            StorageError: the disk does not accept it.
        """
        with index_errors(self._folder, "write"):
            remove_path(self._folder / name)

    def clear(self) -> None:
        """Remove the plan and all parts, and what killed workers left.

        Raises:
            StorageError: the disk does not accept it.
        """
        with index_errors(self._folder, "write"):
            # First, so that a clearing that is cut off is not taken for a run to be continued.
            (self._folder / _PLAN_FILE).unlink(missing_ok=True)
            for name in os.listdir(self._folder):
                if name.startswith(("part-", _DRAFT)):
                    remove_path(self._folder / name)
