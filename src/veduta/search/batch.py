"""Many queries against one index, several at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from veduta.errors import PhotoError
from veduta.ordered_threads import map_in_order
from veduta.processor_cores import processor_cores
from veduta.search.engine import Engine
from veduta.search.hits import Hits
from veduta.search.options import SearchOptions
from veduta.search.query import PhotoSource
from veduta.search.turned_search import search_photos

__all__ = ["search_each", "search_many"]

Query = TypeVar("Query")

_QUERIES_PER_WORKER = 2


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

    Returns:
        The hits of each query, in the order of the queries.

    Raises:
        PhotoError: a photo cannot be read, and `on_error` is None.
        QueryError: the options do not go with each other or with this index.
    """
    return search_each(
        queries,
        lambda photos: search_photos(engine, photos, options),
        workers=workers or processor_cores(),
        on_error=on_error,
    )


def search_each(
    queries: Iterable[Query],
    search: Callable[[Query], Hits],
    *,
    workers: int,
    on_error: Callable[[int, PhotoError], None] | None,
) -> Iterator[Hits]:
    """Search with many queries in any way.

    Args:
        queries: are taken as they are needed.
        search: returns the hits of a query. Several threads call it.
        workers: queries that are searched at the same time.
        on_error: as for `search_many`.

    Yields:
        The hits of each query, in the order of the queries.

    Raises:
        PhotoError: `search` raises it, and `on_error` is None.
    """

    def hits_or_error(query: Query) -> Hits | PhotoError:
        try:
            return search(query)
        except PhotoError as error:
            return error

    results = map_in_order(queries, hits_or_error, workers, items_per_worker=_QUERIES_PER_WORKER)
    for number, result in enumerate(results):
        if isinstance(result, Hits):
            yield result
        elif on_error is None:
            raise result
        else:
            on_error(number, result)
            yield Hits()
