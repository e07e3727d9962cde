"""Progress on standard error: a bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click

from veduta.text import duration

_EVERY = 10.0  # seconds between plain lines

# (done, total); a total of 0 is one that is not known yet
Advance = Callable[[int, int], None]


@contextmanager
def progress(
    doing: str,
    unit: str = "photos",
    *,
    quiet: bool = False,
    detail: Callable[[], str] | None = None,
) -> Iterator[Advance]:
    """Give a function (done, total) that shows rate and time left.

    Args:
        doing: what is going on, e.g. "Indexing".
        unit: what is counted.
        quiet: show nothing.
        detail: called for what else to show each time, in a few words.
    """
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _bar(doing, _Rate(unit, detail)) as advance:
            yield advance
    else:
        yield _lines(doing, unit, _Rate(unit, detail))


@contextmanager
def stages(
    unit: str = "photos", *, quiet: bool = False, detail: Callable[[], str] | None = None
) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function (doing, done, total) that shows one thing after the other, as `progress`.

    `unit` is what is counted, `detail` what else to show each time.
    """
    with ExitStack() as shown:
        now = ""
        advance: Advance = _silent

        def tell(doing: str, done: int, total: int) -> None:
            nonlocal now, advance
            if doing != now:
                shown.close()  # only one bar can be on the terminal
                now = doing
                advance = shown.enter_context(progress(doing, unit, quiet=quiet, detail=detail))
            advance(done, total)

        yield tell


def _silent(_done: int, _total: int) -> None:
    pass


@contextmanager
def _bar(doing: str, rate: _Rate) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, note="")

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, note=rate.note(done, total))

        yield advance


def _lines(doing: str, unit: str, rate: _Rate) -> Advance:
    last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        note = rate.note(done, total)
        if note and time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            of = f" of {total:,}" if total else ""
            click.echo(f"{doing}: {done:,}{of} {unit}, {note}", err=True)

    return advance


class _Rate:
    """Photos a second since the first call, and the time left at that rate."""

    def __init__(self, unit: str, detail: Callable[[], str] | None = None) -> None:
        self.unit = unit
        self.detail = detail
        self.started: float | None = None
        self.first = 0

    def note(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self.started is None:
            self.started, self.first = now, done
        elapsed = now - self.started
        if elapsed < 0.5 or done <= self.first:
            return ""
        rate = (done - self.first) / elapsed
        note = f"{rate:,.1f} {self.unit}/s"
        if total:
            note += f", {duration((total - done) / rate)} left"
        told = self.detail() if self.detail else ""
        return f"{note}; {told}" if told else note
