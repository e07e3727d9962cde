"""Work of the calling thread, in which other threads help while processor cores are idle.

A search that is alone uses all cores. When there are as many searches as cores, each does its own
work: more threads than cores would only take turns, and wait for each other.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar

from veduta.processor_cores import processor_cores

__all__ = ["map_with_help"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Cores:
    """Counts the threads that work at the moment."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._busy = 0
        self._lock = threading.Lock()

    def occupy(self, *, only_idle: bool) -> bool:
        """Count this thread; with `only_idle` only if a core is idle. Return whether it counts."""
        with self._lock:
            if only_idle and self._busy >= self._number:
                return False
            self._busy += 1
            return True

    def leave(self) -> None:
        """Count this thread no more."""
        with self._lock:
            self._busy -= 1

    @property
    def are_idle(self) -> bool:
        """Whether a core has no thread."""
        return self._busy < self._number

    @property
    def are_too_few(self) -> bool:
        """Whether there are more threads than cores."""
        return self._busy > self._number


class _Work(Generic[Item, Result]):
    """The items of one call. Each thread takes the first one that no other has taken."""

    def __init__(self, items: Sequence[Item], work: Callable[[Item], Result]) -> None:
        self.results: list[Future[Result]] = [Future() for _ in items]
        self.is_over = False  # No other item begins.
        self._items = items
        self._work = work
        self._numbers = itertools.count()

    def do_one(self) -> bool:
        """Do the work of the next item. Return whether there was one."""
        number = next(self._numbers)
        if number >= len(self._items):
            self.is_over = True
        if self.is_over:
            return False
        try:
            self.results[number].set_result(self._work(self._items[number]))
        except BaseException as error:  # noqa: BLE001
            self.results[number].set_exception(error)
        return True

    def help(self, cores: _Cores) -> None:
        """Do the work of some items, as long as there is a core for this thread."""
        if not cores.occupy(only_idle=True):
            return
        try:
            while not cores.are_too_few and self.do_one():
                pass
        finally:
            cores.leave()


def map_with_help(
    work: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[Result, None, None]:
    """Yield `work(item)` of each item in the order of the items.

    Args:
        work: called in this thread and in others. An error that it raises is raised here.
        items: they are begun in their order. When the generator is closed, no other one begins.

    Yields:
        The results.
    """
    cores = _cores()
    todo = _Work(items, work)
    cores.occupy(only_idle=False)
    helpers: list[Future[None]] = []
    try:
        for result in todo.results:
            may_help = cores.are_idle and not todo.is_over
            if may_help and all(helper.done() for helper in helpers):
                helpers = [
                    _threads().submit(todo.help, cores) for _ in range(processor_cores() - 1)
                ]
            while not result.done() and todo.do_one():
                pass
            yield result.result()
    finally:
        todo.is_over = True
        cores.leave()


@cache
def _cores() -> _Cores:
    return _Cores(processor_cores())


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that help.

    New threads for each search would spread what they allocate over more and more memory.
    """
    return ThreadPoolExecutor(max(1, processor_cores() - 1), thread_name_prefix="veduta-help")
