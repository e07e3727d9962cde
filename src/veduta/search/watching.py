"""What a search knows before it ends, for those who watch it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from veduta.search.hits import Hits

__all__ = ["Watcher", "watched", "watcher"]


class Watcher(Protocol):
    """Is told how far a search is, in the thread that searches. What it raises ends the search."""

    def nearest(self, hits: Hits) -> None:
        """Take the hits without re-ranking. It is not called if that is the whole answer."""

    def verified(self, done: int, total: int) -> None:
        """Take how many are verified. It begins again for regions, and for a turned query."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(by: Watcher) -> Iterator[None]:
    """Watch the searches that this thread makes in the block.

    Args:
        by: is told.
    """
    token = _watcher.set(by)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Watcher | None:
    """Return who watches the searches of this thread, or None."""
    return _watcher.get()
