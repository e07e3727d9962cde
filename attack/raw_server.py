"""A Web server on the loopback address that sends any bytes, at any pace."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

# What is sent for a path: bytes, and numbers of seconds to wait.
Answer = Callable[[str], Iterable[bytes | float]]

MAX_HEAD_BYTES = 1 << 16


class RawServer:
    """A server, as a context manager.

    Attributes:
        requests: number of requests.
        port: where it listens.
    """

    def __init__(self, answer: Answer, host: str = "127.0.0.1", *, dual: bool = False) -> None:
        """Listen on an address; with `dual`, on `::` for both versions of the protocol."""
        self.requests = 0
        server = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 20

            def handle(self) -> None:
                try:
                    first = self.rfile.readline(MAX_HEAD_BYTES).split()
                    while self.rfile.readline(MAX_HEAD_BYTES).strip():
                        pass
                    server.requests += 1
                    for piece in answer(first[1].decode("latin-1") if len(first) > 1 else "/"):
                        if isinstance(piece, bytes):
                            self.wfile.write(piece)
                        else:
                            time.sleep(piece)
                except OSError:
                    return  # The client has enough.

        class Server(socketserver.ThreadingTCPServer):
            address_family = socket.AF_INET6 if dual else socket.AF_INET
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

        self._server = Server((host, 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an ordinary answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def files_of(folder: Path) -> Answer:
    """Return answers with the files below a folder."""

    def answer(path: str) -> Iterable[bytes]:
        file = folder / path.lstrip("/")
        if file.is_file():
            yield whole(file.read_bytes())
        else:
            yield whole(b"", "404 Not Found")

    return answer
