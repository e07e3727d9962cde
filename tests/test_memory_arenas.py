"""Tests of how many memory arenas the threads of a service share."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from veduta.processor_cores import processor_cores

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc has memory arenas"
)

THREADS = 32

COUNT_ARENAS = f"""
import ctypes, sys, threading
from veduta.web.memory_arenas import limit_memory_arenas
print(limit_memory_arenas())
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier({THREADS})
def allocate():
    together.wait()
    for _ in range(100):
        libc.malloc(4096)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def arenas(tmp_path: Path, **environment: str) -> tuple[str, int]:
    """Run 32 threads that allocate, and return what the limit answered and the arenas in use."""
    file = tmp_path / "malloc.xml"
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_ARENAS, str(file)],
        env={**kept, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip(), len(re.findall(r"<heap nr=", file.read_text()))


def test_many_threads_share_as_many_arenas_as_there_are_cores(tmp_path):
    limited, count = arenas(tmp_path)
    assert limited == "True"
    assert 1 <= count <= max(processor_cores(), 1)


def test_a_limit_of_the_user_stays(tmp_path):
    limited, count = arenas(tmp_path, MALLOC_ARENA_MAX="5")
    assert limited == "False"
    assert count == 5
