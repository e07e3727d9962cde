"""A search whose answer arrives in parts: the nearest photos at once, then what is verified."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from veduta.errors import VedutaError
from veduta.search import Hits
from veduta.search.watching import Watcher
from veduta.web.event_stream import event_text
from veduta.web.problems import Problem, fault, problem_of

__all__ = ["ClientLeft", "SearchEvents", "TextOf", "search_events"]

TextOf = Callable[[str, dict[str, Any]], str]

_STEP_SECONDS = 0.1
"""Between two events that say how many photos are verified."""


class ClientLeft(Exception):
    """Nobody waits for the search any more. It ends in its own thread, where nobody reads this."""


class SearchEvents(Watcher):
    """Passes what a search tells from its thread on to the event loop.

    Attributes:
        answer_of: returns hits as the answer of the API; is set before the search begins.
        text_of: returns an event with a name and data as text.
        queue: the events as text; None after the last one.
    """

    def __init__(self, text_of: TextOf = event_text) -> None:
        self.answer_of: Callable[[Hits], dict[str, Any]]
        self.text_of = text_of
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._left = threading.Event()
        self._last = -_STEP_SECONDS

    def nearest(self, hits: Hits) -> None:
        """Pass the first answer on."""
        self._tell("nearest", self.answer_of(hits))

    def verified(self, done: int, total: int) -> None:
        """Pass the numbers on, a few times a second."""
        now = time.monotonic()
        if done == total or now - self._last >= _STEP_SECONDS:
            self._last = now
            self._tell("verified", {"photos": done, "of": total})
        elif self._left.is_set():
            raise ClientLeft

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        if self._left.is_set():
            raise ClientLeft
        self._loop.call_soon_threadsafe(self.queue.put_nowait, self.text_of(name, data))

    def end(self) -> None:
        """End the search at its next step, if it still goes on."""
        self._left.set()


async def search_events(
    search: Callable[[SearchEvents], Coroutine[Any, Any, dict[str, Any]]],
    text_of: TextOf = event_text,
) -> AsyncGenerator[str]:
    """Yield the events of a search. The last one is `answer`, or `problem`.

    Args:
        search: searches, watched by what it gets, and returns the answer.
        text_of: returns an event with a name and data as text.

    Raises:
        VedutaError: before the first event, the search is not possible.
        Problem: likewise.
    """
    events = SearchEvents(text_of)
    task = asyncio.ensure_future(search(events))
    task.add_done_callback(lambda _: events.queue.put_nowait(None))
    begun = False
    try:
        while (event := await events.queue.get()) is not None:
            begun = True
            yield event
        try:
            answer = task.result()
        except (VedutaError, Problem) as error:
            if not begun:
                raise
            problem = error if isinstance(error, Problem) else problem_of(error)
            yield text_of("problem", problem.as_json())
        except Exception as error:
            if begun:
                yield text_of("problem", fault(error).as_json())
            raise
        else:
            yield text_of("answer", answer)
    finally:
        events.end()
        task.cancel()
