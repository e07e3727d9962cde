"""Several processes of one service: their start, their connections, and their end.

The first process accepts all connections. It hands each one to the process that has the fewest. If
the processes accepted them by themselves, one could take most of them, and leave the others idle.
"""

from __future__ import annotations

import errno
import multiprocessing
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from veduta.errors import VedutaError
from veduta.web.handed_connections import ENDED, READY, TAKEN

__all__ = ["run_workers"]

_LOOK_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_HANDING_SECONDS = 1.0
"""A process that takes no connection for so long is passed over."""

_NO_MEANS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of a system that has too little for one more connection."""


class _Worker:
    """One process, seen from the first one.

    Attributes:
        channel: to it.
        connections: how many it has.
        waiting: those that it has not taken yet. Another one gets them if it ends.
        is_ready: whether it has said so.
    """

    def __init__(self, run: Callable[[socket.socket], None]) -> None:
        self.channel, its_end = socket.socketpair()
        self.channel.settimeout(_HANDING_SECONDS)
        self.connections = 0
        self.waiting: deque[socket.socket] = deque()
        self.is_ready = False
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=run, args=(its_end,), daemon=True)
        self._process.start()
        its_end.close()

    @property
    def exit_code(self) -> int | None:
        """None: it runs."""
        return self._process.exitcode

    def hear(self) -> bool:
        """Take the messages that have come. Return whether more can come."""
        try:
            messages = self.channel.recv(4096)
        except OSError:
            messages = b""
        self.is_ready = bool(messages) and (self.is_ready or READY in messages)
        self.connections -= messages.count(ENDED)
        for _ in range(messages.count(TAKEN)):
            self.waiting.popleft().close()
        return self.is_ready

    def take(self, connection: socket.socket) -> bool:
        """Hand over a connection. Return whether the process can get it."""
        try:
            socket.send_fds(self.channel, [b"c"], [connection.fileno()])
        except OSError:
            return False
        self.connections += 1
        self.waiting.append(connection)
        return True

    def terminate(self) -> None:
        self._process.terminate()

    def join(self, seconds: float) -> None:
        self._process.join(seconds)
        self.channel.close()
        for connection in self.waiting:
            connection.close()


def run_workers(
    run: Callable[[socket.socket], None],
    count: int,
    listener: socket.socket,
    on_ready: Callable[[], None],
    stop_seconds: float,
) -> None:
    """Run processes until a signal ends this one, and replace those that end by a fault.

    Args:
        run: what each process does, with the channel for `HandedConnections`. It must be possible
            to pickle it.
        count: number of processes.
        listener: where clients connect.
        on_ready: called when the first process can answer.
        stop_seconds: how long a process may take to end.

    Raises:
        VedutaError: a process ended before any could answer, or this system cannot hand over
            connections.
    """
    if not hasattr(socket, "send_fds"):
        raise VedutaError("several processes need Linux or macOS: leave out --workers")
    processes = _Processes(run, count, listener, on_ready)
    before = {one: signal.signal(one, processes.stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        processes.serve()
    finally:
        processes.end(stop_seconds)
        for one, handler in before.items():
            signal.signal(one, handler)


class _Processes:
    def __init__(
        self,
        run: Callable[[socket.socket], None],
        count: int,
        listener: socket.socket,
        on_ready: Callable[[], None],
    ) -> None:
        self._run = run
        self._on_ready: Callable[[], None] | None = on_ready
        self._listener = listener
        self._listener.setblocking(False)
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._restarts: list[float] = []
        self._kept: deque[socket.socket] = deque()
        for _ in range(count):
            self._start()

    def stop(self, *_: Any) -> None:
        """End `serve` soon."""
        self._stopping = True

    def serve(self) -> None:
        """Hand over connections, and replace processes."""
        while not self._stopping:
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._listener:
                    self._accept()
                elif not key.data.hear():
                    self._leave(key.data)
            self._replace_the_dead()
            self._listen_if_any_is_ready()

    def end(self, seconds: float) -> None:
        """End all processes."""
        self._selector.close()
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(seconds)
        for connection in self._kept:
            connection.close()

    def _start(self) -> None:
        worker = _Worker(self._run)
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _NO_MEANS:
                time.sleep(_LOOK_SECONDS)  # The client waits in the queue of the listener.
            return
        self._hand(connection)

    def _hand(self, connection: socket.socket) -> None:
        ready = [worker for worker in self._workers if worker.is_ready]
        if not ready:
            self._kept.append(connection)
            return
        for worker in sorted(ready, key=lambda worker: worker.connections):
            if worker.take(connection):
                return
        connection.close()

    def _leave(self, worker: _Worker) -> None:
        """Expect nothing of a process any more, and hand what it has not taken to others."""
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        while worker.waiting:
            self._hand(worker.waiting.popleft())

    def _replace_the_dead(self) -> None:
        now = time.monotonic()
        for worker in [one for one in self._workers if one.exit_code is not None]:
            if self._on_ready is not None:
                raise VedutaError(
                    f"a process of the service ended with exit code {worker.exit_code} before any "
                    "could answer: start it without --workers to see why"
                )
            while worker.hear():  # It may have taken connections shortly before.
                pass
            self._leave(worker)
            self._workers.remove(worker)
            worker.join(0)
            self._restarts.append(now + _RESTART_SECONDS)
        for due in [one for one in self._restarts if one <= now]:
            self._restarts.remove(due)
            self._start()

    def _listen_if_any_is_ready(self) -> None:
        """Let clients wait in the queue of the listener while no process can answer them."""
        is_listening = self._listener in self._selector.get_map()
        any_is_ready = any(worker.is_ready for worker in self._workers)
        if any_is_ready and not is_listening:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif is_listening and not any_is_ready:
            self._selector.unregister(self._listener)
        if not any_is_ready:
            return
        while self._kept:
            self._hand(self._kept.popleft())
        if self._on_ready is not None:
            self._on_ready()
            self._on_ready = None
