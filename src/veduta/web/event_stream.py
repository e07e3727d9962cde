"""Server-sent events (WHATWG HTML, section 9.2): an answer that arrives in parts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from veduta.web.asgi import Message, Receive, Send

__all__ = ["EVENT_STREAM", "EventStream", "event_text", "wants_events"]

EVENT_STREAM = "text/event-stream"


def event_text(name: str, data: Any, number: int | None = None) -> str:
    """Return one event.

    Args:
        name: its kind.
        data: is sent as JSON, in one line.
        number: of the event, for clients that connect again; None: they cannot.
    """
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def wants_events(request: Request) -> bool:
    """Return whether a client asks for events in the place of one answer."""
    kinds = request.headers.get("accept", "").split(",")
    return any(kind.partition(";")[0].strip().lower() == EVENT_STREAM for kind in kinds)


class EventStream(StreamingResponse):
    """An answer of events. When the client leaves, what makes them ends at once."""

    def __init__(
        self, events: AsyncGenerator[str], first: str = "", on_end: Callable[[], None] | None = None
    ) -> None:
        """Take the events.

        Args:
            events: is closed at the end.
            first: event that was taken from them already.
            on_end: called at the end, also if the client left before.
        """
        # A proxy must pass each event on at once.
        headers = {"X-Accel-Buffering": "no"}
        super().__init__(_all(first, events), media_type=EVENT_STREAM, headers=headers)
        self._events = events
        self._on_end = on_end

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._on_end is not None:
                self._on_end()
            await self._events.aclose()


async def _all(first: str, events: AsyncGenerator[str]) -> AsyncGenerator[str]:
    yield first
    async for event in events:
        yield event
