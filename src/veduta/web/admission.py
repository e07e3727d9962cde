"""A bounded number of requests at work. Others are told to come again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from veduta.web.problems import Problem

__all__ = ["Admission"]

_MAX_WAIT_SECONDS = 60


class Admission:
    """Places for requests that need the network or much memory. Used on the event loop only.

    Attributes:
        places: how many there are.
        taken: how many are taken.
        refused: how many requests got none so far.
    """

    def __init__(self, places: int, threads: int) -> None:
        """Open the places.

        Args:
            places: for requests that wait or are at work.
            threads: how many of them are at work at the same time.
        """
        self.places = places
        self.taken = 0
        self.refused = 0
        self._threads = threads
        self._mean_seconds = 1.0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Problem: 429, all are taken. Its Retry-After is the time in which one gets free,
                estimated from the last requests.
        """
        if self.taken >= self.places:
            self.refused += 1
            seconds = self._mean_seconds * self.places / self._threads
            wait = min(_MAX_WAIT_SECONDS, max(1, math.ceil(seconds)))
            raise Problem(
                429,
                f"{self.places} requests are at work. Try again in {wait} seconds.",
                kind="Busy",
                headers={"Retry-After": str(wait)},
            )
        self.taken += 1
        started = time.monotonic()
        try:
            yield
        finally:
            self.taken -= 1
            spent = (time.monotonic() - started) / max(1.0, self.taken / self._threads)
            self._mean_seconds += 0.1 * (spent - self._mean_seconds)
