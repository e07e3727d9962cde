"""Runs of a session that several threads share, because a device is faster with batches.

While a run is under way, the calls of other threads gather. The next run takes those at the head of
the queue whose photos have one shape. So a single call does not wait for others, and the busier the
device is, the larger are its batches. There is no thread of its own: one of the waiting callers
runs the session for all of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SharedRuns"]


class _Call:
    """What one caller of `SharedRuns.run` asks for, and its answer."""

    def __init__(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], options: Any):
        self.names = tuple(names)
        self.feed = feed
        self.options = options
        ((input_name, self.photos),) = feed.items()
        # Calls of one kind can share a run.
        shape = self.photos.shape[1:]
        self.kind = (self.names, id(options), input_name, self.photos.dtype, shape)
        self.results: list[Any] | None = None
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.results is not None or self.error is not None


class SharedRuns:
    """A session of ONNX Runtime whose runs are shared. It runs once at a time.

    The first axis of all inputs and outputs are the photos, and they do not change each other's
    results. A session whose graph does not say so gets each call by itself.

    Attributes:
        most_photos: of one run; 1: calls share no runs.
    """

    def __init__(self, session: Any, most_photos: int) -> None:
        """Share the runs of a session.

        Args:
            session: with one input.
            most_photos: largest number of photos in a run that calls share.
        """
        self._session = session
        self.most_photos = most_photos if _takes_any_number(session) else 1
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._is_running = False

    def __getattr__(self, name: str) -> Any:
        # All but `run` is as the session has it.
        return getattr(self._session, name)

    def run(
        self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], options: Any = None
    ) -> list[Any]:
        """Return outputs of the network, as `onnxruntime.InferenceSession.run` does.

        Args:
            names: of the outputs.
            feed: the photos by the name of the input.
            options: of the run. Calls with other options share no run.

        Raises:
            Exception: what the session raises for these photos alone.
        """
        call = _Call(names, feed, options)
        try:
            with self._changed:
                self._waiting.append(call)
            while not call.is_done:
                self._wait_or_run(call)
        finally:
            with self._changed:  # An interrupt takes a call back that waits.
                if call in self._waiting:
                    self._waiting.remove(call)
        if call.error is not None:
            raise call.error
        return call.results or []

    def _wait_or_run(self, call: _Call) -> None:
        """Wait until a call is done, or run those that are first if nobody else does."""
        taken: list[_Call] = []
        leads = False
        try:
            with self._changed:
                self._changed.wait_for(lambda: call.is_done or not self._is_running)
                if call.is_done:
                    return
                leads = self._is_running = True
                taken = self._take()
            self._answer(taken)
        finally:
            if leads:
                with self._changed:
                    # What an interrupt left undone is for the next.
                    self._waiting.extendleft(one for one in reversed(taken) if not one.is_done)
                    self._is_running = False
                    self._changed.notify_all()

    def _take(self) -> list[_Call]:
        """Take the first call, and others of its kind, from those that wait."""
        first = self._waiting[0]
        taken, photos = [first], len(first.photos)
        for call in list(self._waiting)[1:]:
            if photos >= self.most_photos:
                break
            if call.kind == first.kind and photos + len(call.photos) <= self.most_photos:
                taken.append(call)
                photos += len(call.photos)
        for call in taken:
            self._waiting.remove(call)
        return taken

    def _answer(self, calls: Sequence[_Call]) -> None:
        """Run the session for all calls at once, or for each of them if that fails."""
        if len(calls) > 1 and self._answer_together(calls):
            return
        for call in calls:
            try:
                call.results = list(self._session.run(list(call.names), call.feed, call.options))
            except Exception as error:  # noqa: BLE001 - it is raised where the call was made
                call.error = error

    def _answer_together(self, calls: Sequence[_Call]) -> bool:
        """Return whether one run has answered all calls."""
        import numpy as np  # The help of a command needs this package, and not NumPy.

        first = calls[0]
        photos = np.concatenate([call.photos for call in calls])
        try:
            feed = dict.fromkeys(first.feed, photos)
            found = self._session.run(list(first.names), feed, first.options)
        except Exception:  # noqa: BLE001 - one photo may be at fault, or the batch is too large
            return False
        if any(len(output) != len(photos) for output in found):
            self.most_photos = 1
            return False
        ends = np.cumsum([len(call.photos) for call in calls])
        for call, end in zip(calls, ends.tolist(), strict=True):
            call.results = [output[end - len(call.photos) : end] for output in found]
        return True


def _takes_any_number(session: Any) -> bool:
    """Return whether the first axis of the input and of all outputs has no fixed length."""
    ports = [*session.get_inputs(), *session.get_outputs()]
    return len(session.get_inputs()) == 1 and all(
        port.shape and not isinstance(port.shape[0], int) for port in ports
    )
