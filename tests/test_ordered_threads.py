"""Work of several threads, in order, with matrix products of one thread each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from veduta.ordered_threads import map_in_order


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    with threadpool_limits(3, user_api="blas"):
        yield


def product_threads() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_workers_compute_products_alone() -> None:
    assert list(map_in_order(range(5), lambda _: product_threads(), 2)) == [{1}] * 5
    assert product_threads() == {3}


def test_the_limit_ends_with_an_error_and_with_a_reader_that_stops() -> None:
    def fail(number: int) -> int:
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(map_in_order(range(5), fail, 2))
    assert product_threads() == {3}
    results = map_in_order(range(50), lambda number: number, 2)
    assert next(results) == 0
    results.close()
    assert product_threads() == {3}
