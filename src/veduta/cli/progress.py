"""Progress on standard error: a bar on a terminal, and a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from veduta.cli.printing import say
from veduta.text import pace

__all__ = ["OnProgress", "OnStage", "progress", "stages"]

_LINE_SECONDS = 10.0  # between two lines
_MIN_SECONDS = 0.5  # A rate over a shorter time says nothing.

OnProgress = Callable[[int, int], None]
"""Called with (done, total). A total of 0 is not known yet."""

OnStage = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@contextmanager
def progress(
    stage: str,
    unit: str = "photos",
    *,
    quiet: bool = False,
    detail: Callable[[], str] | None = None,
) -> Iterator[OnProgress]:
    """Give a function that shows the rate and the time left.

    Args:
        stage: what is done, such as "Indexing".
        unit: what is counted.
        quiet: show nothing.
        detail: returns what else to show, in a few words.
    """
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _bar(stage, _Rate(unit, detail)) as on_progress:
            yield on_progress
    else:
        yield _lines(stage, unit, _Rate(unit, detail))


@contextmanager
def stages(
    unit: str = "photos", *, quiet: bool = False, detail: Callable[[], str] | None = None
) -> Iterator[OnStage]:
    """Give a function that shows one stage after the other, each as `progress` does.

    Args:
        unit: what is counted.
        quiet: show nothing.
        detail: returns what else to show, in a few words.
    """
    with ExitStack() as shown:
        current = ""
        on_progress: OnProgress = _silent

        def on_stage(stage: str, done: int, total: int) -> None:
            nonlocal current, on_progress
            if stage != current:
                shown.close()  # A terminal can show only one bar.
                current = stage
                on_progress = shown.enter_context(progress(stage, unit, quiet=quiet, detail=detail))
            on_progress(done, total)

        yield on_stage


def _silent(_done: int, _total: int) -> None:
    pass


@contextmanager
def _bar(stage: str, rate: _Rate) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(stage),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(stage, total=None, note="")

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, note=rate.note(done, total))

        yield on_progress


def _lines(stage: str, unit: str, rate: _Rate) -> OnProgress:
    last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        note = rate.note(done, total)
        if note and time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            of_total = f" of {total:,}" if total else ""
            say(f"{stage}: {done:,}{of_total} {unit}, {note}", err=True)

    return on_progress


class _Rate:
    """Units per second since the first call, and the time left at that rate.

    If the count falls, another part of the work has begun, and the rate begins anew.
    """

    def __init__(self, unit: str, detail: Callable[[], str] | None = None) -> None:
        self.unit = unit
        self.detail = detail
        self.started: float | None = None
        self.done_at_start = self.done = 0

    def note(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self.started is None or done < self.done:
            self.started, self.done_at_start = now, done
        self.done = done
        seconds = now - self.started
        if seconds < _MIN_SECONDS or done <= self.done_at_start:
            return ""
        rate = (done - self.done_at_start) / seconds
        note = pace(rate, self.unit, total - done if total else None)
        detail = self.detail() if self.detail else ""
        return f"{note}; {detail}" if detail else note
