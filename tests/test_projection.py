"""The projection against PCA written out by hand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from veduta.encoders import Projection, fit_projection
from veduta.errors import EncoderError


def samples(count: int = 400, dimension: int = 6, seed: int = 0) -> np.ndarray:
    """Correlated samples with a mean far from zero and well separated variances."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimension, dimension)) * (2.0 ** -np.arange(dimension))
    return rng.normal(size=(count, dimension)) @ mixing.T + np.arange(dimension)


def batches(data: np.ndarray, *ends: int) -> list[np.ndarray]:
    return np.split(data, list(ends))


def raw(projection: Projection, data: np.ndarray) -> np.ndarray:
    """What `apply` gives before rows are scaled to length one."""
    return (data - projection.mean) @ projection.matrix.astype(np.float64)


def test_rotation_is_the_svd_of_the_centred_samples():
    data = samples()
    projection = fit_projection(batches(data, 7, 7, 200), power=0, shrinkage=0)
    _, _, axes = np.linalg.svd(data - data.mean(axis=0), full_matrices=False)
    assert np.allclose(projection.mean, data.mean(axis=0), atol=1e-6)
    # Each column is a right singular vector, in order, up to sign.
    assert np.allclose(np.abs(projection.matrix.T @ axes.T), np.eye(6), atol=1e-4)


def test_full_whitening_makes_the_covariance_the_identity():
    data = samples()
    projection = fit_projection(batches(data, 100, 250), power=1, shrinkage=0)
    covariance = np.cov(raw(projection, data), rowvar=False)
    assert np.allclose(covariance, np.eye(6), atol=1e-3)


def test_half_whitening_leaves_the_standard_deviation_as_variance():
    data = samples()
    projection = fit_projection([data], power=0.5, shrinkage=0)
    deviations = np.linalg.svd(data - data.mean(axis=0), compute_uv=False) / np.sqrt(len(data) - 1)
    covariance = np.cov(raw(projection, data), rowvar=False)
    assert np.allclose(covariance, np.diag(deviations), rtol=1e-3, atol=1e-4)


def test_two_points_by_hand():
    # Along (3, 4): mean (0, 0), one axis (0.6, 0.8) with variance 2 * 25 / 1 = 50.
    data = np.array([[3.0, 4.0], [-3.0, -4.0]])
    projection = fit_projection([data], dimension=1, power=1, shrinkage=0)
    assert np.allclose(projection.matrix[:, 0], np.array([0.6, 0.8]) / np.sqrt(50), atol=1e-6)
    assert np.allclose(projection.apply(data), [[1], [-1]])


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_the_stream_gives_what_the_whole_gives(shift: float):
    data = samples(count=301) + shift
    whole = fit_projection([data], power=1)
    parts = fit_projection(batches(data, 0, 1, 2, 60, 299), power=1)
    assert parts.samples == whole.samples == 301
    assert np.allclose(whole.matrix, parts.matrix, rtol=1e-4, atol=1e-5)


def test_the_stream_is_never_held():
    dimension, count = 32, 400

    def stream():
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield rng.normal(size=(100, dimension)).astype(np.float32)

    tracemalloc.start()
    fit_projection(stream())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All samples would take 400 * 100 * 32 * 4 bytes = 5 MB.
    assert peak < 1_000_000


def test_dimension_keeps_the_strongest_axes():
    data = samples()
    three = fit_projection([data], dimension=3, power=1, shrinkage=0)
    six = fit_projection([data], power=1, shrinkage=0)
    assert three.matrix.shape == (6, 3)
    assert np.array_equal(three.matrix, six.matrix[:, :3])
    result = three.apply(data.astype(np.float32))
    assert result.shape == (400, 3)
    assert result.dtype == np.float32
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)


