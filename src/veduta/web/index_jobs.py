"""Indexing runs that a client starts, watches and cancels.

A run is a process of its own (`veduta.web.index_job_process`): it may take all cores and hours, and
Ctrl-C on it is what it is on the command line. Its state is in the files of a folder `jobs/NUMBER`
of the index. So every process of the server can tell it, and so can the server that runs next:

- `job.json`: what was asked for, and when.
- `events.jsonl`: what happened, one JSON object a line; the last line is the state now.
- `cancel`: is there when somebody cancelled it.
- `writer.lock`: is held while the process runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from veduta.files import write_text
from veduta.index.table import is_locked
from veduta.web.event_stream import event_text
from veduta.web.problems import Problem

__all__ = ["ENDED", "JOBS_FOLDER", "IndexJobs"]

ENDED = ("done", "failed", "cancelled")
"""The states in which nothing happens any more."""

JOBS_FOLDER = "jobs"
"""In the folder of an index."""

_KEPT = 20
"""Runs of an index that are remembered."""

_POLL_SECONDS = 0.2
_KEEP_ALIVE_SECONDS = 15.0
_STOP_SECONDS = 5.0
_START_SECONDS = 60.0
"""In which a new process takes its lock. A busy machine takes long to start one."""

_MAX_ERROR_LETTERS = 2000
_BLOCK_BYTES = 65536

_KILLED = {
    "state": "failed",
    "detail": "The process of this run was ended from outside, or the machine stopped. What it had "
    "committed is in the index. Another run continues there.",
}


class IndexJobs:
    """The indexing runs of a server."""

    def __init__(self, indexes: Mapping[str, Path]) -> None:
        """Find the runs of indexes: name → folder."""
        self._folders = {name: index / JOBS_FOLDER for name, index in indexes.items()}
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self, index: str, request: dict[str, Any]) -> str:
        """Start a run and return its number.

        Args:
            index: its name.
            request: arguments of `veduta.api.Index.add`, with `folders`.
        """
        self._forget_old(index)
        number = uuid.uuid4().hex
        job = self._folders[index] / number
        job.mkdir(parents=True)
        _append(job, {"state": "waiting"})
        started = datetime.now(UTC).isoformat(timespec="seconds")
        facts = {"started": started, "request": request}
        write_text(job / "job.json", json.dumps(facts), durable=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "veduta.web.index_job_process", str(job), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the server.
        )
        self._running = [one for one in self._running if one[0].poll() is None]
        self._running.append((process, job))
        threading.Thread(target=_watch, args=(process, job), daemon=True).start()
        return number

    def state(self, number: str) -> dict[str, Any]:
        """Return what a run is doing now.

        Args:
            number: of the run.

        Raises:
            Problem: 404, there is no such run.
        """
        return _state(*self._job(number))

    def all(self, index: str | None = None) -> list[dict[str, Any]]:
        """Return the runs of an index, or of all indexes, the newest first.

        Args:
            index: its name.
        """
        names = [index] if index else self._folders
        jobs = [(name, job) for name in names for job in _jobs_in(self._folders[name])]
        jobs.sort(key=lambda found: _started(found[1]), reverse=True)
        return [_state(*found) for found in jobs]

    def cancel(self, number: str) -> dict[str, Any]:
        """Ask a run to stop. What it has read stays in the index. A run that ended stays as it is.

        Args:
            number: of the run.

        Raises:
            Problem: 404, there is no such run.
        """
        (self._job(number)[1] / "cancel").touch()
        return self.state(number)

    def close(self) -> None:
        """End the runs that this process started, and wait a few seconds for them."""
        for process, job in self._running:
            if process.poll() is None and job.exists():
                (job / "cancel").touch()
        end = time.monotonic() + _STOP_SECONDS
        while any(process.poll() is None for process, _ in self._running):
            if time.monotonic() > end:
                return  # A run notices itself that its server is gone.
            time.sleep(_POLL_SECONDS / 10)

    async def events(self, number: str, after: int) -> AsyncGenerator[str]:
        """Yield what happens in a run, as server-sent events, until it ends.

        Args:
            number: of the run.
            after: `position` of the state, or number of the event, that the client has seen last;
                0: none.

        Raises:
            Problem: 404, there is no such run.
        """
        _, job = self._job(number)
        position = after
        silent = 0.0
        while True:
            events = await asyncio.to_thread(_events, job, position)
            for event, end in events:
                position = end
                silent = 0.0
                yield event_text(event["state"], event, position)
                if event["state"] in ENDED:
                    return
            if not events and await asyncio.to_thread(_is_over, job):
                event, position = _last_event(job)
                yield event_text(event["state"], event, position)
                return
            await asyncio.sleep(_POLL_SECONDS)
            silent += _POLL_SECONDS
            if silent >= _KEEP_ALIVE_SECONDS:  # A proxy ends a connection that is silent.
                silent = 0.0
                yield ": waiting\n\n"

    def _job(self, number: str) -> tuple[str, Path]:
        """Return the name of the index of a run, and the folder of the run."""
        # Only what looks like one of our numbers becomes a path.
        if len(number) == 32 and all(letter in "0123456789abcdef" for letter in number):
            for index, folder in self._folders.items():
                if (folder / number / "job.json").exists():
                    return index, folder / number
        raise Problem(404, "There is no such indexing run.", kind="NoSuchJob")

    def _forget_old(self, index: str) -> None:
        jobs = sorted(_jobs_in(self._folders[index]), key=_started, reverse=True)
        for job in jobs[_KEPT - 1 :]:
            if _last_event(job)[0]["state"] in ENDED:
                shutil.rmtree(job, ignore_errors=True)


def _state(index: str, job: Path) -> dict[str, Any]:
    facts = json.loads((job / "job.json").read_text("utf-8"))
    event, position = _last_event(job)
    return {"id": job.name, "index": index, "position": position, **facts, **event}


def _jobs_in(folder: Path) -> list[Path]:
    return [file.parent for file in folder.glob("*/job.json")]


def _started(job: Path) -> int:
    return (job / "job.json").stat().st_mtime_ns


def _watch(process: subprocess.Popen[bytes], job: Path) -> None:
    """Note the end of a process that did not note it itself."""
    _, errors = process.communicate()
    if job.exists() and _noted(job)[0]["state"] not in ENDED:
        reason = errors.decode("utf-8", "replace").strip()[-_MAX_ERROR_LETTERS:]
        _append(job, {"state": "failed", "detail": reason} if reason else _KILLED)


def _append(job: Path, event: dict[str, Any]) -> None:
    with (job / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")


def _events(job: Path, position: int) -> list[tuple[dict[str, Any], int]]:
    """Read the events after a position, each with the position of its end.

    A line that is being written does not count yet.
    """
    with (job / "events.jsonl").open("rb") as file:
        if position:
            file.seek(position - 1)
            if file.read(1) != b"\n":  # It is no position of this file, so all is sent.
                position = 0
                file.seek(0)
        found = []
        for line in file.read().splitlines(keepends=True):
            if line.endswith(b"\n"):
                position += len(line)
                found.append((_event(line), position))
        return found


def _event(line: bytes) -> dict[str, Any]:
    """Read one event. A power cut may leave a line of zeros, of a run that does not run now."""
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"state": "running"}
    return event


def _noted(job: Path) -> tuple[dict[str, Any], int]:
    """Return the last event that was written, and the position of its end."""
    with (job / "events.jsonl").open("rb") as file:
        start = file.seek(0, os.SEEK_END)
        data, end, before = b"", -1, -1
        while start and before < 0:
            start = max(0, start - _BLOCK_BYTES)
            file.seek(start)
            data = file.read()
            end = data.rfind(b"\n")
            before = data.rfind(b"\n", 0, max(0, end))
    return _event(data[before + 1 : max(0, end)]), start + end + 1


def _last_event(job: Path) -> tuple[dict[str, Any], int]:
    """Return what a run is doing, also if its process was killed, and the position of the event."""
    event, position = _noted(job)
    return (_KILLED if _is_over(job) else event), position


def _is_over(job: Path) -> bool:
    """Return whether the process of a run has gone without noting its end."""
    if time.time() - (job / "job.json").stat().st_mtime < _START_SECONDS:
        event, _ = _noted(job)
        if event["state"] == "waiting":
            return False
    # The lock first: a process notes its end before it gives the lock back.
    return not is_locked(job) and _noted(job)[0]["state"] not in ENDED
