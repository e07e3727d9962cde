"""How long the steps of one search take, for those who ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["timed", "timings"]

_asked: ContextVar[dict[str, float] | None] = ContextVar("timings", default=None)


@contextmanager
def timings() -> Iterator[dict[str, float]]:
    """Yield a dictionary that receives the seconds of each step: step → seconds.

    It counts the steps that this thread takes in the block. A step that is taken several times
    counts each time.
    """
    seconds: dict[str, float] = {}
    token = _asked.set(seconds)
    try:
        yield seconds
    finally:
        _asked.reset(token)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Count the time of the block as one step, if somebody asked for it.

    Args:
        step: its name.
    """
    seconds = _asked.get()
    if seconds is None:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - started
