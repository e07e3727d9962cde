"""Near-duplicates by hashes: against all pairs by brute force, and on a set with a manifest."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from veduta.curate.hash_duplicates import find_duplicates
from veduta.curate.hash_pairs import near_hashes
from veduta.curate.photo_scan import PhotoScan, scan_photos
from veduta.photos.bit_counts import bit_counts, portable_bit_counts
from veduta.photos.same_picture import MAX_SAME_BITS


def test_bits_of_words() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    words[:2] = 0, 2**64 - 1
    assert portable_bit_counts(words).tolist() == bit_counts(words).tolist()
    assert bit_counts(words).tolist() == [int(word).bit_count() for word in words]


def test_no_pair_of_near_hashes_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs by brute force, in blocks of every size."""
    from veduta.curate import hash_duplicates, hash_pairs

    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**64, 40, dtype=np.uint64)
    hashes = np.repeat(base, 6)
    for at in range(len(hashes)):
        for bit in rng.choice(64, at % 8, replace=False):
            hashes[at] ^= np.uint64(1) << np.uint64(bit)
    luma_grids = rng.integers(0, 256, (1, 256), dtype=np.uint8).repeat(len(hashes), axis=0)
    scan = cast(PhotoScan, SimpleNamespace(hashes=hashes, luma_grids=luma_grids))
    everything = np.arange(len(hashes))
    wanted = {
        (a, b)
        for a in range(len(hashes))
        for b in range(a + 1, len(hashes))
        if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= MAX_SAME_BITS
    }
    assert len(wanted) > 100
    for block_pairs in (1, 50, 1 << 21):
        monkeypatch.setattr(hash_pairs, "_BLOCK_PAIRS", block_pairs)
        monkeypatch.setattr(hash_duplicates, "_BLOCK_PHOTOS", max(1, block_pairs >> 6))
        found = list(hash_duplicates._near_duplicates(scan, everything, None))
        assert set(found) == wanted
        both_ways = set()
        for rows, others, bits in near_hashes(hashes, hashes, max_bits=MAX_SAME_BITS):
            for a, b, different in zip(rows.tolist(), others.tolist(), bits.tolist(), strict=True):
                assert (int(hashes[a]) ^ int(hashes[b])).bit_count() == different
                both_ways.add((a, b))
        assert both_ways == wanted | {(b, a) for a, b in wanted} | {(a, a) for a in everything}


def test_no_pair_comes_twice_in_one_band() -> None:
    hashes = np.random.default_rng(2).integers(0, 4, 300, dtype=np.uint64)  # five equal bands
    times = Counter(
        pair
        for first, second, _ in near_hashes(hashes, max_bits=MAX_SAME_BITS)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    )
    assert len(times) == 300 * 299 // 2
    assert set(times.values()) == {5, 6}


def test_copies_of_the_messy_set(shared_data: Callable[[str], Path]) -> None:
    """Every group of its manifest, and no photo that another program told apart."""
    root = shared_data("messy")
    with (root / "manifest.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    paths = [row["path"] for row in rows]
    scan = scan_photos(paths, root=root, fingerprints=True)
    found = find_duplicates(scan, [""] * len(rows), [None] * len(rows))
    group_of = {place: number for number, group in enumerate(found.groups) for place in group}
    readable = set(scan.positions.tolist())
    different = ("hflip", "rotation")  # turned and mirrored ones are not looked for
    for name in {row["dup_group"] for row in rows if row["dup_group"]}:
        places = [
            at
            for at, row in enumerate(rows)
            if row["dup_group"] == name
            and at in readable
            and not any(word in row["path"] for word in different)
        ]
        if len(places) > 1:
            assert len({group_of.get(at) for at in places} - {None}) == 1, name
            assert all(at in group_of for at in places), name
    for group in found.groups:
        names = {rows[at]["dup_group"] for at in group} - {""}
        assert len(names) <= 1, [paths[at] for at in group]
