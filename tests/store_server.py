"""A small server that speaks the protocol of S3, and misbehaves as a test asks for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

BUCKET = "places"


def set_environment(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set what a user sets for a store of the own network."""
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "a-name-of-a-key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-nobody-may-see")
    patch.setenv("AWS_REGION", "us-east-1")
    patch.setenv("VEDUTA_STORE_SECONDS", "4")
    # Nothing is asked of a machine outside.
    patch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    patch.setenv("NO_PROXY", "127.0.0.1")


@dataclass
class Request:
    """What the server was asked."""

    method: str
    key: str
    body: bytes = b""
    query: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class StoreServer:
    """The server.

    Attributes:
        url: of the server.
        objects: key → content, of the only bucket.
        requests: all that were made.
        trouble: called before a request is answered; returns the status of an error, and the code
            in its body, or None.
        change: called with key and content before an object is sent; returns what is sent.
        ignored: headers with conditions that do not count.
        listed: called with the keys before they are listed; returns what is listed.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    trouble: Callable[[Request], tuple[int, str] | None] = lambda _: None
    change: Callable[[str, bytes], bytes] = lambda _, data: data
    ignored: tuple[str, ...] = ()
    listed: Callable[[list[str]], list[str]] = lambda keys: keys
    lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, method: str) -> list[str]:
        """Return the keys of all requests of one kind."""
        return [one.key for one in self.requests if one.method == method]


@contextmanager
def store_server() -> Iterator[StoreServer]:
    """Run a server in a thread."""
    state = StoreServer()

    class Handler(_Handler):
        server_state = state

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield state
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: StoreServer

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # The client has lost its patience.
            super().handle()

    def _request(self, body: bytes = b"") -> Request:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        request = Request(self.command, key, body, parse_qs(parts.query))
        with self.server_state.lock:
            self.server_state.requests.append(request)
        if bucket != BUCKET:
            request.key = "\0"
        return request

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self._answer(status, text.encode())

    def _refused(self, request: Request) -> bool:
        trouble = self.server_state.trouble(request)
        if trouble is None and request.key == "\0":
            trouble = (404, "NoSuchBucket")
        if trouble is not None:
            self._error(*trouble)
        return trouble is not None

    def do_GET(self) -> None:
        state, request = self.server_state, self._request()
        if self._refused(request):
            return
        if not request.key:
            self._list(request)
            return
        data = state.objects.get(request.key)
        if data is None:
            self._error(404, "NoSuchKey")
            return
        tag = _tag(data)
        data = state.change(request.key, data)
        wanted = self.headers["Range"]
        if wanted and data:
            start, end = wanted.removeprefix("bytes=").split("-")
            part = data[int(start) : int(end) + 1]
            place = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
            self._answer(206, part, ETag=tag, Content_Range=place, Last_Modified=_LONG_AGO)
        else:
            self._answer(200, data, ETag=tag, Last_Modified=_LONG_AGO)

    def do_HEAD(self) -> None:
        request = self._request()
        if self._refused(request):
            return
        data = self.server_state.objects.get(request.key)
        if data is None:
            self._answer(404)
        else:
            size = str(len(data))
            self._answer(200, ETag=_tag(data), Content_Length=size, Last_Modified=_LONG_AGO)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        state, request = self.server_state, self._request(data)
        if self._refused(request):
            return
        with state.lock:
            known = state.objects.get(request.key)
            absent, match = (
                None if name in state.ignored else self.headers[name]
                for name in ("If-None-Match", "If-Match")
            )
            wrong = match and (known is None or _tag(known) != match)
            if wrong or (absent and known is not None):
                self._error(412, "PreconditionFailed")
                return
            state.objects[request.key] = data
        self._answer(200, ETag=_tag(data))

    def do_DELETE(self) -> None:
        request = self._request()
        if not self._refused(request):
            self.server_state.objects.pop(request.key, None)
            self._answer(204)

    def _list(self, request: Request) -> None:
        prefix = request.query.get("prefix", [""])[0]
        keys = self.server_state.listed(
            [key for key in sorted(self.server_state.objects) if key.startswith(prefix)]
        )
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f'</LastModified><ETag>"0"</ETag><Size>1</Size></Contents>'
            for key in keys
        )
        self._answer(
            200,
            f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(keys)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode(),
        )


_LONG_AGO = "Thu, 01 Jan 2026 00:00:00 GMT"


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'
