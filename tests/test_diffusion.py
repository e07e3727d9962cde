"""Nearness in the graph is the solution of (I - 0.9 W) f = e, whatever the graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from veduta.index import diffusion
from veduta.index.diffusion import DAMPING, nearness
from veduta.index.graph import Graph

# The residual is brought below 1e-4 and the matrix has no eigenvalue below 0.1.
CLOSE = 1e-3

Matrix = NDArray[np.float64]


def graph_of(weights: Matrix) -> Graph:
    """Return the graph with these weights as they are; zero is no link."""
    rows, ends = np.nonzero(weights)
    starts = np.searchsorted(rows, np.arange(len(weights) + 1)).astype(np.int64)
    each = np.arange(len(weights), dtype=np.int32)
    values = weights[rows, ends].astype(np.float32)
    return Graph(starts, ends.astype(np.int32), values, each, each)


def normalised(weights: Matrix) -> Matrix:
    degrees = weights.sum(axis=1)
    scale = np.where(degrees > 0, np.sqrt(np.maximum(degrees, 1e-300)), 1)
    return weights / scale / scale[:, None]


def random_weights(n: int, share: float, seed: int) -> Matrix:
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.uniform(0.01, 1, (n, n)) * (rng.random((n, n)) < share), 1)
    return normalised(weights + weights.T)


def dense(weights: Matrix, seed: int) -> Matrix:
    e = np.zeros(len(weights))
    e[seed] = 1
    solution = np.linalg.solve(np.eye(len(weights)) - DAMPING * weights, e)
    return solution / solution.max()


def full(weights: Matrix, seed: int, without: tuple[int, ...] = ()) -> Matrix:
    rows, near = nearness(graph_of(weights), seed, without=without)
    assert (np.diff(rows) > 0).all(), "ascending, each once"
    assert (near > 0).all() and near.max() == 1
    out = np.zeros(len(weights))
    out[rows] = near
    return out


@settings(max_examples=60)
@given(n=st.integers(1, 60), share=st.sampled_from([0.02, 0.1, 0.4, 1]), seed=st.integers(0, 10**6))
def test_equals_the_dense_solution(n: int, share: float, seed: int) -> None:
    weights = random_weights(n, share, seed)
    start = seed % n
    np.testing.assert_allclose(full(weights, start), dense(weights, start), atol=CLOSE)


@settings(max_examples=30)
@given(n=st.integers(4, 40), seed=st.integers(0, 10**6))
def test_rows_left_out_are_as_if_they_were_not_there(n: int, seed: int) -> None:
    weights = random_weights(n, 0.2, seed)
    start, *gone = np.random.default_rng(seed).permutation(n)[:3].tolist()
    kept = np.setdiff1d(np.arange(n), gone)
    expected = np.zeros(n)
    expected[kept] = dense(weights[np.ix_(kept, kept)], int(np.searchsorted(kept, start)))
    np.testing.assert_allclose(full(weights, start, tuple(gone)), expected, atol=CLOSE)


def test_a_bridge_left_out_cuts_off_what_is_behind() -> None:
    path = np.zeros((5, 5))
    for i in range(4):
        path[i, i + 1] = path[i + 1, i] = 1
    rows, _ = nearness(graph_of(normalised(path)), 0, without=[2])
    assert rows.tolist() == [0, 1]


def test_disconnected_parts_are_not_reached() -> None:
    weights = np.zeros((9, 9))
    for part in ([0, 2, 4], [1, 3, 5, 7, 8]):
        weights[np.ix_(part, part)] = 1
    np.fill_diagonal(weights, 0)
    rows, _ = nearness(graph_of(normalised(weights)), 4)
    assert rows.tolist() == [0, 2, 4]
    rows, near = nearness(graph_of(normalised(weights)), 6)
    assert (rows.tolist(), near.tolist()) == ([6], [1.0]), "without any link, only itself"


def test_a_graph_without_links() -> None:
    rows, near = nearness(graph_of(np.zeros((3, 3))), 1)
    assert (rows.tolist(), near.tolist()) == ([1], [1.0])


def test_two_photos_by_hand() -> None:
    # f = (1, 0.9) / (1 - 0.81), so the other is at 0.9 of the seed.
    rows, near = nearness(graph_of(np.array([[0, 1.0], [1, 0]])), 0)
    assert rows.tolist() == [0, 1]
    assert near == pytest.approx([1, 0.9], abs=CLOSE)


def test_nearer_by_links_is_nearer() -> None:
    path = np.zeros((30, 30))
    for i in range(29):
        path[i, i + 1] = path[i + 1, i] = 1
    near = full(normalised(path), 3)
    assert near.argmax() == 3
    assert (np.diff(near[4:]) <= CLOSE / 10).all()
    assert near[5] > near[9] > near[15]


def test_weak_links_carry_little() -> None:
    weights = np.zeros((3, 3))
    weights[0, 1] = weights[1, 0] = 1
    weights[0, 2] = weights[2, 0] = 0.01
    near = full(normalised(weights), 0)
    assert near[2] < 0.2 * near[1]


@pytest.mark.parametrize("limit", [1, 2, 9, 25, 39])
def test_no_more_than_the_limit_is_looked_at(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rings around the seed, as many as fit; among them the solution is exact."""
    monkeypatch.setattr(diffusion, "_MAX_PHOTOS", limit)
    path = np.zeros((100, 100))
    for i in range(99):
        path[i, i + 1] = path[i + 1, i] = 1
    weights = normalised(path)
    rows, _ = nearness(graph_of(weights), 50)
    assert len(rows) <= limit
    reach = (limit - 1) // 2
    around = np.arange(50 - reach, 50 + reach + 1)
    expected = np.zeros(100)
    expected[around] = dense(weights[np.ix_(around, around)], reach)
    np.testing.assert_allclose(full(weights, 50), expected, atol=CLOSE)


def test_large_graph_is_not_made_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 150_000
    ends = np.stack([np.roll(np.arange(n), 1), np.roll(np.arange(n), -1)], axis=1)
    each = np.arange(n, dtype=np.int32)
    weights = np.full(2 * n, 0.5, "f4")
    ring = Graph(np.arange(n + 1) * 2, ends.ravel().astype(np.int32), weights, each, each)
    rows, near = nearness(ring, 7)
    assert len(rows) <= diffusion._MAX_PHOTOS
    assert rows[near.argmax()] == 7


def test_a_memory_mapped_graph(tmp_path) -> None:  # type: ignore[no-untyped-def]
    weights = random_weights(30, 0.2, 1)
    graph = graph_of(weights)
    parts = []
    for name in ("starts", "ends", "weights", "photo_of_row", "row_of_photo"):
        np.save(tmp_path / f"{name}.npy", getattr(graph, name))
        parts.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    rows, near = nearness(Graph(*parts), 3)
    again, same = nearness(graph, 3)
    assert rows.tolist() == again.tolist() and near.tolist() == same.tolist()
