"""Matches that move together are counted, others are not, and odd arrangements break nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from veduta.keypoints.local_consistency import locally_consistent_matches

Points = NDArray[np.float64]


def anywhere(count: int, seed: int = 0) -> Points:
    return np.random.default_rng(seed).uniform(0, 640, (count, 2))


def turned(
    points: Points, angle: float, size: float, shift: tuple[float, float] = (0, 0)
) -> Points:
    """Rotate by `angle` degrees, scale and shift."""
    z = (points[:, 0] + 1j * points[:, 1]) * size * np.exp(1j * np.radians(angle))
    return np.stack([z.real, z.imag], axis=1) + shift


def test_the_same_positions_all_agree() -> None:
    points = anywhere(80)
    assert locally_consistent_matches(points, points) == 80
    assert locally_consistent_matches(points, points + np.array([1000, -1000])) == 80


@pytest.mark.parametrize("angle", [0, 30, 90, 180, 270])
@pytest.mark.parametrize("size", [0.25, 0.5, 1, 2, 4])
def test_a_similarity_transform_keeps_all(angle: float, size: float) -> None:
    points = anywhere(80)
    assert locally_consistent_matches(points, turned(points, angle, size, (30, -7))) == 80


@pytest.mark.parametrize("size", [0.1, 10])
def test_a_change_of_size_beyond_five_is_not_believed(size: float) -> None:
    points = anywhere(80)
    assert locally_consistent_matches(points, turned(points, 10, size)) == 0


def test_wrong_matches_do_not_agree() -> None:
    counts = [
        locally_consistent_matches(anywhere(80, seed), anywhere(80, seed + 1000))
        for seed in range(20)
    ]
    assert np.mean(counts) < 8, "a tenth of matches at random"
    assert max(counts) < 20


def test_a_mirrored_photo_does_not_agree() -> None:
    counts = [
        locally_consistent_matches(points, points * (-1, 1))
        for points in map(anywhere_80, range(20))
    ]
    assert np.mean(counts) < 16
    assert max(counts) < 32


def anywhere_80(seed: int) -> Points:
    return anywhere(80, seed)


def test_a_right_part_counts_and_the_wrong_part_does_not() -> None:
    right, wrong = anywhere(40) * 0.5, anywhere(40, 1) * 0.5 + (2000, 0)
    a = np.concatenate([right, wrong])
    b = np.concatenate([turned(right, 20, 1.2), anywhere(40, 2)])
    assert 38 <= locally_consistent_matches(a, b) <= 40 + 10


def test_two_parts_that_move_differently_both_count() -> None:
    """What no homography explains: two planes, each with its own motion."""
    left, right = anywhere(40) * 0.4, anywhere(40, 1) * 0.4 + (2000, 0)
    b = np.concatenate([turned(left, 10, 1), turned(right, -25, 1.5, (300, 80))])
    assert locally_consistent_matches(np.concatenate([left, right]), b) == 80


def test_the_order_of_the_matches_does_not_matter() -> None:
    a, b = anywhere(60), turned(anywhere(60), 15, 1.1)
    b[::3] = anywhere(20, 5)
    order = np.random.default_rng(1).permutation(60)
    assert locally_consistent_matches(a[order], b[order]) == locally_consistent_matches(a, b)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_matches_support_nothing(count: int) -> None:
    assert locally_consistent_matches(anywhere(count), anywhere(count)) == 0


def test_four_and_five_matches_are_the_fewest_that_count() -> None:
    for count in (4, 5, 6, 7):
        assert locally_consistent_matches(anywhere(count), turned(anywhere(count), 5, 1)) == count


def test_many_matches_at_one_place_are_no_evidence() -> None:
    spot = np.full((50, 2), 100.0)
    assert locally_consistent_matches(spot, spot) == 0
    assert locally_consistent_matches(spot, anywhere(50)) == 0, "one place that goes everywhere"
    assert locally_consistent_matches(anywhere(50), spot) == 0, "all that goes to one place"


def test_a_copy_of_a_match_breaks_nothing() -> None:
    """SIFT gives one point several directions, so matches come twice at one place."""
    points = anywhere(40)
    twice = np.concatenate([points, points])
    assert locally_consistent_matches(twice, turned(twice, 10, 1)) == 80


def test_matches_on_a_line() -> None:
    line = np.stack([np.arange(30) * 20.0, np.zeros(30)], axis=1)
    assert locally_consistent_matches(line, turned(line, 40, 1.3)) == 30
    assert locally_consistent_matches(line, line[::-1]) == 30, "half a turn"
