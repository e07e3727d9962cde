"""The `veduta` command in a process of its own, as people and scripts call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from veduta.cli.unexpected import FAULT_EXIT_CODE

Run = subprocess.CompletedProcess[str]

TIMEOUT_SECONDS = 120


def environment(home: Path) -> dict[str, str]:
    """Return an environment whose index and cache lie in `home` and where a warning is an error."""
    return {
        **os.environ,
        "VEDUTA_INDEX": str(home / "index"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONWARNINGS": "error",
    }


def run_veduta(home: Path, *arguments: str | Path, **options: Any) -> Run:
    """Run `veduta` in the folder `home`; `options` are those of `subprocess.run`.

    No input may show a fault of the program: neither the exit code of one nor a traceback.
    """
    settings: dict[str, Any] = {
        "cwd": home,
        "env": environment(home),
        "capture_output": True,
        "text": True,
        "timeout": TIMEOUT_SECONDS,
    }
    command = [sys.executable, "-m", "veduta", *map(str, arguments)]
    done = subprocess.run(command, check=False, **(settings | options))
    assert done.returncode != FAULT_EXIT_CODE, done.stderr
    assert "Traceback" not in str(done.stderr)
    return done
