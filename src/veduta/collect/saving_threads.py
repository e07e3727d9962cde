"""Threads that check and write photos, so that the event loop never waits for a decoder or a disk.

They have their own queue instead of an executor. An executor wakes the loop once for each result.
With thousands of small files a second that would cost more than the files.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["SavingThreads"]

Job = TypeVar("Job")
JobResult = TypeVar("JobResult")


class SavingThreads(Generic[Job, JobResult]):
    """Threads that work on jobs, and deliver several results at once to the event loop."""

    def __init__(
        self,
        work: Callable[[Job], JobResult],
        deliver: Callable[[list[tuple[Job, JobResult | Exception]]], None],
        threads: int,
    ) -> None:
        """Start the threads.

        Args:
            work: called on a thread with each job.
            deliver: called on the event loop with jobs and their results or errors.
            threads: number of threads.
        """
        self._work = work
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._results: deque[tuple[Job, JobResult | Exception]] = deque()
        # Held from the moment when a delivery is scheduled until it begins.
        self._delivery_scheduled = threading.Lock()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"veduta-save-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Add a job."""
        self._jobs.put(job)

    def stop(self) -> list[tuple[Job, JobResult | Exception]]:
        """End the threads after their current jobs, and return the results not yet delivered."""
        self._stopping = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        return self._take_results()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._stopping:
                continue
            try:
                self._results.append((job, self._work(job)))
            except Exception as error:  # noqa: BLE001  # The receiver of the results raises it.
                self._results.append((job, error))
            if self._delivery_scheduled.acquire(blocking=False):
                self._loop.call_soon_threadsafe(self._begin_delivery)

    def _begin_delivery(self) -> None:
        # Released first, so that results which arrive from now on schedule another delivery.
        self._delivery_scheduled.release()
        if not self._stopping:
            self._deliver(self._take_results())

    def _take_results(self) -> list[tuple[Job, JobResult | Exception]]:
        results = []
        while self._results:
            results.append(self._results.popleft())
        return results
