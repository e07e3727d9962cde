"""Decoding in processes of their own, with a limit on memory and time.

The bytes of an upload are of a stranger. If they make a decoder crash, take for ever or fill the
memory, only that process ends, and the next photo gets a new one.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from veduta import errors
from veduta.errors import BrokenPhoto, PhotoError, PhotoTooLarge, QueryError
from veduta.search.query import Box, QueryPhoto
from veduta.web.decoding_process import read_frame, write_frame

__all__ = ["DECODE_SECONDS", "DecodingProcesses"]

DECODE_SECONDS = 20.0
"""For one photo. It is also the limit of CPU time, as nothing else runs in the process."""

_PIXEL_CHANNELS = 3


class DecodingProcesses:
    """A fixed number of processes that decode photos."""

    def __init__(self, processes: int, *, max_pixels: int, seconds: float = DECODE_SECONDS) -> None:
        """Start the processes when they are needed.

        Args:
            processes: how many photos are decoded at the same time.
            max_pixels: cap on width × height of a photo.
            seconds: for one photo.
        """
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoding")
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._all = [_Process() for _ in range(processes)]
        for process in self._all:
            self._idle.put(process)

    def warm(self) -> None:
        """Start all processes, so that the first photo does not wait for one."""
        for process in self._all:
            self._threads.submit(process.start)

    async def decode(
        self, data: bytes, name: str, *, at_least: int | None, box: Box | None = None
    ) -> QueryPhoto:
        """Return the pixels of a photo.

        Args:
            data: its bytes.
            name: for messages.
            at_least: as for `veduta.photos.decode`. A region is cut from the full size.
            box: x, y, width, height in pixels of the upright photo: only this region.

        Raises:
            PhotoError: it does not decode, or takes too much memory or time.
            QueryError: the region is not within the photo.
        """
        facts, pixels = await self._ask(data, name, at_least=at_least, box=box, jpeg_side=0)
        array = np.frombuffer(pixels, np.uint8).reshape(facts["shape"])
        return QueryPhoto(array, facts["width"], facts["height"])

    async def jpeg(self, data: bytes, name: str, side: int) -> bytes:
        """Return a photo as an upright JPEG without metadata.

        Args:
            data: its bytes.
            name: for messages.
            side: the longest side in pixels; a smaller photo keeps its size.

        Raises:
            PhotoError: it does not decode, or takes too much memory or time.
        """
        return (await self._ask(data, name, at_least=side, box=None, jpeg_side=side))[1]

    async def _ask(self, data: bytes, name: str, **facts: Any) -> tuple[dict[str, Any], bytes]:
        request = {"name": name, "max_pixels": self._max_pixels, **facts}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answer, request, data)

    def _answer(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._idle.get()
        try:
            answer = process.ask(request, data, self._seconds)
        finally:
            self._idle.put(process)
        name = request["name"]
        if answer is None:
            if process.timed_out:
                raise PhotoTooLarge(name, f"it was not decoded after {self._seconds:.0f} seconds")
            raise BrokenPhoto(name, "the process that decoded it ended: its bytes are hostile")
        facts, pixels = answer
        if (kind := facts.get("error")) is not None:
            if kind == "QueryError":
                raise QueryError(facts["reason"])
            raise _photo_error(kind)(name, facts["reason"])
        return facts, pixels

    def close(self) -> None:
        """End all processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._all:
            process.stop()


class _Process:
    """One process, which starts again after it was ended. One thread uses it at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self.timed_out = False

    def start(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._process is None or self._process.poll() is not None:
                self.stop()
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "veduta.web.decoding_process"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            return self._process

    def ask(
        self, request: dict[str, Any], data: bytes, seconds: float
    ) -> tuple[dict[str, Any], bytes] | None:
        """Return the answer; None if the process ended or was too slow."""
        process = self.start()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101
        self.timed_out = False
        timer = threading.Timer(seconds, self._end_slow)
        timer.start()
        try:
            write_frame(process.stdin, request, data)
            answer = read_frame(process.stdout)
        except (OSError, ValueError):
            answer = None
        finally:
            timer.cancel()
        if answer is None:
            self.stop()
        return answer

    def _end_slow(self) -> None:
        self.timed_out = True
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # What was written last does not reach it any more.
                    continue


def _photo_error(name: str) -> type[PhotoError]:
    kind = getattr(errors, name, BrokenPhoto)
    return kind if isinstance(kind, type) and issubclass(kind, PhotoError) else BrokenPhoto
