"""Indexing runs that a client starts, watches and cancels.

A run is a process of its own (`veduta.web.index_job_process`): it may take all cores and hours, and
Ctrl-C on it is what it is on the command line. Its state is in the files of a folder, so every
process of the server can tell it:

- `job.json`: what was asked for.
- `events.jsonl`: what happened, one JSON object a line; the last line is the state now.
- `cancel`: is there when somebody cancelled it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from veduta.files import write_text
from veduta.web.event_stream import event_text
from veduta.web.problems import Problem

__all__ = ["ENDED", "IndexJobs"]

ENDED = ("done", "failed", "cancelled")
"""The states in which nothing happens any more."""

_POLL_SECONDS = 0.2
_KEEP_ALIVE_SECONDS = 15.0
_MAX_ERROR_LETTERS = 2000


class IndexJobs:
    """The indexing runs of a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, index_name: str, index: Path, request: dict[str, Any]) -> str:
        """Start a run and return its number.

        Args:
            index_name: of the index, for clients.
            index: its folder.
            request: arguments of `veduta.api.Index.add`, with `folders`.
        """
        number = uuid.uuid4().hex
        job = self._folder / number
        job.mkdir(parents=True)
        facts = {"index": index_name, "path": str(index), "request": request}
        write_text(job / "job.json", json.dumps(facts))
        _append(job, {"state": "waiting"})
        process = subprocess.Popen(
            [sys.executable, "-m", "veduta.web.index_job_process", str(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the server.
        )
        threading.Thread(target=_watch, args=(process, job), daemon=True).start()
        return number

    def state(self, number: str) -> dict[str, Any]:
        """Return what a run is doing now.

        Args:
            number: of the run.

        Raises:
            Problem: 404, there is no such run.
        """
        job = self._job(number)
        facts = json.loads((job / "job.json").read_text("utf-8"))
        return {"id": number, "index": facts["index"], **_events(job)[-1]}

    def all(self) -> list[dict[str, Any]]:
        """Return all runs of this server, the newest first."""
        jobs = [job for job in self._folder.iterdir() if (job / "job.json").exists()]
        jobs.sort(key=lambda job: (job / "job.json").stat().st_mtime_ns, reverse=True)
        return [self.state(job.name) for job in jobs]

    def cancel(self, number: str) -> dict[str, Any]:
        """Ask a run to stop. What it has read stays in the index. A run that ended stays as it is.

        Args:
            number: of the run.

        Raises:
            Problem: 404, there is no such run.
        """
        (self._job(number) / "cancel").touch()
        return self.state(number)

    def cancel_all(self) -> None:
        """Ask all runs to stop."""
        for job in self._folder.iterdir():
            (job / "cancel").touch()

    async def events(self, number: str, after: int) -> AsyncGenerator[str]:
        """Yield what happens in a run, as server-sent events, until it ends.

        Args:
            number: of the run.
            after: number of events that the client has seen.

        Raises:
            Problem: 404, there is no such run.
        """
        job = self._job(number)
        sent = after
        silent = 0.0
        while True:
            events = await asyncio.to_thread(_events, job)
            for event in events[sent:]:
                sent += 1
                silent = 0.0
                yield event_text(event["state"], event, sent)
            if events[-1]["state"] in ENDED:
                return
            await asyncio.sleep(_POLL_SECONDS)
            silent += _POLL_SECONDS
            if silent >= _KEEP_ALIVE_SECONDS:  # A proxy ends a connection that is silent.
                silent = 0.0
                yield ": waiting\n\n"

    def _job(self, number: str) -> Path:
        # Only what looks like one of our numbers becomes a path.
        valid = len(number) == 32 and all(letter in "0123456789abcdef" for letter in number)
        if not valid or not (self._folder / number / "job.json").exists():
            raise Problem(404, "There is no such indexing run.", kind="NoSuchJob")
        return self._folder / number


def _watch(process: subprocess.Popen[bytes], job: Path) -> None:
    """Note the end of a process that did not note it itself."""
    _, errors = process.communicate()
    if _events(job)[-1]["state"] not in ENDED:
        reason = errors.decode("utf-8", "replace").strip()[-_MAX_ERROR_LETTERS:]
        code = process.returncode
        _append(job, {"state": "failed", "detail": reason or f"it ended with the code {code}"})


def _append(job: Path, event: dict[str, Any]) -> None:
    with (job / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")


def _events(job: Path) -> list[dict[str, Any]]:
    """Read the events; a line that is being written does not count yet."""
    lines = (job / "events.jsonl").read_text("utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]
