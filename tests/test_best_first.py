"""Equally good photos are listed in the order of their paths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from veduta.index.snapshot import Snapshot, quantise
from veduta.search.best_first import best_first
from veduta.search.exact import nearest


def snapshot_of(paths: Sequence[bytes]) -> Snapshot:
    stored = np.tile(np.array([[0.6, 0.8]], np.float16), (len(paths), 1))
    return Snapshot(1, None, pa.table({"path": paths}), stored, *quantise(stored))


def test_by_value_then_by_the_next_value_then_by_path() -> None:
    snapshot = snapshot_of([b"d", b"c", b"\xff", b"a", b"b"])
    rows = np.arange(5)
    first = np.array([0.5, 0.9, 0.5, 0.5, 0.1])
    second = np.array([0.0, 0.0, 0.2, 0.0, 1.0])
    assert best_first(snapshot, rows, first, second).tolist() == [1, 2, 3, 0, 4]
    assert best_first(snapshot, rows, first).tolist() == [1, 3, 0, 2, 4]


def test_positions_are_those_in_the_rows() -> None:
    snapshot = snapshot_of([b"c", b"b", b"a"])
    assert best_first(snapshot, np.array([2, 0]), np.array([1.0, 2.0])).tolist() == [1, 0]
    assert best_first(snapshot, np.array([1, 2]), np.zeros(2)).tolist() == [1, 0]


@pytest.mark.parametrize("rows", [[], [0]])
def test_none_and_one(rows: list[int]) -> None:
    order = best_first(snapshot_of([b"a"]), np.array(rows, np.intp), np.zeros(len(rows)))
    assert order.tolist() == rows


def test_the_last_places_go_by_path_too() -> None:
    """Of more equally near photos than are wanted, the first paths are taken."""
    paths = [b"%02d.jpg" % number for number in np.random.default_rng(1).permutation(40)]
    rows, _ = nearest(snapshot_of(paths), np.array([0.6, 0.8], np.float32), 7)
    assert [paths[row] for row in rows] == sorted(paths)[:7]
