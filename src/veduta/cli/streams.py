"""Standard output and standard error: what they cannot show, and when they cannot be written."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["discard_output", "prepare_streams"]


def prepare_streams() -> None:
    r"""Let both streams escape what their encoding does not have, and replace closed ones.

    A terminal or pipe that is not UTF-8 shows `\u2192` for "→", and no stream fails at a surrogate.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # Otherwise the next file that is opened would receive what is printed.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Discard what a stream that cannot be written still holds.

    Python would raise the error again when it writes that out at its exit.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
