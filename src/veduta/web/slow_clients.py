"""Time and size limits of one connection: for its headers, its body, and its reading of the answer.

A client that sends a byte now and then would otherwise hold a connection, and the memory of its
request, for ever.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from veduta.web.asgi import Application, Message, Receive, Send, headers_of
from veduta.web.problems import Problem
from veduta.web.settings import ServeSettings

__all__ = ["ConnectionLimits", "TimedProtocol"]

HEADER_SECONDS = 10.0
BODY_SECONDS = 60.0
ANSWER_SECONDS = 60.0
"""For one part of an answer to be taken by the client."""

MAX_BODY_BYTES = 2**20
"""Of a request without a photo."""

_DRAIN_SECONDS = 5.0


class TimedProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, with a limit on the time that the headers of a request take."""

    _headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._headers_timer is None:
            self._wait_for_headers()

    def on_response_complete(self) -> None:
        """Let uvicorn's limit for idle connections take over."""
        super().on_response_complete()
        self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_headers(self) -> None:
        self._headers_timer = self.loop.call_later(HEADER_SECONDS, self._end_slow)

    def _stop_waiting(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _end_slow(self) -> None:
        self._headers_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


class ConnectionLimits:
    """An ASGI application around another one. It limits the size and the time of a request.

    What is left of a body is read before a refusal is sent. Otherwise many clients would see a
    broken connection in place of the answer.
    """

    def __init__(self, app: Application, settings: ServeSettings) -> None:
        self._app = app
        self._max_photo = settings.max_upload_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        body = _LimitedBody(receive, self._cap(headers))

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                await body.drain()
            async with asyncio.timeout(ANSWER_SECONDS):
                await send(message)

        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > body.cap:
            await body.too_large().as_response()(scope, receive, send)
            return
        try:
            await self._app(scope, body.receive, send_after_body)
        except TimeoutError:
            return  # The client takes no answer.

    def _cap(self, headers: dict[str, str]) -> int:
        has_photo = headers.get("content-type", "").lower().startswith("multipart/form-data")
        return MAX_BODY_BYTES + (self._max_photo if has_photo else 0)


class _LimitedBody:
    """The body of one request."""

    def __init__(self, receive: Receive, cap: int) -> None:
        self.cap = cap
        self._receive = receive
        self._seen = 0
        self._ended = False
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        """Return the next part of the body; after its end, the message that the client left."""
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise Problem(
                408, f"The request was not complete after {BODY_SECONDS:.0f} seconds."
            ) from error
        self._seen += len(message.get("body", b""))
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        if self._seen > self.cap:
            raise self.too_large()
        return message

    async def drain(self) -> None:
        """Read and forget what is left, up to the cap."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._ended:
                    await self.receive()
        except (TimeoutError, Problem):
            self._ended = True

    def too_large(self) -> Problem:
        """Return why a larger body is refused."""
        return Problem(
            413,
            f"The request is larger than the cap of {self.cap / 1e6:.1f} MB.",
            kind="TooLarge",
        )
