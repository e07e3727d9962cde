"""Many queries against one index, several at the same time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from veduta.errors import PhotoError
from veduta.search.engine import Engine
from veduta.search.hits import Hits
from veduta.search.options import SearchOptions
from veduta.search.query import PhotoSource

__all__ = ["search_many"]

_QUERIES_AHEAD_PER_WORKER = 2


def search_many(
    engine: Engine,
    queries: Iterable[Sequence[PhotoSource]],
    options: SearchOptions,
    *,
    workers: int | None = None,
    on_error: Callable[[int, PhotoError], None] | None = None,
) -> Iterator[Hits]:
    """Search with many queries.

    Args:
        engine: of the index. One thread a query is fastest, so open it with `threads=1`.
        queries: each one photo, or several photos of one thing. They are taken as they are needed.
        options: how to search.
        workers: queries that are searched at the same time. None: one for each core.
        on_error: called with the number of the query, from 0, and the error, if one of its photos
            cannot be read. The query then has no hits. None: the error is raised.

    Yields:
        The hits of each query, in the order of the queries.

    Raises:
        PhotoError: a photo cannot be read, and `on_error` is None.
        QueryError: the options do not go with each other or with this index.
    """
    workers = workers or os.cpu_count() or 1

    def search(photos: Sequence[PhotoSource]) -> Hits:
        query = engine.encode_query(photos, rerank=options.rerank)
        return Hits(engine.search(query, options))

    def hits_of(number: int, future: Future[Hits]) -> Hits:
        try:
            return future.result()
        except PhotoError as error:
            if on_error is None:
                raise
            on_error(number, error)
            return Hits()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="veduta-search")
    waiting: deque[tuple[int, Future[Hits]]] = deque()
    try:
        for number, photos in enumerate(queries):
            waiting.append((number, pool.submit(search, photos)))
            if len(waiting) >= workers * _QUERIES_AHEAD_PER_WORKER:
                yield hits_of(*waiting.popleft())
        while waiting:
            yield hits_of(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
