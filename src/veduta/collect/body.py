"""The body of an answer: in memory while it is small, then in a file, never over the cap."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Body", "Inflater", "OverCap"]

IN_MEMORY = 1 << 20
"""Bytes of one photo that are kept in memory; most photos on the Web are smaller."""
_PIECE = 1 << 18
_GZIP_OR_ZLIB = 47


class OverCap(Exception):
    """There is more than the cap."""


class Body:
    """Bytes that arrive piece by piece. `drop` it, or rename the file that `spilled` names."""

    def __init__(self, spill_to: Path, max_bytes: int) -> None:
        self.size = 0
        self.spilled: Path | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._spill_to = spill_to
        self._max_bytes = max_bytes

    @property
    def head(self) -> bytes:
        """What has arrived, while all of it is in memory."""
        return b"".join(self._pieces)

    async def add(self, piece: bytes) -> None:
        """Take the next bytes. Raises `OverCap`, or OSError when they cannot be written."""
        self.size += len(piece)
        if self.size > self._max_bytes:
            raise OverCap
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > IN_MEMORY:
            await self._spill()

    async def _spill(self) -> None:
        full = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        self.spilled = self._spill_to
        await asyncio.to_thread(_append, self._spill_to, full)

    async def end(self) -> None:
        """Say that this was all."""
        if self.spilled and self._pieces:
            await self._spill()

    def read(self) -> bytes:
        """Return everything."""
        return b"".join(self._pieces) if self.spilled is None else self.spilled.read_bytes()

    def drop(self) -> None:
        """Forget the bytes, and their file if there is one."""
        self._pieces.clear()
        if self.spilled is not None:
            self.spilled.unlink(missing_ok=True)


def _append(file: Path, data: bytes) -> None:
    descriptor = os.open(
        file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666
    )
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        left = memoryview(data)
        while left:
            left = left[out.write(left) :]


class Inflater:
    """gzip or zlib, in pieces of bounded size however far the data expand."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` expand to, at most 256 kB at a time. Raises `zlib.error`."""
        while data and not self._inflate.eof:
            piece = self._inflate.decompress(data, _PIECE)
            data = self._inflate.unconsumed_tail
            if piece:
                yield piece
            elif not data:
                return

    @property
    def complete(self) -> bool:
        """Whether the end of the compressed data has been seen."""
        return self._inflate.eof
