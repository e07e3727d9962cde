"""Threads that check and write photos, so that the event loop never waits for a decoder or a disk.

A queue of our own and not an executor: with thousands of small files a second, one wake-up of the
loop for each would cost more than the file.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Savers"]

Job = TypeVar("Job")
Done = TypeVar("Done")


class Savers(Generic[Job, Done]):
    """Calls `work(job)` on threads and `deliver(list of (job, result or error))` on the loop."""

    def __init__(
        self,
        work: Callable[[Job], Done],
        deliver: Callable[[list[tuple[Job, Done | Exception]]], None],
        threads: int,
    ) -> None:
        self._work = work
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[tuple[Job, Done | Exception]] = deque()
        self._called = threading.Lock()  # held while a delivery is on its way to the loop
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"veduta-save-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Hand over a job."""
        self._jobs.put(job)

    def stop(self) -> list[tuple[Job, Done | Exception]]:
        """End the threads after the jobs that they have in hand; return what was not delivered."""
        self._stopping = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        return self._taken()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._stopping:
                continue
            try:
                self._done.append((job, self._work(job)))
            except Exception as error:  # noqa: BLE001  # it is delivered, and raised there
                self._done.append((job, error))
            if self._called.acquire(blocking=False):
                self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        self._called.release()  # first: what is done from now on calls again
        if not self._stopping:
            self._deliver(self._taken())

    def _taken(self) -> list[tuple[Job, Done | Exception]]:
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        return taken
