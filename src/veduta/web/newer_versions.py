"""Looks for newer versions of the indexes of a service that are in object stores."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.stored_index.cache import release_others

if TYPE_CHECKING:
    from veduta.web.served_index import ServedIndex

__all__ = ["NewerVersions"]


class NewerVersions:
    """A thread that asks the stores now and then. A request never waits for a store."""

    def __init__(self, indexes: Iterable[ServedIndex], seconds: float) -> None:
        """Prepare for the indexes of a service.

        Args:
            indexes: all of them; those in folders are passed over.
            seconds: between two questions.
        """
        self._indexes = [index for index in indexes if index.url is not None]
        self._seconds = seconds
        self._over = threading.Event()
        self._before: set[Path] = {index.path for index in self._indexes}

    def start(self) -> None:
        """Begin to ask."""
        if self._indexes:
            threading.Thread(target=self._run, name="newer versions", daemon=True).start()

    def close(self) -> None:
        """Ask no more. A question that is asked now is not waited for."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self.look()

    def look(self) -> None:
        """Ask once, and let versions be removed that were not used since the last time."""
        for index in self._indexes:
            index.refresh()
        now = {index.path for index in self._indexes}
        for url in {index.url for index in self._indexes if index.url is not None}:
            # Requests that are at work may still read the version before.
            release_others(url, now | self._before)
        self._before = now
