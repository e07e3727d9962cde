"""Hashes, resizing, thumbnails, and the names of the package."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from veduta import photos


def scene(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    """Return a smooth random picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def test_content_hash_is_blake3() -> None:
    # The test vectors of the BLAKE3 paper: no input, and one zero byte.
    assert photos.content_hash(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
    assert photos.content_hash(b"\0").hex().startswith("2d3adedff11b61f14c886e35afa03673")
    assert len(photos.content_hash(b"x" * 1000)) == 32


def test_perceptual_hash_by_hand() -> None:
    rising = np.repeat(np.arange(0, 9 * 20, 20, dtype=np.uint8)[np.newaxis], 8, axis=0)
    as_rgb = np.dstack([rising] * 3)
    assert photos.perceptual_hash(as_rgb) == 2**64 - 1
    assert photos.perceptual_hash(as_rgb[:, ::-1]) == 0
    one = np.zeros((8, 9, 3), np.uint8)
    one[0, 1] = 200  # brighter than its left neighbour: the first bit, and only that
    assert photos.perceptual_hash(one) == 1 << 63
    one[7, 8] = 200  # and the last
    assert photos.perceptual_hash(one) == (1 << 63) | 1
    assert photos.perceptual_hash(np.full((50, 60, 3), 77, np.uint8)) == 0


def test_perceptual_hash_weighs_colours_as_luma() -> None:
    # 0.299 · 255 = 76.2, 0.587 · 255 = 149.7, 0.114 · 255 = 29.1: green > red > blue.
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)] * 3
    row = np.array(colours, np.uint8)[np.newaxis].repeat(8, axis=0)
    bits = f"{photos.perceptual_hash(row):064b}"
    assert bits[:8] == "10110110"


def test_perceptual_hash_of_one_photo_in_other_sizes_and_qualities() -> None:
    for seed in range(5):
        original = scene(seed)
        hashed = photos.perceptual_hash(original)
        half = photos.perceptual_hash(photos.resize(original, 160, 120))
        stream = io.BytesIO()
        Image.fromarray(original).save(stream, "JPEG", quality=40)
        again = photos.perceptual_hash(photos.decode(stream.getvalue(), path="x").pixels)
        assert photos.hamming(hashed, half) <= 3
        assert photos.hamming(hashed, again) <= 5
        assert photos.hamming(hashed, photos.perceptual_hash(scene(seed + 100))) >= 12


def test_hamming() -> None:
    assert photos.hamming(0, 2**64 - 1) == 64
    assert photos.hamming(0b1010, 0b0110) == 2
    assert photos.hamming(2**63, 2**63) == 0


def test_resize_averages_rather_than_skips() -> None:
    # A fine checkerboard is grey from afar; without antialiasing it would be black or white.
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for side in (37, 100, 150):
        small = photos.resize(np.dstack([board] * 3), side, side)
        assert small.shape == (side, side, 3)
        assert small.dtype == np.uint8
        assert abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 12


def test_resize_is_width_then_height() -> None:
    assert photos.resize(scene(1), 50, 20).shape == (20, 50, 3)
    assert photos.resize(scene(1), 640, 480).shape == (480, 640, 3)
    assert photos.resize(scene(1), 640, 20).shape == (20, 640, 3)


def test_resize_of_the_same_size_changes_nothing() -> None:
    original = scene(1)
    assert np.array_equal(photos.resize(original, 320, 240), original)


def test_resize_keeps_what_it_can() -> None:
    original = scene(3, 480, 640)
    restored = photos.resize(photos.resize(original, 448, 336), 640, 480)
    assert np.abs(restored.astype(int) - original).mean() < 1


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-1, 5)])
def test_resize_to_nothing(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        photos.resize(scene(1), width, height)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((480, 640), (192, 256)),
        ((640, 480), (256, 192)),
        ((100, 60), (100, 60)),
        ((2, 5000), (1, 256)),
    ],
)
def test_thumbnail(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    original = scene(2, *shape)
    data = photos.thumbnail(original)
    photo = photos.decode(data, path="thumbnail")
    assert photo.format == "JPEG"
    assert photo.pixels.shape[:2] == expected
    assert len(data) < 30_000
    close = np.abs(photos.resize(original, *expected[::-1]).astype(int) - photo.pixels).mean()
    assert close < 4


def test_thumbnail_of_a_view_and_of_another_size() -> None:
    turned = np.rot90(scene(2))  # not contiguous
    assert photos.decode(photos.thumbnail(turned, 64), path="x").pixels.shape == (64, 48, 3)


def test_every_public_name_exists_and_the_import_is_light() -> None:
    assert sorted(photos.__all__, key=str.lower) == sorted(set(photos.__all__), key=str.lower)
    for name in photos.__all__:
        assert hasattr(photos, name)
    program = (
        "import sys, veduta.photos\n"
        "print([name for name in ('PIL', 'simplejpeg', 'pi_heif') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
