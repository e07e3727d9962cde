"""Connections that another process accepted and hands over, in the place of a listening socket.

`veduta.web.worker_processes` is the other side.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from contextlib import suppress

__all__ = ["ENDED", "READY", "TAKEN", "HandedConnections"]

READY = b"r"
"""What a process sends when it can answer."""

TAKEN = b"t"
"""What a process sends when it has taken the next connection."""

ENDED = b"e"
"""What a process sends when a connection has ended."""


class HandedConnections(socket.socket):
    """One end of a channel, which a server uses like a socket that listens.

    When the other end is closed, this process is told to terminate: nobody would replace it, or
    end it.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Take over a channel.

        Args:
            channel: an end of `socket.socketpair()`. It must not be used any more.
        """
        super().__init__(channel.family, channel.type, channel.proto, fileno=channel.detach())
        self._is_over = False

    def listen(self, backlog: int = 0, /) -> None:
        """Do nothing: the other process listens."""

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next connection, and the address of the client.

        Raises:
            BlockingIOError: there is none at the moment.
            ConnectionAbortedError: the client left, or no connection will come any more.
            OSError: this process has too many open files.
        """
        sent, files, _, _ = socket.recv_fds(self, 1, 1)
        if not sent:
            if not self._is_over:
                self._is_over = True
                os.kill(os.getpid(), signal.SIGTERM)
            raise ConnectionAbortedError
        self.tell(TAKEN)
        if not files:
            self.tell(ENDED)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        connection = _HandedConnection(self, files[0])
        try:
            return connection, connection.getpeername()
        except OSError as error:
            connection.close()
            raise ConnectionAbortedError from error

    def tell(self, message: bytes) -> None:
        """Send a message to the other process, which may be gone.

        Args:
            message: `READY`, `TAKEN` or `ENDED`.
        """
        with suppress(OSError):
            self.send(message)


class _HandedConnection(socket.socket):
    """A connection whose end is told to the process that accepted it."""

    def __init__(self, channel: HandedConnections, file: int) -> None:
        super().__init__(fileno=file)
        self.set_inheritable(False)
        self._channel = channel

    def close(self) -> None:
        if self.fileno() != -1:
            super().close()
            self._channel.tell(ENDED)
