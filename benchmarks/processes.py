"""Run a part of a benchmark in a process of its own, and read how much memory a process took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run_child(module: str, *arguments: object) -> dict[str, Any]:
    """Run `python -m benchmarks.MODULE ARGUMENTS`; return the JSON object that it prints last."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    process = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def process_memory(field: str) -> int:
    """Return a figure of this process in bytes, as the kernel reports it.

    Args:
        field: `VmHWM`, the peak, or `VmRSS`, `RssAnon`, `RssFile`. `ru_maxrss` would also include
            the process that started this one.

    Raises:
        KeyError: the kernel reports no such field.
    """
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def processor_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most memory that a call allocates at once through Python and NumPy."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
