"""How many cores a process uses, alone and as one of several."""

from __future__ import annotations

import subprocess
import sys

LIMITED = """
import os
from veduta.processor_cores import limit_processor_cores, processor_cores
before = processor_cores()
limit_processor_cores(10_000)
assert processor_cores() == before
limit_processor_cores(1)
import cv2
from veduta import idle_cores
print(processor_cores(), cv2.getNumThreads(), idle_cores._cores()._number, before)
"""


def test_a_limit_holds_for_threads_of_libraries_too() -> None:
    command = [sys.executable, "-c", LIMITED]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told[:3] == ["1", "1", "1"]
    assert int(told[3]) >= 1
