"""How many processor cores this process may use."""

from __future__ import annotations

import os

__all__ = ["processor_cores"]


def processor_cores() -> int:
    """Return how many processor cores this process may use, at least 1.

    A container or `taskset` may give a process fewer cores than the machine has.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
