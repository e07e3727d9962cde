"""Pooling the output of a network, and scaling vectors to length one."""

from __future__ import annotations

import numpy as np
import pytest

from veduta.encoders.pooling import pool, unit
from veduta.errors import EncoderError


def test_gem_by_hand():
    features = np.array([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 2.0]]]], dtype=np.float32)
    # (1 + 8 + 27 + 64) / 4 = 25; (3 * 1e-18 + 8) / 4 = 2.
    assert np.allclose(pool(features, "gem", 3.0), [[25 ** (1 / 3), 2 ** (1 / 3)]])


def test_gem_of_power_one_is_the_average():
    features = np.random.default_rng(0).random((2, 5, 3, 4), dtype=np.float32)
    assert np.allclose(pool(features, "gem", 1.0), pool(features, "average", 3.0), atol=1e-6)
    assert np.allclose(pool(features, "average", 3.0), features.reshape(2, 5, 12).mean(axis=2))


def test_tokens_by_hand():
    words = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert pool(words, "cls", 3.0).tolist() == [[0, 1, 2, 3]]
    assert pool(words, "mean_tokens", 3.0).tolist() == [[6, 7, 8, 9]]


def test_graph_takes_vectors_and_maps_of_one_pixel():
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(pool(vectors, "graph", 3.0), vectors)
    assert np.array_equal(pool(vectors[:, :, None, None], "graph", 3.0), vectors)


@pytest.mark.parametrize(("rank", "pooling"), [(3, "gem"), (2, "cls"), (4, "graph")])
def test_pooling_of_another_rank_is_refused(rank, pooling):
    with pytest.raises(EncoderError, match="rank"):
        pool(np.zeros((2, 3, 4, 5)[:rank], dtype=np.float32), pooling, 3.0)


def test_unit_by_hand():
    assert np.allclose(unit(np.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0, -1]])


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-30, 1e30, 1e300])
def test_unit_of_any_size_is_of_length_one(size):
    result = unit(np.full((2, 4), size))
    assert result.dtype == np.float32
    assert np.allclose(result, 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unit_refuses_undefined_numbers(value):
    with pytest.raises(EncoderError, match="undefined"):
        unit(np.array([[1.0, value]]))


def test_unit_of_nothing():
    assert unit(np.zeros((0, 7))).shape == (0, 7)
