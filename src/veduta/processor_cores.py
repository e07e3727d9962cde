"""How many processor cores this process may use."""

from __future__ import annotations

import os

__all__ = ["limit_processor_cores", "processor_cores"]

_limits: list[int] = []


def limit_processor_cores(count: int) -> None:
    """Let this process use fewer cores, because others of the same service use the rest.

    Call it before anything asks for `processor_cores`.

    Args:
        count: at least 1. OpenCV uses no more either.
    """
    _limits.append(count)
    os.environ["OPENCV_FOR_THREADS_NUM"] = str(count)


def processor_cores() -> int:
    """Return how many processor cores this process may use, at least 1.

    A container or `taskset` may give a process fewer cores than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return min([usable, *_limits])
