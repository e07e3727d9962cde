"""The process of one indexing run of a service.

`python -m veduta.web.index_job_process JOB SERVER`: the folder of the run, and the number of the
process that started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_EVENT_SECONDS = 0.5
_NICENESS = 5
"""Searches of the server go before."""


def main(job: Path, server: int) -> None:
    """Bring an index up to date, and note in the folder `job` what happens.

    Args:
        job: the folder.
        server: number of the process that started this one.
    """
    # The server cancels runs by a file. Its own Ctrl-C must not end them halfway.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    from veduta.errors import VedutaError
    from veduta.index.table import writer_lock

    events = _Events(job, server)
    with writer_lock(job):
        try:
            event = _run(job, events)
        except _Cancelled:
            event = {"state": "cancelled"}
        except VedutaError as error:
            event = {"state": "failed", "detail": str(error), "kind": type(error).__name__}
        if event["state"] == "cancelled" and events.server_is_gone:
            event["detail"] = "The server that started this run has ended. What was read is kept."
        events.note(event)


class _Cancelled(KeyboardInterrupt):
    """Somebody cancelled the run. An update treats it as Ctrl-C: it keeps what it has read."""


def _run(job: Path, events: _Events) -> dict[str, Any]:
    from veduta import api
    from veduta.errors import readable
    from veduta.index import UpdateProgress
    from veduta.index.report_text import changes_line, note_lines

    request = json.loads((job / "job.json").read_text("utf-8"))["request"]
    folders = request.pop("folders")

    def on_progress(progress: UpdateProgress) -> None:
        events.progress("indexing", progress.done, progress.total)

    def on_linking(done: int, total: int) -> None:
        events.progress("linking", done, total)

    index = job.parent.parent
    report = api.Index(index).add(
        *folders, on_progress=on_progress, on_linking=on_linking, **request
    )
    answer = report.as_json()
    for name in ("unreadable", "not_read"):
        answer[name] = [{"path": readable(path), "reason": why} for path, why in answer[name]]
    return {
        "state": "cancelled" if report.interrupted else "done",
        "report": answer,
        "words": [changes_line(report), *note_lines(report)],
    }


class _Events:
    """Writes the events of one run.

    Attributes:
        server_is_gone: whether the process that started this one has ended.
    """

    def __init__(self, job: Path, server: int) -> None:
        self.server_is_gone = False
        self._file = job / "events.jsonl"
        self._cancel = job / "cancel"
        self._server = server
        self._last = 0.0
        self._stage = ""
        self._began = 0.0
        self._done_at_start = 0

    def note(self, event: dict[str, Any]) -> None:
        """Write one event."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def progress(self, stage: str, done: int, total: int) -> None:
        """Write how far the run is, twice a second; end it if somebody cancelled it."""
        self.server_is_gone = os.getppid() != self._server
        if self.server_is_gone or self._cancel.exists():
            raise _Cancelled
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._done_at_start = stage, now, done
        elif now - self._last < _EVENT_SECONDS:
            return
        self._last = now
        seconds = now - self._began
        rate = (done - self._done_at_start) / seconds if seconds else 0.0
        self.note(
            {
                "state": "running",
                "stage": stage,
                "done": done,
                "total": total,
                "per_second": round(rate, 2),
                "seconds_left": round((total - done) / rate, 1) if rate else None,
                "words": [_progress_words(stage, done, total, rate)],
            }
        )


def _progress_words(stage: str, done: int, total: int, rate: float) -> str:
    from veduta.text import pace

    counted = f"{stage.capitalize()}: {done:,} of {total:,} photos"
    return f"{counted}, {pace(rate, 'photos', total - done)}" if rate else counted


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
