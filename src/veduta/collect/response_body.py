"""The body of a response: in memory while it is small, then in a file, never above the limit."""

from __future__ import annotations

import asyncio
from pathlib import Path

__all__ = ["ResponseBody", "TooManyBytes"]

# Most photos on the Web are smaller than this.
MAX_BYTES_IN_MEMORY = 1 << 20


class TooManyBytes(Exception):
    """A body is larger than the limit."""


class ResponseBody:
    """Bytes that arrive in pieces. At the end, `discard` it or rename its file.

    Attributes:
        size: bytes that have arrived.
        file: the file that holds the body; None while it is in memory.
    """

    def __init__(self, overflow_file: Path, max_bytes: int) -> None:
        """Make an empty body.

        Args:
            overflow_file: the file that takes a large body. It must not exist.
            max_bytes: the limit.
        """
        self.size = 0
        self.file: Path | None = None
        self._pieces: list[bytes] = []
        self._bytes_in_memory = 0
        self._overflow_file = overflow_file
        self._max_bytes = max_bytes

    @property
    def head(self) -> bytes:
        """The bytes that have arrived, while all of them are in memory."""
        return b"".join(self._pieces)

    async def add(self, piece: bytes) -> None:
        """Take the next bytes.

        Args:
            piece: the bytes.

        Raises:
            TooManyBytes: the body is above the limit.
            OSError: the file cannot be written.
        """
        self.size += len(piece)
        if self.size > self._max_bytes:
            raise TooManyBytes
        self._pieces.append(piece)
        self._bytes_in_memory += len(piece)
        if self._bytes_in_memory > MAX_BYTES_IN_MEMORY:
            await self._move_to_file()

    async def finish(self) -> None:
        """Write the last bytes of a body that is in a file."""
        if self.file and self._pieces:
            await self._move_to_file()

    async def _move_to_file(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._bytes_in_memory = 0
        self.file = self._overflow_file
        await asyncio.to_thread(_append, self._overflow_file, data)

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self._pieces) if self.file is None else self.file.read_bytes()

    def discard(self) -> None:
        """Free the memory, and remove the file if there is one."""
        self._pieces.clear()
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def _append(file: Path, data: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(data)
