"""An encoder that encodes the photos of several threads in one run of the network.

While a run is under way, the photos of other requests gather. The next run takes all of them. So a
single request does not wait for others, and under load the batches grow by themselves.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from veduta.encoders import Encoder

__all__ = ["MAX_BATCH_PHOTOS", "BatchedEncoder"]

MAX_BATCH_PHOTOS = 16

Prepared = Sequence[tuple["NDArray[np.uint8]", ...]]
Result = Future["NDArray[np.float32]"]


class BatchedEncoder:
    """Another encoder, whose runs are shared by the threads that call it at the same time.

    Attributes:
        wrapped: the other encoder.
        batches: number of runs so far.
        photos: number of photos in them.
    """

    def __init__(self, encoder: Encoder, *, max_photos: int = MAX_BATCH_PHOTOS) -> None:
        """Start the thread that runs the network.

        Args:
            encoder: does the work.
            max_photos: largest number of photos in a run; 1: no batches.
        """
        self.name = encoder.name
        self.identity = encoder.identity
        self.dimension = encoder.dimension
        self.long_side = encoder.long_side
        self.batches = 0
        self.photos = 0
        self.wrapped = encoder
        self._max_photos = max_photos
        self._waiting: queue.SimpleQueue[tuple[Prepared, Result]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="encoder", daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        # Others ask for more than `Encoder` has.
        return getattr(self.wrapped, name)

    def prepare(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        """Resize a photo to what the network takes, as `Encoder.prepare`."""
        return self.wrapped.prepare(pixels)

    def encode(self, prepared: Prepared) -> NDArray[np.float32]:
        """Return the descriptors of prepared photos, as `Encoder.encode`."""
        result: Result = Future()
        self._waiting.put((prepared, result))
        return result.result()

    def describe(self) -> dict[str, object]:
        """Return what a report says of the encoder, as `Encoder.describe`."""
        return self.wrapped.describe()

    def _run(self) -> None:
        while True:
            calls = [self._waiting.get()]
            photos = len(calls[0][0])
            while photos < self._max_photos:
                try:
                    calls.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
                photos += len(calls[-1][0])
            self._encode(calls)

    def _encode(self, calls: list[tuple[Prepared, Result]]) -> None:
        together = [one for prepared, _ in calls for one in prepared]
        self.batches += 1
        self.photos += len(together)
        try:
            rows = self.wrapped.encode(together)
        except Exception as error:  # noqa: BLE001
            if len(calls) > 1:  # One photo may be at fault. The others do not pay for it.
                for call in calls:
                    self._encode([call])
            else:
                calls[0][1].set_exception(error)
            return
        start = 0
        for prepared, result in calls:
            result.set_result(rows[start : start + len(prepared)])
            start += len(prepared)