def test_shrinkage_by_hand():
    # Covariance diag(8, 2), mean variance 5; a share of 0.5 gives diag(6.5, 3.5).
    data = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]]) * np.sqrt(3)
    assert np.allclose(np.cov(data, rowvar=False), np.diag([8, 2]))
    projection = fit_projection([data], power=1, shrinkage=0.5)
    assert np.allclose(projection.matrix, np.diag([6.5**-0.5, 3.5**-0.5]), atol=1e-6)
    # Unasked, the share is D / (D + N) = 1/3: diag(7, 3).
    unasked = fit_projection([data], power=1)
    assert np.allclose(unasked.matrix, np.diag([7**-0.5, 3**-0.5]), atol=1e-6)


def test_shrinkage_tames_few_samples():
    data = samples(count=6, dimension=6)
    wild = fit_projection([data], power=1, shrinkage=0)
    tame = fit_projection([data], power=1)
    assert np.abs(tame.matrix).max() < np.abs(wild.matrix).max()
    assert np.isfinite(wild.apply(samples(50))).all()


def test_the_mean_itself_gives_no_nan():
    projection = fit_projection([samples()], power=1)
    result = projection.apply(projection.mean[None])
    assert np.isfinite(result).all()
    assert np.allclose(np.linalg.norm(result), 1)


def test_save_and_load(tmp_path: Path):
    projection = fit_projection([samples()], dimension=4, power=0.5)
    path = tmp_path / "projection"
    projection.save(path)
    again = Projection.load(path)
    assert again.identity == projection.identity
    assert again.power == 0.5
    assert again.samples == 400
    data = samples(seed=1)
    assert np.array_equal(again.apply(data), projection.apply(data))


def test_identity_follows_the_numbers():
    data = samples()
    first = fit_projection([data])
    assert first.identity == fit_projection([data]).identity
    assert len(first.identity) == 16
    int(first.identity, 16)
    others = [
        fit_projection([data], power=1),
        fit_projection([data], dimension=5),
        fit_projection([data[:-1]]),
        Projection(first.mean + 1, first.matrix, first.power, first.samples),
    ]
    assert len({first.identity, *(other.identity for other in others)}) == 5


@pytest.mark.parametrize("content", [b"", b"not a projection", b"PK\x03\x04broken"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"broken\.npz"):
        Projection.load(path)


def test_a_cut_file_is_refused(tmp_path: Path):
    path = tmp_path / "whole.npz"
    fit_projection([samples()]).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(EncoderError, match=r"whole\.npz"):
            Projection.load(path)


def test_a_pickle_is_refused(tmp_path: Path):
    path = tmp_path / "pickle.npz"
    content = np.array([{"a": 1}], dtype=object)
    np.savez(path, mean=content, matrix=content, power=1, samples=1)
    with pytest.raises(EncoderError, match=r"pickle\.npz"):
        Projection.load(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(EncoderError, match="absent"):
        Projection.load(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    ("stream", "options", "message"),
    [
        ([], {}, "no descriptors"),
        ([np.zeros((0, 4))], {}, "no descriptors"),
        ([samples(5)], {}, "too few"),
        ([samples(1)], {"dimension": 1}, "too few"),
        ([samples(9), samples(9, dimension=5)], {}, r"\(n, 6\)"),
        ([samples(9)[0]], {}, r"\(n, D\)"),
        ([np.full((9, 6), np.nan)], {}, "undefined"),
        ([np.ones((9, 6))], {}, "all descriptors are equal"),
        ([samples()], {"dimension": 0}, "1 to 6"),
        ([samples()], {"dimension": 7}, "1 to 6"),
        ([samples()], {"power": 1.5}, "0 to 1"),
        ([samples()], {"shrinkage": -0.1}, "0 to 1"),
    ],
)
def test_what_cannot_be_fitted(stream, options, message):
    with pytest.raises(EncoderError, match=message):
        fit_projection(stream, **options)


def test_descriptors_of_another_encoder_are_refused():
    with pytest.raises(EncoderError, match=r"\(N, 6\)"):
        fit_projection([samples()]).apply(samples(dimension=5))
