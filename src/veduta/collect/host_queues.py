"""The order of requests: a limit for each host, and no host waits for another.

Rows come in batches. Each host has its own queue, and the hosts take turns. A row that waits for a
retry occupies no connection. A host that asked to wait gets no requests until then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["HostQueues"]

Job = TypeVar("Job")

# The timer of the event loop may fire a little early.
_TIMER_MARGIN_SECONDS = 0.001


@dataclass(slots=True)
class _Host(Generic[Job]):
    waiting: deque[Job] = field(default_factory=deque)
    active: int = 0
    in_turn: bool = False
    """Whether the host is in the queue of hosts that have a job to give out."""
    paused_until: float = 0.0


class HostQueues(Generic[Job]):
    """Jobs by host. All methods run on one event loop, and only `feed` and `take` wait.

    A job is added by `feed` and given out by `take`. Then comes `release_host`, when its request is
    over, and at the end `finish`, or `retry_later`.
    """

    def __init__(self, per_host: int, max_jobs: int) -> None:
        """Make empty queues.

        Args:
            per_host: the largest number of requests at the same time to one host.
            max_jobs: `feed` waits while so many jobs are not finished.
        """
        self._per_host = per_host
        self._max_jobs = max_jobs
        self._hosts: dict[str, _Host[Job]] = {}
        self._turns: deque[str] = deque()
        self._unfinished = 0
        self._all_fed = False
        self._idle_workers: deque[asyncio.Future[None]] = deque()
        self._job_finished = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def feed(self, batches: Iterable[Iterable[tuple[str, Job]]]) -> None:
        """Add all jobs, one batch at a time.

        Args:
            batches: lists of (host, job).
        """
        for batch in batches:
            for host_name, job in batch:
                self._unfinished += 1
                self._enqueue(host_name, job)
            await asyncio.sleep(0)
            while self._unfinished >= self._max_jobs:
                self._job_finished.clear()
                await self._job_finished.wait()
        self._all_fed = True
        self._wake(len(self._idle_workers))

    async def take(self) -> tuple[str, Job] | None:
        """Return the next (host, job); None when all jobs are finished."""
        while not self._turns:
            if self._all_fed and not self._unfinished:
                return None
            idle = self._loop.create_future()
            self._idle_workers.append(idle)
            await idle
        host_name = self._turns.popleft()
        host = self._hosts[host_name]
        host.in_turn = False
        job = host.waiting.popleft()
        host.active += 1
        self._give_turn(host_name, host)
        return host_name, job

    def release_host(self, host_name: str) -> None:
        """Note that the request of a job is over."""
        host = self._hosts[host_name]
        host.active -= 1
        self._give_turn(host_name, host)
        self._forget_if_idle(host_name, host)

    def finish(self) -> None:
        """Note that a job is finished."""
        self._unfinished -= 1
        self._job_finished.set()
        if self._all_fed and not self._unfinished:
            self._wake(len(self._idle_workers))

    def retry_later(self, host_name: str, job: Job, seconds: float) -> None:
        """Give out a job again after a while.

        Args:
            host_name: the host of the job.
            job: the job.
            seconds: the least time to wait.
        """
        self._loop.call_later(seconds, self._enqueue, host_name, job)

    def pause(self, host_name: str, seconds: float) -> None:
        """Give out no job of a host for a while.

        Args:
            host_name: the host.
            seconds: how long.
        """
        host = self._hosts.setdefault(host_name, _Host())
        host.paused_until = max(host.paused_until, self._loop.time() + seconds)
        self._loop.call_later(seconds + _TIMER_MARGIN_SECONDS, self._resume, host_name, host)

    def _resume(self, host_name: str, host: _Host[Job]) -> None:
        self._give_turn(host_name, host)
        self._forget_if_idle(host_name, host)

    def _forget_if_idle(self, host_name: str, host: _Host[Job]) -> None:
        idle = not host.active and not host.waiting and host.paused_until <= self._loop.time()
        if idle and self._hosts.get(host_name) is host:
            del self._hosts[host_name]

    def _enqueue(self, host_name: str, job: Job) -> None:
        host = self._hosts.setdefault(host_name, _Host())
        host.waiting.append(job)
        self._give_turn(host_name, host)

    def _give_turn(self, host_name: str, host: _Host[Job]) -> None:
        if (
            host.waiting
            and not host.in_turn
            and host.active < self._per_host
            and host.paused_until <= self._loop.time()
        ):
            host.in_turn = True
            self._turns.append(host_name)
            self._wake(1)

    def _wake(self, workers: int) -> None:
        while workers and self._idle_workers:
            idle = self._idle_workers.popleft()
            if not idle.done():
                idle.set_result(None)
                workers -= 1
