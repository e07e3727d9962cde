"""One run of `collect`: fetch the photos of all rows, write them, and note each outcome."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from veduta.collect.failed_file import FailedFile
from veduta.collect.file_names import FileNames, row_key
from veduta.collect.host_queues import HostQueues
from veduta.collect.http_client import FetchFailed, HttpClient, host_of
from veduta.collect.journal import Journal
from veduta.collect.labels_file import write_labels_file
from veduta.collect.one_host import OneHost
from veduta.collect.outcome import Outcome, Result
from veduta.collect.politeness import back_off
from veduta.collect.response_body import ResponseBody
from veduta.collect.rows import Columns, Row, read_rows
from veduta.collect.save_photo import PhotoSaver, photo_exists
from veduta.collect.saving_threads import SavingThreads
from veduta.collect.settings import Settings
from veduta.collect.summary import Progress, Summary
from veduta.collect.table import TABLE_NAME, OutcomeCounts, TableRow, write_table
from veduta.errors import DatasetError, StorageFull, readable
from veduta.files import is_disk_full, remove_drafts
from veduta.processor_cores import processor_cores

__all__ = ["collect"]

# The folder of the journal, the lock and unfinished files. It is hidden, so that nobody indexes it.
STATE_FOLDER = ".veduta-collect"

_FETCH_BATCH_ROWS = 256
_TABLE_BATCH_ROWS = 4096
_READING_REPORT_ROWS = 4096
# Photos that are fetched and wait to be saved. Each of them may take 1 MB of memory.
_MAX_UNSAVED_PHOTOS = 32
_MIN_QUEUED_JOBS = 1024
_QUEUED_JOBS_PER_CONNECTION = 8
_NAME_LOOKUP_THREADS = 16


@dataclass(slots=True)
class _Job:
    """A row that is being fetched."""

    row: Row
    number: int
    attempts: int = 0
    body: ResponseBody | None = None
    pending: Result | None = None


def collect(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    columns: Columns | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_reading: Callable[[int], None] | None = None,
) -> Summary:
    """Fetch photos into a folder, with one folder inside it for each label.

    All rows are read before the first request, so that no two photos get the same file name. Rows
    that were collected before are not fetched again. Neither are rows that failed permanently,
    unless `settings.retry_failed` is set. At the end, `collected.parquet` in the folder has the
    outcome of each row, and `collected.failed.csv` has the rows without a photo.

    SIGINT ends the run and keeps what was collected. The next run continues, also after the process
    was killed.

    A run needs about 75 bytes of memory for each row, a little for each label, and at most 2 MB for
    each connection. Decoding needs memory for the pixels of one photo for each core.

    Args:
        sources: CSV files and lists of URLs.
        folder: where the photos go.
        settings: None means the defaults.
        columns: the columns of CSV files; None means the usual names.
        on_progress: called when rows are finished.
        on_reading: called with the number of rows read so far, now and then.

    Raises:
        DatasetError: the sources cannot be read or have no row, or name several hosts that would
            all get a password, or the folder is in use, was collected with other settings, or
            cannot be written.
        StorageFull: the disk is full.
    """
    started = time.monotonic()
    settings = settings or Settings()
    columns = columns or Columns()
    folder = Path(folder)
    names = FileNames()
    one_host = OneHost(settings)
    for number, row in enumerate(read_rows(sources, columns), start=1):
        names.add(row)
        one_host.add(row.url)
        if on_reading is not None and number % _READING_REPORT_ROWS == 0:
            on_reading(number)
    if not len(names):
        listed = ", ".join(readable(source) for source in sources)
        raise DatasetError(f"{listed}: no rows; wanted a URL in each")
    names.resolve_clashes()
    with _locked_state(folder) as state:
        shared = {"resize": settings.resize, "format": "jpeg" if settings.re_encode else None}
        with closing(Journal(state / "journal", shared)) as journal:
            rows = _Rows(sources, columns, names)
            saver = PhotoSaver(folder, state / "drafts", settings)
            run = _Run(rows, journal, saver, on_progress)
            interrupted, labels_file, failed_file = False, None, None
            try:
                _run_to_end(run)
            except KeyboardInterrupt:
                interrupted = True
            if interrupted:
                counts = run.counts
            else:
                journal.refresh()
                repeated = set(journal.repeated_hash_starts().tolist())
                failed = FailedFile(folder, state / "drafts")
                counts = write_table(
                    failed.noting(rows.table_rows(journal)),
                    folder / TABLE_NAME,
                    state / "drafts" / TABLE_NAME,
                    lambda digest: int(digest[:16], 16) in repeated,
                )
                failed_file = failed.finish()
                labels_file = write_labels_file(folder, state, journal)
    return Summary(
        folder=readable(folder),
        rows=len(names),
        labels=names.labels,
        collected=run.counts.outcomes[Outcome.COLLECTED],
        already=run.already,
        outcomes={str(outcome): number for outcome, number in counts.outcomes.most_common()},
        reasons=counts.reasons.reasons(),
        same_content=counts.same_content,
        denied=counts.denied,
        labels_file=None if labels_file is None else readable(labels_file),
        failed_file=None if failed_file is None else readable(failed_file),
        bytes=run.bytes,
        seconds=time.monotonic() - started,
        interrupted=interrupted,
    )


def _run_to_end(run: _Run) -> None:
    """Run on an event loop of another thread.

    There an interrupt does not fall between the writing of a photo and its counting. It works also
    where this thread has a running event loop, as in a notebook.
    """
    with ThreadPoolExecutor(1, "veduta-collect") as threads:
        done = threads.submit(lambda: asyncio.run(run.fetch_all()))
        try:
            done.result()
        except KeyboardInterrupt:
            run.stop()
            with suppress(asyncio.CancelledError, CancelledError):
                done.result()
            raise


class _NumberedRow(NamedTuple):
    """A row, its number from 1, and the number of the first row that is equal to it."""

    number: int
    row: Row
    first: int


class _Rows:
    """The rows of the sources, in batches, any number of times."""

    def __init__(
        self, sources: Sequence[str | os.PathLike[str]], columns: Columns, names: FileNames
    ) -> None:
        self._sources = sources
        self._columns = columns
        self.names = names

    def batches(self, size: int) -> Iterator[list[_NumberedRow]]:
        """Yield lists of at most `size` rows."""
        first_of: dict[int, int] = {}
        rows = enumerate(read_rows(self._sources, self._columns), start=1)
        while batch := list(islice(rows, size)):
            yield [
                _NumberedRow(
                    number,
                    row,
                    first_of.setdefault(row_key(row), number)
                    if self.names.may_repeat(row)
                    else number,
                )
                for number, row in batch
            ]

    def table_rows(self, journal: Journal) -> Iterator[TableRow]:
        """Yield each row with its result in the journal."""
        for batch in self.batches(_TABLE_BATCH_ROWS):
            results = journal.find([row for _, row, _ in batch])
            for (number, row, first), result in zip(batch, results, strict=True):
                if first != number:
                    repeated = Result(Outcome.REPEATED, error=f"the same as row {first}")
                    yield TableRow(number, row, repeated)
                else:
                    yield TableRow(number, row, result or Result(Outcome.PENDING))


class _Run:
    """The fetching and saving of the rows that need it.

    Attributes:
        already: photos of earlier runs that still exist.
        bytes: bytes written.
        counts: of the rows of this run.
    """

    def __init__(
        self,
        rows: _Rows,
        journal: Journal,
        saver: PhotoSaver,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._rows = rows
        self._names = rows.names
        self._journal = journal
        self._saver = saver
        self._settings = saver.settings
        self._on_progress = on_progress
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._skipped_rows = 0
        self.already = 0
        self.bytes = 0
        self.counts = OutcomeCounts()

    async def fetch_all(self) -> None:
        """Fetch every row that needs it."""
        loop = self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._stopped:
            return
        loop.set_default_executor(ThreadPoolExecutor(_NAME_LOOKUP_THREADS, "veduta-names"))
        self._saving_error: asyncio.Future[None] = loop.create_future()
        self._unsaved_photos = asyncio.Semaphore(_MAX_UNSAVED_PHOTOS)
        connections = self._settings.connections
        self._queues: HostQueues[_Job] = HostQueues(
            self._settings.per_host,
            max(_MIN_QUEUED_JOBS, _QUEUED_JOBS_PER_CONNECTION * connections),
        )
        threads = processor_cores() if self._settings.decode else 1
        self._saving: SavingThreads[_Job, Result] = SavingThreads(self._save, self._saved, threads)
        try:
            async with HttpClient(self._settings) as client, asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._raise_saving_error())
                feeding = tasks.create_task(self._queues.feed(self._jobs()))
                workers = [
                    tasks.create_task(self._fetch_one_by_one(client)) for _ in range(connections)
                ]
                await asyncio.gather(feeding, *workers)
                watching.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            last = self._saving.stop()
            self._record([(job, result) for job, result in last if isinstance(result, Result)])

    def stop(self) -> None:
        """End the run from another thread, also before it has begun and after it has ended."""
        self._stopped = True
        if self._task is not None:
            with suppress(RuntimeError):  # The event loop is closed.
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _raise_saving_error(self) -> None:
        await self._saving_error

    def _jobs(self) -> Iterator[list[tuple[str, _Job]]]:
        """Yield lists of (host, job) for the rows that need a request."""
        folder = str(self._saver.folder)
        for batch in self._rows.batches(_FETCH_BATCH_ROWS):
            results = self._journal.find([row for _, row, _ in batch])
            jobs = []
            for (number, row, first), result in zip(batch, results, strict=True):
                if first != number:
                    self._skipped_rows += 1
                elif result is not None and result.outcome is Outcome.COLLECTED:
                    if photo_exists(folder, result):
                        self._skipped_rows += 1
                        self.already += 1
                    else:
                        jobs.append((host_of(row.url), _Job(row, number)))
                elif result is None or self._try_again(result):
                    jobs.append((host_of(row.url), _Job(row, number)))
                else:
                    self._skipped_rows += 1
            yield jobs

    def _try_again(self, earlier: Result) -> bool:
        """Return whether a row that failed in an earlier run is tried again."""
        settings, outcome = self._settings, earlier.outcome
        short_side = min(earlier.width or 0, earlier.height or 0)
        now_allowed = {
            Outcome.REFUSED: settings.allow_private,
            Outcome.OPTED_OUT: settings.ignore_robots_tag,
            Outcome.TOO_SMALL: short_side >= (settings.min_size or 1),
        }
        return outcome.temporary or settings.retry_failed or now_allowed.get(outcome, False)

    async def _fetch_one_by_one(self, client: HttpClient) -> None:
        while (taken := await self._queues.take()) is not None:
            host, job = taken
            job.attempts += 1
            draft = self._saver.drafts / f"{job.number}.part"
            try:
                fetched = await client.fetch(job.row.url, draft)
            except FetchFailed as failure:
                self._failed(host, job, failure)
            else:
                self._queues.release_host(host)
                job.body = fetched.body
                job.pending = Result(
                    Outcome.PENDING,
                    status=fetched.status,
                    final_url=fetched.final_url,
                    attempts=job.attempts,
                    when=_now(),
                )
                await self._unsaved_photos.acquire()
                self._saving.put(job)

    def _failed(self, host: str, job: _Job, failure: FetchFailed) -> None:
        settings = self._settings
        if failure.wait_seconds is not None:
            self._queues.pause(host, min(failure.wait_seconds, settings.longest_wait))
        self._queues.release_host(host)
        if failure.temporary and job.attempts <= settings.retries:
            wait = failure.wait_seconds
            if wait is None:
                wait = back_off(job.attempts, settings.first_wait, settings.longest_wait)
            self._queues.retry_later(host, job, min(wait, settings.longest_wait))
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
        self._queues.finish()

    def _save(self, job: _Job) -> Result:
        """Save a photo; this runs on a thread."""
        assert job.body is not None and job.pending is not None  # noqa: S101  # put() follows fetch
        path = self._names.path_of(job.row)
        return self._saver.save(job.body, path, str(job.number), job.pending)

    def _saved(self, saved: list[tuple[_Job, Result | Exception]]) -> None:
        done = []
        for job, result in saved:
            self._unsaved_photos.release()
            if isinstance(result, Result):
                done.append((job, result))
            else:
                self._end_with(result)
        try:
            self._record(done)
        except OSError as error:
            self._end_with(error)
            return
        for _ in done:
            self._queues.finish()

    def _end_with(self, error: Exception) -> None:
        if not self._saving_error.done():
            self._saving_error.set_exception(error)

    def _record(self, done: Sequence[tuple[_Job, Result]]) -> None:
        if not done:
            return
        self._journal.append([(job.row, result) for job, result in done])
        for job, result in done:
            self.counts.add(job.row.url, result)
            if result.outcome is Outcome.COLLECTED:
                self.bytes += result.bytes or 0
        if self._on_progress is not None:
            outcomes = self.counts.outcomes
            collected, finished = outcomes[Outcome.COLLECTED], outcomes.total()
            total = len(self._names) - self._skipped_rows
            self._on_progress(Progress(finished, total, collected, finished - collected))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _locked_state(folder: Path) -> Iterator[Path]:
    """Yield the state folder while holding its lock; an empty `drafts` is in it."""
    from filelock import FileLock, Timeout

    state = folder / STATE_FOLDER
    drafts = state / "drafts"
    if state.is_symlink():
        raise DatasetError(f"{readable(state)}: a link, not a folder of collect; remove it")
    try:
        state.mkdir(parents=True, exist_ok=True)
        with FileLock(state / "lock", timeout=0):
            shutil.rmtree(drafts, ignore_errors=True)
            drafts.mkdir()
            remove_drafts(state)
            remove_drafts(folder)
            try:
                yield state
            finally:
                shutil.rmtree(drafts, ignore_errors=True)
    except Timeout:
        raise DatasetError(
            f"{readable(folder)}: another process is collecting into this folder; wait for it to "
            "end"
        ) from None
    except OSError as error:
        raise _disk_error(error, folder) from error


def _disk_error(error: OSError, folder: Path) -> DatasetError | StorageFull:
    if is_disk_full(error):
        return StorageFull(
            f"{readable(folder)}: the disk is full. What was collected is kept; make room and run "
            "the same command again."
        )
    named = f" ({readable(error.filename)})" if error.filename else ""
    return DatasetError(f"{readable(folder)}: cannot be written: {error.strerror or error}{named}")
