"""Photos by their content, whatever their rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from veduta.index.distinct_photos import (
    SAMPLE_PHOTOS,
    content_hashes,
    distinct_photos,
    first_of_copies,
    largest_hashes,
    sample_rows,
)
from veduta.index.snapshot import Snapshot, quantise
from veduta.photos import content_hash

A, B, C = (bytes([first]) * 32 for first in (10, 200, 255))


def snapshot_of(contents: Sequence[bytes], unreadable: int = 0) -> Snapshot:
    """Return a snapshot whose column has two chunks, and rows of files that gave no photo."""
    half = len(contents) // 2
    parts = (contents[:half], [*contents[half:], *[None] * unreadable])
    column = pa.chunked_array([pa.array(part, pa.binary()) for part in parts])
    stored = np.ones((len(contents), 1), np.float16)
    return Snapshot(1, None, pa.table({"content": column}), stored, *quantise(stored))


def hashes(number: int) -> list[bytes]:
    return [content_hash(b"%d" % i) for i in range(number)]


def test_copies_are_one_photo() -> None:
    photos = distinct_photos(snapshot_of([C, A, C, B, A], unreadable=2))
    assert photos.contents.tolist() == [A, B, C]
    assert photos.photo_of_row.tolist() == [2, 0, 2, 1, 0]
    assert photos.row_of_photo.tolist() == [1, 3, 0]


def test_hashes_that_end_or_begin_with_zeros() -> None:
    contents = [b"\0" * 31 + b"\1", b"\1" + b"\0" * 31, b"\1" * 31 + b"\0", b"\0" * 32]
    photos = distinct_photos(snapshot_of(contents))
    assert photos.photo_of_row.tolist() == [1, 2, 3, 0], "in the order of the bytes"
    assert [one.ljust(32, b"\0") for one in content_hashes(snapshot_of(contents))] == contents


@pytest.mark.parametrize("number", [0, 1, 2, SAMPLE_PHOTOS - 1, SAMPLE_PHOTOS, SAMPLE_PHOTOS + 9])
def test_the_sample_is_the_photos_with_the_smallest_hashes(number: int) -> None:
    contents = hashes(number)
    rows = sample_rows(snapshot_of(contents, unreadable=1))
    assert [contents[row] for row in rows] == sorted(contents)[:SAMPLE_PHOTOS]


@pytest.mark.parametrize("number", [0, 1, 5, 60])
def test_the_photos_with_the_largest_hashes(number: int) -> None:
    contents = [b"\0" * 32, b"\xff" * 32, *hashes(number), *hashes(number)]  # All of them twice.
    expected = sorted(set(contents), reverse=True)
    for asked in (1, 3, 50, 100):
        rows = largest_hashes(snapshot_of(contents, unreadable=1), asked)
        assert [contents[row] for row in rows] == expected[:asked]
    assert largest_hashes(snapshot_of([], unreadable=1), 3).tolist() == []


def test_the_first_of_copies() -> None:
    snapshot = snapshot_of([C, A, C, B, A])
    assert first_of_copies(snapshot, [4, 2, 1, 0, 3]) == [4, 2, 4, 2, 3]
    assert first_of_copies(snapshot, []) == []


def test_the_sample_does_not_depend_on_rows_or_copies() -> None:
    contents = hashes(3 * SAMPLE_PHOTOS)
    expected = [contents[row] for row in sample_rows(snapshot_of(contents))]
    copied = [*contents, *contents[:500], *contents[:7]]
    shuffled = [copied[i] for i in np.random.default_rng(0).permutation(len(copied))]
    assert [shuffled[row] for row in sample_rows(snapshot_of(shuffled))] == expected


def test_a_new_photo_changes_one_photo_of_the_sample() -> None:
    contents = hashes(2 * SAMPLE_PHOTOS)
    before = {contents[row] for row in sample_rows(snapshot_of(contents))}
    for added in (b"\0" * 32, b"\xff" * 32):
        more = [*contents, added]
        after = {more[row] for row in sample_rows(snapshot_of(more))}
        assert len(after - before) == (1 if added < max(before) else 0)
