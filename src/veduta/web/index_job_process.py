"""The process of one indexing run of a service: `python -m veduta.web.index_job_process JOB`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_EVENT_SECONDS = 0.25
_NICENESS = 5
"""Searches of the server go before."""


def main(job: Path) -> None:
    """Bring an index up to date, and note in the folder `job` what happens."""
    from veduta.errors import VedutaError

    # The server cancels runs by a file. Its own Ctrl-C must not end them halfway.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    events = _Events(job)
    try:
        events.note(_run(job, events))
    except _Cancelled:
        events.note({"state": "cancelled"})
    except VedutaError as error:
        events.note({"state": "failed", "detail": str(error), "kind": type(error).__name__})


class _Cancelled(KeyboardInterrupt):
    """Somebody cancelled the run. An update treats it as Ctrl-C: it keeps what it has read."""


def _run(job: Path, events: _Events) -> dict[str, Any]:
    from veduta import api
    from veduta.errors import readable
    from veduta.index import UpdateProgress

    facts = json.loads((job / "job.json").read_text("utf-8"))
    request = facts["request"]
    folders = request.pop("folders")

    def on_progress(progress: UpdateProgress) -> None:
        events.progress("indexing", progress.done, progress.total)

    def on_linking(done: int, total: int) -> None:
        events.progress("linking", done, total)

    report = api.Index(Path(facts["path"])).add(
        *folders, on_progress=on_progress, on_linking=on_linking, **request
    )
    answer = report.as_json()
    for name in ("unreadable", "not_read"):
        answer[name] = [{"path": readable(path), "reason": why} for path, why in answer[name]]
    return {"state": "cancelled" if report.interrupted else "done", "report": answer}


class _Events:
    """Writes the events of one run."""

    def __init__(self, job: Path) -> None:
        self._file = job / "events.jsonl"
        self._cancel = job / "cancel"
        self._last = 0.0
        self._stage = ""
        self._began = 0.0

    def note(self, event: dict[str, Any]) -> None:
        """Write one event."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def progress(self, stage: str, done: int, total: int) -> None:
        """Write how far the run is, a few times a second; end it if somebody cancelled it."""
        if self._cancel.exists():
            raise _Cancelled
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began = stage, now
        elif now - self._last < _EVENT_SECONDS:
            return
        self._last = now
        rate = done / (now - self._began) if now > self._began else 0.0
        left = (total - done) / rate if rate else None
        self.note(
            {
                "state": "running",
                "stage": stage,
                "done": done,
                "total": total,
                "per_second": round(rate, 2),
                "seconds_left": None if left is None else round(left, 1),
            }
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
