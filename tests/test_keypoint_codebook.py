"""Descriptors of keypoints in 16 bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walls import scene, seen_aside

from veduta.errors import EncoderUnavailable
from veduta.keypoints import Keypoints, codebook, load_extractor, verify
from veduta.keypoints.features import quantised
from veduta.keypoints.xfeat import XFeat

HEADER = 12


def found(number: int) -> Keypoints:
    return load_extractor().extract(scene(number), 640, 480)


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)),
    st.integers(0, 30),
    st.integers(0, 2**32 - 1),
)
def test_round_trip(size: tuple[int, int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    xy = (rng.uniform(0, 1, (count, 2)) * (np.array(size) - 1)).astype(np.float32)
    rows = quantised(rng.normal(size=(count, 64)))
    stored = Keypoints(xy, rows, *size).pack(2)
    assert len(stored) == HEADER + 19 * count
    back = Keypoints.unpack(stored, *size)
    assert back.descriptors.dtype == np.int8 and back.descriptors.shape == (count, 64)
    assert np.abs(back.xy - xy).max(initial=0) <= max(size) / 4095 / 2 + max(size) * 2e-7
    lengths = np.linalg.norm(back.descriptors.astype(float), axis=1)
    np.testing.assert_allclose(lengths, 127, atol=3)
    again = Keypoints.unpack(back.pack(2), *size)
    np.testing.assert_array_equal(again.xy, back.xy)


def test_positions_by_hand() -> None:
    rows = np.ones((2, 64), np.int8)
    stored = Keypoints(np.float32([[0xABC, 0x123], [0, 4095]]), rows, 4095, 9).pack(2)
    assert struct.unpack("<BBHI", stored[:8]) == (4, 3, 64, 2)
    assert stored[HEADER : HEADER + 6] == bytes([0xBC, 0x3A, 0x12, 0x00, 0xF0, 0xFF])


def test_a_code_names_the_nearest_centroids() -> None:
    rows = found(1).descriptors[:50]
    rotation, centroids = codebook._codebook()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(64), atol=1e-4)
    unit = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    parts = (unit @ rotation).reshape(50, 16, 1, 4)
    wanted = ((parts - centroids[None]) ** 2).sum(axis=3).argmin(axis=2)
    codes = codebook.codes_of(rows)
    assert (codes == wanted).mean() > 0.999
    nearest = centroids[np.arange(16), codes].reshape(50, 64) @ rotation.T
    np.testing.assert_allclose(codebook.rows_of_codes(codes) / 1024, nearest, atol=16 * 0.5 / 1024)


def test_the_form_keeps_what_geometry_needs() -> None:
    exact = found(3)
    stored = Keypoints.unpack(exact.pack(2), 640, 480)
    assert len(stored) == len(exact)
    a, b = (k.descriptors.astype(float) for k in (exact, stored))
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosines) > 0.95
    query = load_extractor().extract(seen_aside(scene(3)), 640, 480)
    said = verify(query, stored, XFeat.matching.pairs(query, stored))
    assert said.model is not None
    other = Keypoints.unpack(found(5).pack(2), 640, 480)
    assert verify(query, other, XFeat.matching.pairs(query, other)).model is None


def test_a_missing_codebook_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = found(2).pack(2)
    monkeypatch.setattr(codebook, "CODEBOOK_FILE", tmp_path / "none.npz")
    for cached in (codebook._codebook, codebook._table):
        cached.cache_clear()
    try:
        with pytest.raises(EncoderUnavailable, match=r"none\.npz.*install veduta again"):
            Keypoints.unpack(stored, 640, 480)
        (tmp_path / "none.npz").write_bytes(b"PK\3\4 not arrays")
        with pytest.raises(EncoderUnavailable, match="install veduta again"):
            load_extractor("xfeat:77:16bytes")
    finally:
        for cached in (codebook._codebook, codebook._table):
            cached.cache_clear()


def test_damage_is_told() -> None:
    stored = found(2).best(3).pack(2)
    for at in range(len(stored)):
        wrong = bytearray(stored)
        wrong[at] ^= 1
        with pytest.raises(ValueError, match="stored keypoints"):
            Keypoints.unpack(bytes(wrong), 640, 480)
    for end in range(len(stored)):
        with pytest.raises(ValueError, match="stored keypoints"):
            Keypoints.unpack(stored[:end], 640, 480)


def test_the_file_is_small() -> None:
    assert codebook.CODEBOOK_FILE.stat().st_size <= 100_000
