"""A process that decodes photos of strangers, and nothing else.

`veduta.web.decoding` starts it and talks to it through its standard streams: a line of JSON, then
as many bytes as the line says. It never sends a pickle: whoever takes this process over with a
photo must not get into the server.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO, Any

__all__ = ["main", "read_frame", "write_frame"]

EXTRA_MEMORY_BYTES = 1_500_000_000
"""What the process may take beside the code and the libraries that it has loaded."""

Frame = tuple[dict[str, Any], bytes | memoryview]


def main() -> None:
    """Answer requests until the other side ends."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # A library that prints must not print between the answers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server.
    import veduta.search.query  # noqa: F401 - Loaded before the memory is limited.

    _limit_memory()
    while (request := read_frame(requests)) is not None:
        write_frame(answers, *_answer(*request))


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return the facts and the bytes of one message; None at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    facts: dict[str, Any] = json.loads(line)
    data = stream.read(facts["bytes"])
    return (facts, data) if len(data) == facts["bytes"] else None


def write_frame(stream: IO[bytes], facts: dict[str, Any], data: bytes | memoryview) -> None:
    """Send one message."""
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    stream.write(json.dumps({**facts, "bytes": size}).encode() + b"\n")
    stream.write(data)
    stream.flush()


def _answer(facts: dict[str, Any], data: bytes) -> Frame:
    import numpy as np

    from veduta import photos
    from veduta.errors import PhotoError, VedutaError
    from veduta.search.query import read_photo

    try:
        photo = photos.decode(
            data,
            path=facts["name"],
            at_least=None if facts["box"] else facts["at_least"],
            max_pixels=facts["max_pixels"],
        )
        size = {"width": photo.width, "height": photo.height}
        pixels = photo.pixels
        if facts["box"]:
            pixels = read_photo(pixels, None, tuple(facts["box"])).pixels
            size = {"width": facts["box"][2], "height": facts["box"][3]}
        if facts["jpeg_side"]:
            return size, photos.thumbnail(pixels, facts["jpeg_side"])
        pixels = np.ascontiguousarray(pixels)
        return {**size, "shape": pixels.shape}, pixels.reshape(-1).data
    except PhotoError as error:
        return {"error": type(error).__name__, "reason": error.reason}, b""
    except VedutaError as error:
        return {"error": "QueryError", "reason": str(error)}, b""


def _limit_memory() -> None:
    """Let the system refuse memory beyond the limit, where it can."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[0])
    except (ImportError, OSError):
        return  # The budget of `veduta.photos.memory_budget` holds everywhere.
    limit = pages * resource.getpagesize() + EXTRA_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
