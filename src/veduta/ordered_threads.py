"""Work of several threads, whose results come in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    workers: int,
    *,
    items_per_worker: int = 4,
) -> Iterator[Result]:
    """Yield `work(item)` of each item in the order of the items.

    Meanwhile NumPy computes each matrix product in one thread, in the whole process. OpenBLAS would
    divide it among threads of its own, which get in the way of these.

    Args:
        items: they are taken as they are needed.
        work: called in the threads. An error that it raises is raised here.
        workers: how many threads.
        items_per_worker: how many items are in work or finished for each thread, so that memory
            does not grow with the number of items.

    Yields:
        The results.
    """
    from threadpoolctl import threadpool_limits

    pool = ThreadPoolExecutor(workers, thread_name_prefix="veduta")
    waiting: deque[Future[Result]] = deque()
    with threadpool_limits(1, user_api="blas"):
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= workers * items_per_worker:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
