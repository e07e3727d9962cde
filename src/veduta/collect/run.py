"""A run: rows in, photos in folders out, and what became of each row."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from veduta.collect.body import Body
from veduta.collect.fetching import Client, Failure, host_of
from veduta.collect.journal import Journal
from veduta.collect.names import Names, key_of
from veduta.collect.outcome import Outcome, Result
from veduta.collect.politeness import back_off
from veduta.collect.rows import Columns, Row, read_rows
from veduta.collect.save_photo import Saver, is_there
from veduta.collect.save_pool import Savers
from veduta.collect.schedule import Schedule
from veduta.collect.settings import Settings
from veduta.collect.summary import Progress, Summary
from veduta.collect.table import TABLE, Tally, Told, write_table
from veduta.errors import DatasetError, StorageFull, readable

__all__ = ["collect"]

STATE = ".veduta-collect"
"""Folder of the journal, the lock and the unfinished files; hidden, so that nobody indexes it."""

_BATCH = 256
_FIND_AT_ONCE = 4096
_READ_AT_ONCE = 4096
_WAITING_TO_BE_SAVED = 32
_NAME_LOOKUPS = 16


@dataclass(slots=True)
class _Job:
    row: Row
    number: int
    attempts: int = 0
    body: Body | None = None
    so_far: Result | None = None


def collect(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    columns: Columns | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_reading: Callable[[int], None] | None = None,
) -> Summary:
    """Fetch the photos of `sources` into `folder`, one folder a label, and tell of each row.

    Rows that were collected before are not fetched again, nor those that failed for good (unless
    `settings.retry_failed`). `folder` gets `collected.parquet` at the end. SIGINT ends the run with
    what is done; the next one goes on from there, also after the process was killed.

    Before anything is fetched all rows are read, to give no two of them one name; `on_reading` is
    called with how many were, now and then.

    Memory: about 75 bytes a row, something for each label, and 2 MB a connection at most; when
    decoding, also the pixels of one photo a core.

    Raises `DatasetError` (the sources cannot be read or have no row, the folder is in use, was
    collected with other settings, or cannot be written) and `StorageFull`.
    """
    began = time.monotonic()
    asked = settings or Settings()
    wanted = columns or Columns()
    place = Path(folder)
    names = Names()
    for number, row in enumerate(read_rows(sources, wanted), 1):
        names.see(row)
        if on_reading is not None and number % _READ_AT_ONCE == 0:
            on_reading(number)
    if not len(names):
        listed = ", ".join(readable(source) for source in sources)
        raise DatasetError(f"{listed}: no rows; wanted a URL in each")
    names.settle()
    with _state(place) as state:
        shared = {"resize": asked.resize, "format": "jpeg" if asked.re_encode else None}
        with closing(Journal(state / "journal", shared)) as journal:
            rows = _Rows(sources, wanted, names)
            run = _Run(rows, journal, Saver(place, state / "drafts", asked), on_progress)
            interrupted = False
            try:
                _complete(run)
            except KeyboardInterrupt:
                interrupted = True
            if interrupted:
                tally = Tally(run.outcomes, run.examples)
            else:
                journal.reopen()
                repeated = set(journal.repeated_contents().tolist())
                tally = write_table(
                    rows.told(journal),
                    place / TABLE,
                    state / "drafts" / TABLE,
                    lambda digest: int(digest[:16], 16) in repeated,
                )
    return Summary(
        folder=readable(place),
        rows=len(names),
        labels=names.labels,
        collected=run.outcomes[Outcome.COLLECTED],
        already=run.already,
        outcomes={str(outcome): number for outcome, number in tally.outcomes.most_common()},
        examples={str(outcome): reason for outcome, reason in tally.examples.items()},
        same_content=tally.same_content,
        bytes=run.bytes,
        seconds=time.monotonic() - began,
        interrupted=interrupted,
    )


def _complete(run: _Run) -> None:
    """Run to the end, also where an event loop runs already, as it does in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run.go())
        return
    with ThreadPoolExecutor(1, "veduta-collect") as threads:
        done = threads.submit(lambda: asyncio.run(run.go()))
        try:
            done.result()
        except KeyboardInterrupt:
            run.stop()
            with suppress(asyncio.CancelledError, CancelledError):
                done.result()
            raise


