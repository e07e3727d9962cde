"""Several processes of one service: how connections are shared, and what happens when one ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from veduta.errors import VedutaError
from veduta.web.handed_connections import ENDED, TAKEN, HandedConnections
from veduta.web.listening import listen
from veduta.web.worker_processes import run_workers

pytestmark = pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="needs Linux or macOS")

SERVER = """
import asyncio, os, sys
from functools import partial
from veduta.web.handed_connections import READY, HandedConnections
from veduta.web.listening import listen
from veduta.web.worker_processes import run_workers

def run(channel):
    asyncio.run(answer(HandedConnections(channel)))

async def answer(connections):
    async def one(reader, writer):
        while await reader.readline():
            writer.write(b"%d\\n" % os.getpid())
            await writer.drain()
        writer.close()
    server = await asyncio.start_server(one, sock=connections)
    connections.tell(READY)
    await server.serve_forever()

if __name__ == "__main__":
    listener = listen("127.0.0.1", 0)
    tell = partial(print, listener.getsockname()[1], flush=True)
    run_workers(run, int(sys.argv[1]), listener, tell, 5)
"""


@contextmanager
def answering(folder: Path, workers: int) -> Iterator[tuple[int, int]]:
    """Run processes that answer each line with their number; yield the port and the first one."""
    (folder / "answer.py").write_text(SERVER)
    command = [sys.executable, str(folder / "answer.py"), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()
            assert process.wait(20) in (0, -signal.SIGKILL)


class Client:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=30)

    def ask(self) -> int:
        """Return the number of the process that answers; 0: it has ended."""
        try:
            self.connection.sendall(b"\n")
            return int(self.connection.recv(100) or b"0")
        except ConnectionError:
            return 0

    def close(self) -> None:
        self.connection.close()


def workers_of(process: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_connections_go_to_the_process_with_the_fewest(tmp_path: Path) -> None:
    with answering(tmp_path, 3) as (port, first), ExitStack() as opened:

        def clients(count: int) -> list[Client]:
            return [opened.enter_context(closing(Client(port))) for _ in range(count)]

        def all_get(count: int, share: list[int]) -> dict[Client, int] | None:
            """Return the process of each new client, if each has its share. Else close them."""
            by_process = {client: client.ask() for client in clients(count)}
            if sorted(Counter(by_process.values()).values()) == share:
                return by_process
            for client in by_process:
                client.close()
            time.sleep(0.2)  # Until all processes are ready, and the ends are counted.
            return None

        def held_by(count: int, share: list[int]) -> dict[Client, int]:
            deadline = time.monotonic() + 30
            while (held := all_get(count, share)) is None:
                assert time.monotonic() < deadline
            return held

        held = held_by(30, [10, 10, 10])
        left = next(iter(held.values()))
        for client in [one for one in held if held[one] == left]:
            client.close()
        assert set(held_by(9, [9]).values()) == {left}

        # A burst is answered, too.
        many = clients(600)
        assert set(Counter(client.ask() for client in many)) == {
            worker.pid for worker in workers_of(first)
        }


def test_a_dead_process_is_replaced_and_the_others_answer_meanwhile(tmp_path: Path) -> None:
    with answering(tmp_path, 2) as (port, first), ExitStack() as opened:
        until(lambda: len(workers_of(first)) == 2)
        dead = opened.enter_context(closing(Client(port)))
        killed = dead.ask()
        os.kill(killed, signal.SIGKILL)
        assert dead.ask() == 0
        for _ in range(20):
            other = opened.enter_context(closing(Client(port)))
            assert other.ask() not in (0, killed)
        until(lambda: len({worker.pid for worker in workers_of(first)} - {killed}) == 2)

        def takes_new_ones() -> bool:
            asked = [opened.enter_context(closing(Client(port))) for _ in range(2)]
            return len({one.ask() for one in asked}) == 2

        # The new process has no connection, so it gets the next twenty.
        until(lambda: not takes_new_ones())
        until(takes_new_ones)


def test_what_a_dying_process_has_not_taken_goes_to_another(tmp_path: Path) -> None:
    with answering(tmp_path, 2) as (port, first), ExitStack() as opened:

        def clients(count: int) -> list[Client]:
            return [opened.enter_context(closing(Client(port))) for _ in range(count)]

        def both_answer() -> bool:
            return len({client.ask() for client in clients(2)}) == 2

        until(both_answer)
        stopped, other = (worker.pid for worker in workers_of(first))
        os.kill(stopped, signal.SIGSTOP)
        waiting = clients(8)
        time.sleep(0.3)  # The first process hands half of them to each.
        os.kill(stopped, signal.SIGKILL)
        assert {client.ask() for client in waiting} == {other}


def test_processes_end_with_the_first_one(tmp_path: Path) -> None:
    with answering(tmp_path, 2) as (port, first):
        with closing(Client(port)) as client:
            assert client.ask() in {worker.pid for worker in workers_of(first)}
        workers = workers_of(first)
        os.kill(first, signal.SIGKILL)
        assert len(psutil.wait_procs(workers, timeout=10)[1]) == 0


def fail(channel: socket.socket) -> None:
    channel.close()
    sys.exit(7)


def test_a_service_that_cannot_start_says_so() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with (
        closing(listen("127.0.0.1", 0)) as listener,
        pytest.raises(VedutaError, match=r"exit code 7 .* without --workers"),
    ):
        run_workers(fail, 2, listener, lambda: pytest.fail("it is not ready"), 5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_client_that_left_is_no_error_and_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, closing(HandedConnections(theirs)) as connections:
        connections.setblocking(False)
        with pytest.raises(BlockingIOError):
            connections.accept()
        unconnected = socket.socket()
        with unconnected:
            socket.send_fds(ours, [b"c"], [unconnected.fileno()])
        with pytest.raises(ConnectionAbortedError):
            connections.accept()
        assert ours.recv(10) == TAKEN + ENDED


def test_the_end_of_a_connection_is_told_once() -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        closing(HandedConnections(theirs)) as connections,
        closing(listen("127.0.0.1", 0)) as listener,
        closing(http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1])) as client,
    ):
        client.connect()
        with listener.accept()[0] as accepted:
            socket.send_fds(ours, [b"c"], [accepted.fileno()])
        connection, address = connections.accept()
        assert client.sock is not None and address == client.sock.getsockname()
        connection.close()
        connection.close()
        assert ours.recv(10) == TAKEN + ENDED
