"""Photos that a person took out of an index. Later updates leave them out.

`removed-photos.json` remembers their paths. An update forgets those whose file is gone, so that
another photo of that name comes in later.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from veduta.errors import native_path
from veduta.index.sealed_json import read_sealed, write_sealed

__all__ = ["REMOVED_PHOTOS_FILE", "RemovedPhotos"]

REMOVED_PHOTOS_FILE = "removed-photos.json"


class _Stored(msgspec.Struct):
    """The content of the file: paths, and a checksum of them."""

    paths: list[str]
    digest: str


class RemovedPhotos:
    """The paths of photos that were taken out of an index.

    Attributes:
        paths: of the photos.
    """

    def __init__(self, index: Path) -> None:
        """Read the paths of an index.

        Args:
            index: its folder.

        Raises:
            IndexDamaged: the file does not read back as it was written.
            StorageError: the disk does not read.
        """
        self._file = index / REMOVED_PHOTOS_FILE
        self._is_changed = False
        stored = read_sealed(
            self._file,
            _Stored,
            lambda content: content.paths,
            "It names the photos that were taken out of the index. Restore it from a backup, or "
            "remove it: the next update then adds those photos again",
        )
        self.paths = {os.fsencode(native_path(path)) for path in stored.paths} if stored else set()

    def add(self, paths: Iterable[bytes]) -> None:
        """Remember further photos. The caller holds the writer's lock.

        Args:
            paths: of the photos.

        Raises:
            StorageError: the disk does not accept it.
        """
        new = set(paths) - self.paths
        if new:
            self.paths |= new
            self._write()

    def forget(self, paths: Iterable[bytes]) -> None:
        """Let this update add photos again, and later ones if it is saved.

        Args:
            paths: of the photos.
        """
        gone = self.paths.intersection(paths)
        self.paths -= gone
        self._is_changed |= bool(gone)

    def save(self) -> None:
        """Write what was forgotten. The caller holds the writer's lock.

        Raises:
            StorageError: the disk does not accept it.
        """
        if self._is_changed:
            self._write()
            self._is_changed = False

    def _write(self) -> None:
        paths = sorted(path.decode("utf-8", "surrogateescape") for path in self.paths)
        write_sealed(self._file, "paths", paths, paths)