class _Rows:
    """The rows of the sources with their numbers, in batches, any number of times."""

    def __init__(
        self, sources: Sequence[str | os.PathLike[str]], columns: Columns, names: Names
    ) -> None:
        self._sources = sources
        self._columns = columns
        self.names = names

    def batches(self, size: int) -> Iterator[list[tuple[int, Row, int]]]:
        """Yield lists of (number, row, number of the first row that is the same one)."""
        first_of: dict[int, int] = {}
        rows = enumerate(read_rows(self._sources, self._columns), start=1)
        while batch := list(islice(rows, size)):
            yield [
                (
                    number,
                    row,
                    first_of.setdefault(key_of(row), number)
                    if self.names.may_repeat(row)
                    else number,
                )
                for number, row in batch
            ]

    def told(self, journal: Journal) -> Iterator[Told]:
        """Yield what the journal knows of each row."""
        for batch in self.batches(_FIND_AT_ONCE):
            results = journal.find([row for _, row, _ in batch])
            for (number, row, first), result in zip(batch, results, strict=True):
                if first != number:
                    same = Result(Outcome.REPEATED, error=f"the same as row {first}")
                    yield number, row, same
                else:
                    yield number, row, result or Result(Outcome.PENDING)


class _Run:
    def __init__(
        self,
        rows: _Rows,
        journal: Journal,
        saver: Saver,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._rows = rows
        self._names = rows.names
        self._journal = journal
        self._saver = saver
        self._settings = saver.settings
        self._on_progress = on_progress
        self._task: asyncio.Task[None] | None = None
        self._left_out = 0
        self.already = 0
        self.bytes = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.examples: dict[Outcome, str] = {}

    async def go(self) -> None:
        """Fetch every row that needs it."""
        loop = self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        loop.set_default_executor(ThreadPoolExecutor(_NAME_LOOKUPS, "veduta-names"))
        self._over: asyncio.Future[None] = loop.create_future()
        self._room = asyncio.Semaphore(_WAITING_TO_BE_SAVED)
        self._schedule: Schedule[_Job] = Schedule(
            self._settings.per_host, max(1024, 8 * self._settings.connections)
        )
        threads = (os.cpu_count() or 1) if self._settings.decode else 1
        self._savers: Savers[_Job, Result] = Savers(self._save, self._saved, threads)
        try:
            async with Client(self._settings) as client, asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch())
                feeding = tasks.create_task(self._schedule.feed(self._to_fetch()))
                workers = [
                    tasks.create_task(self._fetch_one_by_one(client))
                    for _ in range(self._settings.connections)
                ]
                await asyncio.gather(feeding, *workers)
                watch.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            last = self._savers.stop()
            self._record([(job, result) for job, result in last if isinstance(result, Result)])

    def stop(self) -> None:
        """End a run, from another thread, as SIGINT ends one in the main thread."""
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _watch(self) -> None:
        await self._over

    def _to_fetch(self) -> Iterator[list[tuple[str, _Job]]]:
        folder = str(self._saver.folder)
        for batch in self._rows.batches(_BATCH):
            known = self._journal.find([row for _, row, _ in batch])
            wanted = []
            for (number, row, first), result in zip(batch, known, strict=True):
                if first != number:
                    self._left_out += 1
                elif result is not None and result.outcome is Outcome.COLLECTED:
                    if is_there(folder, result):
                        self._left_out += 1
                        self.already += 1
                    else:
                        wanted.append((host_of(row.url), _Job(row, number)))
                elif result is None or self._worth_another(result.outcome):
                    wanted.append((host_of(row.url), _Job(row, number)))
                else:
                    self._left_out += 1
            yield wanted

    def _worth_another(self, outcome: Outcome) -> bool:
        """Whether a row that failed before may do better now."""
        allowed = {
            Outcome.REFUSED: self._settings.allow_private,
            Outcome.OPTED_OUT: self._settings.ignore_robots_tag,
        }
        return outcome.passing or self._settings.retry_failed or allowed.get(outcome, False)

    async def _fetch_one_by_one(self, client: Client) -> None:
        while (taken := await self._schedule.take()) is not None:
            host, job = taken
            job.attempts += 1
            draft = self._saver.drafts / f"{job.number}.part"
            try:
                fetched = await client.fetch(job.row.url, draft)
            except Failure as failure:
                self._failed(host, job, failure)
            else:
                self._schedule.left(host)
                job.body = fetched.body
                job.so_far = Result(
                    Outcome.PENDING,
                    status=fetched.status,
                    final_url=fetched.final_url,
                    attempts=job.attempts,
                    when=_now(),
                )
                await self._room.acquire()
                self._savers.put(job)

    def _failed(self, host: str, job: _Job, failure: Failure) -> None:
        settings = self._settings
        if failure.wait is not None:
            self._schedule.pause(host, min(failure.wait, settings.longest_wait))
        self._schedule.left(host)
        if failure.try_again and job.attempts <= settings.retries:
            wait = failure.wait
            if wait is None:
                wait = back_off(job.attempts, settings.first_wait, settings.longest_wait)
            self._schedule.back(host, job, min(wait, settings.longest_wait))
            return
        result = Result(
            failure.outcome,
            error=failure.reason,
            status=failure.status,
            final_url=failure.final_url,
            attempts=job.attempts,
            when=_now(),
        )
        self._record([(job, result)])
        self._schedule.done()

    def _save(self, job: _Job) -> Result:
        """On a thread."""
        assert job.body is not None and job.so_far is not None  # noqa: S101  # put() follows fetch
        stem = self._names.file_of(job.row)
        return self._saver.save(job.body, stem, str(job.number), job.so_far)

    def _saved(self, saved: list[tuple[_Job, Result | Exception]]) -> None:
        done = []
        for job, result in saved:
            self._room.release()
            if isinstance(result, Result):
                done.append((job, result))
            elif not self._over.done():
                self._over.set_exception(result)
        try:
            self._record(done)
        except OSError as error:
            if not self._over.done():
                self._over.set_exception(error)
            return
        for _ in done:
            self._schedule.done()

    def _record(self, done: Sequence[tuple[_Job, Result]]) -> None:
        if not done:
            return
        self._journal.append([(job.row, result) for job, result in done])
        for _, result in done:
            self.outcomes[result.outcome] += 1
            if result.outcome is Outcome.COLLECTED:
                self.bytes += result.bytes or 0
            elif result.error:
                self.examples.setdefault(result.outcome, result.error)
        if self._on_progress is not None:
            collected, over = self.outcomes[Outcome.COLLECTED], self.outcomes.total()
            total = len(self._names) - self._left_out
            self._on_progress(Progress(over, total, collected, over - collected))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _state(folder: Path) -> Iterator[Path]:
    """Hold the lock of a folder, with an empty folder for drafts. Says what a full disk means."""
    from filelock import FileLock, Timeout

    state = folder / STATE
    try:
        state.mkdir(parents=True, exist_ok=True)
        with FileLock(state / "lock", timeout=0):
            _empty(state / "drafts")
            try:
                yield state
            finally:
                shutil.rmtree(state / "drafts", ignore_errors=True)
    except Timeout:
        raise DatasetError(
            f"{readable(folder)}: another process is collecting into this folder; wait for it to "
            "end"
        ) from None
    except OSError as error:
        raise _disk_error(error, folder) from error


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _disk_error(error: OSError, folder: Path) -> DatasetError | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"{readable(folder)}: the disk is full. What was collected is kept; make room and run "
            "the same command again."
        )
    named = f" ({readable(error.filename)})" if error.filename else ""
    return DatasetError(f"{readable(folder)}: cannot be written: {error.strerror or error}{named}")
