"""Run a command of Veduta and kill the process in the middle, as a power cut does.

`step:N` kills at the Nth time that Python is about to change something on the disk, `after:S` kills
S seconds after the command began. `step:0` runs to the end and writes the number of steps and
seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_CHANGES = frozenset(
    f"os.{name}"
    for name in (
        "chmod", "link", "mkdir", "remove", "rename", "rmdir", "symlink", "truncate", "utime"
    )
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main() -> None:
    facts_file, moment = sys.argv[1:3]
    arguments = sys.argv[3:]
    from veduta.cli.main import run

    kind, _, value = moment.partition(":")
    last_step = int(value) if kind == "step" else 0
    steps = 0

    def on_event(event: str, values: tuple[Any, ...]) -> None:
        nonlocal steps
        writes = event == "open" and isinstance(values[2], int) and values[2] & _WRITES
        if event in _CHANGES or writes:
            steps += 1
            if steps == last_step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    if kind == "after":
        timer = threading.Timer(float(value), os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    started = time.monotonic()
    code = run(arguments)
    facts = {"steps": steps, "seconds": time.monotonic() - started}
    Path(facts_file).write_text(json.dumps(facts), "utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
