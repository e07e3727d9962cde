"""What all routes of a service share: its indexes, its threads and its limits."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from veduta.errors import VedutaError
from veduta.processor_cores import processor_cores
from veduta.web.admission import Admission
from veduta.web.decoding import DecodingProcesses
from veduta.web.index_jobs import IndexJobs
from veduta.web.keys import KeyFile
from veduta.web.metrics import Metrics
from veduta.web.newer_versions import NewerVersions
from veduta.web.problems import Problem, client_left
from veduta.web.served_index import ServedIndex
from veduta.web.settings import ServeSettings

if TYPE_CHECKING:
    from veduta.web.open_review import OpenReview

__all__ = ["Service"]

_MORE_SEARCHES_THAN_CORES = 1
"""One search waits for the network while the others use the cores, and batches form. More at the
same time would all end later, and need more memory."""

_LIGHT_THREADS = 8
_MAX_DECODERS = 4

T = TypeVar("T")


class Service:
    """One process of a service.

    Attributes:
        settings: as the server was started.
        indexes: by name; the first is the default.
        keys: that are valid; None: no key is needed.
        decoders: for photos that clients send.
        admission: places for heavy requests.
        newer_versions: looks for them in object stores.
        jobs: indexing runs.
        metrics: what was answered.
        review: a review in the same frame, or None.
        ready: whether all indexes are open.
    """

    def __init__(self, settings: ServeSettings) -> None:
        """Open the indexes, and the review if there is one.

        Args:
            settings: of the service.

        Raises:
            CollectionError: as `veduta.open` raises it.
            DatasetError: as `OpenReview` raises it.
        """
        self.settings = settings
        self.indexes = {name: ServedIndex(name, place) for name, place in settings.indexes.items()}
        for index in self.indexes.values():
            index.open()
        self.newer_versions = NewerVersions(self.indexes.values(), settings.refresh)
        self.keys = KeyFile(settings.key_file) if settings.key_file else None
        self.decoders = DecodingProcesses(
            min(_MAX_DECODERS, processor_cores()), max_pixels=settings.max_upload_pixels
        )
        searches = processor_cores() + _MORE_SEARCHES_THAN_CORES
        self.admission = Admission(settings.queued_requests, searches)
        self.jobs = IndexJobs({name: index.path for name, index in self.indexes.items()})
        self.metrics = Metrics()
        self.review = _open_review(settings)
        self.ready = False
        self._shared: dict[Hashable, asyncio.Future[Any]] = {}
        # Searches must not keep health checks and thumbnails waiting.
        self._heavy = ThreadPoolExecutor(searches, thread_name_prefix="search")
        self._light = ThreadPoolExecutor(_LIGHT_THREADS, thread_name_prefix="read")

    async def start(self) -> None:
        """Load networks and decoders in the background."""
        self.ready = True
        self.newer_versions.start()
        self.decoders.warm()
        for index in self.indexes.values():
            self._heavy.submit(_load, index)

    def close(self) -> None:
        """End threads and processes. Requests that are at work are not waited for."""
        if self.review is not None:
            self.review.write()  # A signal may end the process before anything else does it.
        self.newer_versions.close()
        self.decoders.close()
        self._heavy.shutdown(wait=False, cancel_futures=True)
        self._light.shutdown(wait=False, cancel_futures=True)

    def index(self, name: str | None) -> ServedIndex:
        """Return an index.

        Args:
            name: of the index; None: the first.

        Raises:
            Problem: 404, there is no such index.
        """
        if name is None:
            return next(iter(self.indexes.values()))
        if name not in self.indexes:
            known = ", ".join(self.indexes)
            raise Problem(
                404, f"There is no index {name!r}. This server has: {known}", kind="NoSuchIndex"
            )
        return self.indexes[name]

    async def light(self, work: Callable[..., T], *values: Any, **named: Any) -> T:
        """Do work that takes milliseconds, in a thread."""
        return await _in_thread(self._light, partial(work, *values, **named))

    async def heavy(self, work: Callable[..., T], *values: Any, **named: Any) -> T:
        """Do work that takes longer, in one of few threads. The caller holds a place."""
        return await _in_thread(self._heavy, partial(work, *values, **named))

    async def shared(self, key: Hashable, work: Callable[[], T]) -> T:
        """Do long work once for all requests that ask for it at the same time.

        It goes on when one of them leaves, for the next one to ask.

        Args:
            key: of the work.
            work: is done in a thread, and keeps its result itself.
        """
        task = self._shared.get(key)
        if task is None:
            task = asyncio.ensure_future(self.heavy(work))
            self._shared[key] = task
            task.add_done_callback(lambda _: self._shared.pop(key, None))
        return await asyncio.shield(task)

    async def for_client(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Do work as long as the client waits for it.

        Args:
            request: whose body was read.
            work: is cancelled when the client leaves.

        Raises:
            Problem: it left.
        """
        task = asyncio.ensure_future(work)
        left = asyncio.ensure_future(_until_left(request))
        try:
            await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise client_left()
            return task.result()
        finally:
            for one in (task, left):
                one.cancel()


def _open_review(settings: ServeSettings) -> OpenReview | None:
    if settings.review is None:
        return None
    from veduta.web.open_review import OpenReview

    return OpenReview(settings.review)


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    waiting: Awaitable[T] = loop.run_in_executor(threads, copy_context().run, work)
    return await waiting


def _load(index: ServedIndex) -> None:
    try:
        index.load()
    except VedutaError:
        return  # The first search that needs it answers with this error.
    except Exception:  # noqa: BLE001
        traceback.print_exc()
