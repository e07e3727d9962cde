"""How many photos are at work at once: as many as a device takes, while few of them are decoded.

On the processor a worker does all steps of one photo, and there is a worker for each core. For a
device there are more workers, because most of them wait for it with a photo that shares a run with
those of others. They decode in turns, one for each core, and a photo with many pixels keeps its
turn to the end. So neither cores nor memory are asked for more than without a device.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from veduta.encoders import Encoder
from veduta.keypoints import Extractor
from veduta.processor_cores import processor_cores

__all__ = ["Turn", "Turns", "turns_of", "workers_of"]

_SMALL_BYTES = 8_000_000
"""A photo of 12 megapixels that is reduced while it is decoded has 4 MB at most."""

Turns = threading.Semaphore


def workers_of(encoder: Encoder, extractor: Extractor | None) -> int:
    """Return how many photos are read and encoded at the same time.

    Args:
        encoder: makes the descriptors.
        extractor: finds the keypoints; None for none.
    """
    # One batch is computed and the next one gathers, for each network.
    return processor_cores() + 2 * _shared_photos(encoder, extractor)


def turns_of(encoder: Encoder, extractor: Extractor | None) -> Turns | None:
    """Return the turns in which the workers decode; None if each of them may at any time.

    Args:
        encoder: as in `workers_of`.
        extractor: as in `workers_of`.
    """
    shared = _shared_photos(encoder, extractor)
    return threading.Semaphore(processor_cores()) if shared else None


class Turn:
    """The turn of one worker. It begins with the block, and ends with it at the latest."""

    def __init__(self, turns: Turns | None) -> None:
        """Take the turns of all workers; None if they need none."""
        self._turns = turns
        self._is_held = False

    def __enter__(self) -> Self:
        if self._turns is not None:
            self._turns.acquire()
            self._is_held = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def end_if_small(self, size: int) -> None:
        """Let another worker decode, if what this one keeps in memory is small.

        Args:
            size: bytes of the pixels that it keeps.
        """
        if size <= _SMALL_BYTES:
            self._end()

    def _end(self) -> None:
        if self._is_held and self._turns is not None:
            self._is_held = False
            self._turns.release()


def _shared_photos(encoder: Encoder, extractor: Extractor | None) -> int:
    """Return how many photos fill one batch of each network that has batches."""
    # Encoders and extractors of others need not say it.
    sizes = [getattr(network, "shared_photos", 1) for network in (encoder, extractor)]
    return sum(size for size in sizes if size > 1)
