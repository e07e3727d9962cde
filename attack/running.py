"""Run the cases of an attack in worker processes, and keep what broke a promise."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT

from attack.case import NOTES_FILE, Attack
from veduta.processor_cores import processor_cores

# A worker ends a case that is out of time. One that cannot is killed so much later.
GRACE_SECONDS = 15
LAST_ERROR_BYTES = 3000

OnResult = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attack works and where it keeps the inputs that broke a promise."""

    work: Path
    failures: Path


def run_cases(
    name: str, attack: Attack, seed: int, numbers: Iterable[int], place: Place, on_result: OnResult
) -> None:
    """Run cases of an attack.

    Args:
        name: of the attack.
        attack: the attack.
        seed: of the run.
        numbers: of the cases.
        place: folders that exist.
        on_result: called with what `attack.worker.run_case` returned, in any order.
    """
    shared = place.work / "shared"
    shared.mkdir()
    environment = _environment(place.work)
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        attack.prepare(shared)
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            waiting.put(number)
        lock = threading.Lock()

        def result(values: dict[str, Any]) -> None:
            with lock:
                on_result(values)

        count = 1 if attack.alone else processor_cores()
        workers = [
            threading.Thread(target=_work, args=(name, attack, seed, waiting, place, at, result))
            for at in range(count)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _environment(work: Path) -> dict[str, str]:
    """Let nothing of the user's own be read or written."""
    home = work / "home"
    home.mkdir()
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "VEDUTA_INDEX": str(home / "index"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def _work(
    name: str,
    attack: Attack,
    seed: int,
    waiting: queue.SimpleQueue[int],
    place: Place,
    at: int,
    on_result: OnResult,
) -> None:
    """Give cases to a worker process until none waits; after a crash, start another one."""
    folder = place.work / f"worker-{at}"
    folder.mkdir()
    errors_file = place.work / f"worker-{at}.errors.txt"
    command = [sys.executable, "-m", "attack.worker", name, str(seed)]
    command += [str(place.work / "shared"), str(folder)]
    process: subprocess.Popen[str] | None = None
    while True:
        try:
            number = waiting.get_nowait()
        except queue.Empty:
            break
        if process is None:
            with errors_file.open("wb") as errors:
                process = subprocess.Popen(
                    command,
                    cwd=place.work,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
        started = time.monotonic()
        values = _ask(process, number, attack.seconds + GRACE_SECONDS)
        if values is None:
            status = _end(process)
            process = None
            last = errors_file.read_bytes()[-LAST_ERROR_BYTES:].decode("utf-8", "replace")
            notes = folder / str(number) / NOTES_FILE
            done = notes.read_text("utf-8")[-LAST_ERROR_BYTES:] if notes.exists() else ""
            broken = f"the process ended with {status}\n{last}\nIts last notes:\n{done}"
            values = {
                "number": number,
                "kind": "",
                "outcome": "promise broken",
                "tries": 1,
                "seconds": round(time.monotonic() - started, 3),
                "broken": broken,
            }
        if values["broken"]:
            kept = place.failures / f"{name}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.move(folder / str(number), kept)
            values["kept"] = str(kept)
        else:
            shutil.rmtree(folder / str(number))
        on_result(values)
    if process is not None:
        _end(process)


def _ask(process: subprocess.Popen[str], number: int, seconds: int) -> dict[str, Any] | None:
    """Return the answer of a worker; None if it crashed or had to be killed."""
    assert process.stdin is not None and process.stdout is not None
    timer = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        return None
    finally:
        timer.cancel()
    values: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
    return values


def _end(process: subprocess.Popen[str]) -> str:
    """End a worker and what it started; return how it ended, in words."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    process.stdout.close()
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
