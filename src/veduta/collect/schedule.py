"""Who fetches what next: so many at a time from one host, and none of it waits for another host.

Rows come in batches, as many as the window holds. Each host has a queue of its own; the hosts take
turns. A row that has to wait before it is tried again occupies nobody, and a host that said
"later" is left alone until then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Schedule"]

Job = TypeVar("Job")


@dataclass(slots=True)
class _Host(Generic[Job]):
    waiting: deque[Job] = field(default_factory=deque)
    active: int = 0
    listed: bool = False
    """Whether it stands in the row of those that have something to do."""
    not_before: float = 0.0


class Schedule(Generic[Job]):
    """Jobs by host. Everything happens on one event loop; `take` alone waits.

    A job is added, taken, `left` (its host is free again), and then `done` or taken `back`.
    """

    def __init__(self, per_host: int, window: int) -> None:
        self._per_host = per_host
        self._window = window
        self._hosts: dict[str, _Host[Job]] = {}
        self._ready: deque[str] = deque()
        self._inside = 0
        self._complete = False
        self._idle: deque[asyncio.Future[None]] = deque()
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def feed(self, batches: Iterable[Iterable[tuple[str, Job]]]) -> None:
        """Add (host, job) from `batches`, one batch whenever there is room; then no more."""
        for batch in batches:
            for host, job in batch:
                self._inside += 1
                self._enqueue(host, job)
            await asyncio.sleep(0)
            while self._inside >= self._window:
                self._room.clear()
                await self._room.wait()
        self._complete = True
        self._wake(len(self._idle))

    async def take(self) -> tuple[str, Job] | None:
        """Return the next (host, job); None when all are done."""
        while not self._ready:
            if self._complete and not self._inside:
                return None
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle
        name = self._ready.popleft()
        host = self._hosts[name]
        host.listed = False
        job = host.waiting.popleft()
        host.active += 1
        self._list(name, host)
        return name, job

    def left(self, name: str) -> None:
        """A job has done with its host, though not yet with everything."""
        host = self._hosts[name]
        host.active -= 1
        self._list(name, host)
        self._forget(name, host)

    def done(self) -> None:
        """A job is over."""
        self._inside -= 1
        self._room.set()
        if self._complete and not self._inside:
            self._wake(len(self._idle))

    def back(self, name: str, job: Job, after: float) -> None:
        """Take a job back, to be given out again in `after` seconds."""
        self._loop.call_later(after, self._enqueue, name, job)

    def pause(self, name: str, seconds: float) -> None:
        """Give out nothing of a host for so long."""
        host = self._hosts.setdefault(name, _Host())
        host.not_before = max(host.not_before, self._loop.time() + seconds)
        self._loop.call_later(seconds + 0.001, self._resume, name, host)

    def _resume(self, name: str, host: _Host[Job]) -> None:
        self._list(name, host)
        self._forget(name, host)

    def _forget(self, name: str, host: _Host[Job]) -> None:
        idle = not host.active and not host.waiting and host.not_before <= self._loop.time()
        if idle and self._hosts.get(name) is host:
            del self._hosts[name]

    def _enqueue(self, name: str, job: Job) -> None:
        host = self._hosts.setdefault(name, _Host())
        host.waiting.append(job)
        self._list(name, host)

    def _list(self, name: str, host: _Host[Job]) -> None:
        if (
            host.waiting
            and not host.listed
            and host.active < self._per_host
            and host.not_before <= self._loop.time()
        ):
            host.listed = True
            self._ready.append(name)
            self._wake(1)

    def _wake(self, number: int) -> None:
        while number and self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                number -= 1
