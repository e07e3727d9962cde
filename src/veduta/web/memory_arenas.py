"""How many pools the C library divides the memory of a process into.

glibc gives the threads of a process up to eight memory arenas a processor core, and does not give
back what is free in the middle of one. A service decodes, encodes and verifies in many threads, so
its memory grew by some percent in ten minutes (`python -m benchmarks.serving_load`).
"""

from __future__ import annotations

import ctypes
import os
import sys

from veduta.processor_cores import processor_cores

__all__ = ["limit_memory_arenas"]

_M_ARENA_MAX = -8
"""The number of the parameter in glibc's `malloc.h`."""


def limit_memory_arenas() -> bool:
    """Let the threads of this process share as many arenas as there are processor cores.

    Call it before threads start: an arena that exists stays.

    Returns:
        Whether the limit is set. It is not where the C library has no such setting, or where the
        environment variable `MALLOC_ARENA_MAX` sets another one.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, processor_cores()))
