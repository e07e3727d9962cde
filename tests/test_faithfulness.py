"""Measures of a map's faithfulness: numbers computed by hand, and by other implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_onnx import scene

from veduta.explanation.faithfulness import (
    blurred_fill,
    deletion_and_insertion,
    mass_inside,
    noisy_linear_fill,
    on_pixels,
    points_inside,
    rank_correlation,
    removal_order,
    removal_scores,
)
from veduta.explanation.perturbation import blurred
from veduta.explanation.scorers import Scorer


def weighted(weights: NDArray[np.floating]) -> Scorer:
    """Return a linear scorer: the weighted sum of the red channel."""

    def scores(photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        return np.array([np.sum(photo[..., 0] * weights) for photo in photos])

    return scores


def black_fill(pixels: NDArray[np.uint8]) -> Any:
    return lambda removed: np.where(removed[:, :, None], 0, pixels).astype(np.uint8)


def test_areas_of_four_pixels_by_hand() -> None:
    pixels = np.full((2, 2, 3), 1, np.uint8)
    scorer = weighted(np.array([[4.0, 3], [2, 1]]))  # 10 in all
    right = np.array([[0.4, 0.3], [0.2, 0.1]])
    # Removed in the order 4, 3, 2, 1, the score is 10, 6, 3, 1, 0: the trapezoids of width 1/4 are
    # 8, 4.5, 2 and 0.5. Shown in this order it is 0, 4, 7, 9, 10.
    areas = deletion_and_insertion(scorer, black_fill(pixels), right, steps=4)
    assert areas == pytest.approx((0.375, 0.625))
    wrong = deletion_and_insertion(scorer, black_fill(pixels), -right, steps=4)
    assert wrong == pytest.approx((0.625, 0.375))


def test_areas_of_a_linear_scorer_are_those_of_the_sorted_shares() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (12, 10, 3), dtype=np.uint8)
    weights = rng.normal(size=(12, 10))
    shares = weights * (pixels[..., 0].astype(float) - blurred(pixels)[..., 0])
    deletion, insertion = deletion_and_insertion(
        weighted(weights), blurred_fill(pixels), shares, steps=120
    )
    lost = np.cumsum(np.concatenate([[0], np.sort(shares, axis=None)[::-1]])) / shares.sum()
    expected = (lost[:-1] + lost[1:]).sum() / 240
    assert (deletion, insertion) == pytest.approx((1 - expected, expected), abs=1e-9)
    # No other order gives smaller or larger areas (the sum of all shares is positive here).
    assert shares.sum() > 0
    for seed in range(5):
        other = deletion_and_insertion(
            weighted(weights), blurred_fill(pixels), rng.random((12, 10)), steps=120, seed=seed
        )
        assert other[0] > deletion
        assert other[1] < insertion


def test_areas_of_a_random_map_are_one_half_on_the_mean() -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((8, 8, 3), 1, np.uint8)
    scorer = weighted(rng.random((8, 8)))
    areas = [
        deletion_and_insertion(scorer, black_fill(pixels), rng.random((8, 8)), steps=8)
        for _ in range(200)
    ]
    assert np.mean(areas, axis=0) == pytest.approx((0.5, 0.5), abs=0.01)


def test_equal_values_are_removed_in_a_random_order() -> None:
    flat = np.zeros((4, 5))
    flat[2, 3] = 1
    orders = [removal_order(flat, seed).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert [order[0] for order in orders] == [13] * 3
    assert sorted(orders[0]) == list(range(20))


def test_a_photo_that_loses_nothing_has_no_areas() -> None:
    pixels = np.full((4, 4, 3), 7, np.uint8)
    areas = deletion_and_insertion(weighted(np.ones((4, 4))), blurred_fill(pixels), np.eye(4))
    assert np.isnan(areas).all()


def test_scores_of_half_a_photo() -> None:
    pixels = np.full((2, 5, 3), 3, np.uint8)
    order = np.arange(10)
    scores = removal_scores(
        weighted(np.ones((2, 5))), black_fill(pixels), order, pixels.shape, [0, 0.5, 0.9, 1]
    )
    assert scores.tolist() == [30, 15, 3, 0]


def direct_solution(
    pixels: NDArray[np.floating], removed: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Solve the equations of ROAD as dense matrices, one pixel after the other."""
    height, width = removed.shape
    positions = list(map(tuple, np.argwhere(removed).tolist()))
    number = {position: row for row, position in enumerate(positions)}
    matrix, right = np.zeros((len(positions),) * 2), np.zeros((len(positions), 3))
    for (y, x), row in number.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there = (y + dy, x + dx)
                if (dy, dx) == (0, 0) or not (0 <= there[0] < height and 0 <= there[1] < width):
                    continue
                weight = 1 / 12 if dy and dx else 1 / 6
                matrix[row, row] += weight
                if there in number:
                    matrix[row, number[there]] -= weight
                else:
                    right[row] += weight * pixels[there]
    filled = pixels.astype(float)
    filled[removed] = np.linalg.solve(matrix, right)
    return filled


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8, 0.97])
def test_noisy_linear_fill_solves_the_equations_of_its_authors(share: float) -> None:
    pixels = scene(24, 32, seed=4)
    smooth = on_pixels(np.random.default_rng(1).random((4, 6)), (0, 0, 32, 24), (24, 32))
    removed = smooth < np.quantile(smooth, share)
    filled = noisy_linear_fill(pixels)(removed).astype(float)
    expected = direct_solution(pixels, removed)
    assert np.array_equal(filled[~removed], pixels[~removed])
    error = (filled - expected)[removed]
    # What differs is noise of 0.01 of the range, cut at 0 and 255.
    assert np.abs(error).max() < 5 * 2.55
    if share >= 0.4:
        assert error.std() == pytest.approx(2.55, rel=0.15)
        assert abs(error.mean()) < 0.3


def test_a_photo_without_any_pixel_becomes_its_mean_colour() -> None:
    pixels = scene(24, 32)
    filled = noisy_linear_fill(pixels)(np.ones((24, 32), np.bool_))
    assert filled.mean(axis=(0, 1)) == pytest.approx(pixels.mean(axis=(0, 1)), abs=0.6)
    assert 1 < filled.std(axis=(0, 1)).min() < 4
    assert np.array_equal(noisy_linear_fill(pixels)(np.zeros((24, 32), np.bool_)), pixels)


def test_a_map_of_a_crop_is_zero_where_the_network_did_not_look() -> None:
    whole = on_pixels(np.array([[1.0, 2]]), (3, 1, 4, 2), (5, 10, 3))
    assert whole.shape == (5, 10)
    inside = whole[1:3, 3:7]
    assert inside.tolist() == [[1, 1.25, 1.75, 2]] * 2
    whole[1:3, 3:7] = 0
    assert not whole.any()


def test_pointing_and_mass() -> None:
    ranking = np.array([[1.0, -9, 3], [0, 4, 2]])
    region = np.array([[0, 1, 0], [0, 1, 1]], np.bool_)
    assert points_inside(ranking, region)
    assert not points_inside(-ranking, ~region)
    assert mass_inside(ranking, region) == pytest.approx(6 / 10)
    assert np.isnan(mass_inside(-np.abs(ranking), region))


def test_rank_correlation_by_hand_and_by_counting() -> None:
    # Ranks 0 1 2 3 and 1 0 3 2: squared differences 1 each, 1 - 6 * 4 / (4 * 15) = 0.6.
    assert rank_correlation(
        np.array([[1.0, 2], [30, 400]]), np.array([[5.0, -5], [9, 8]])
    ) == pytest.approx(0.6)
    first, second = np.random.default_rng(0).integers(0, 5, (2, 6, 7)).astype(float)
    # A rank is the number of smaller values and half the number of equal ones.
    ranks = [
        (one.ravel()[:, None] > one.ravel()).sum(axis=1)
        + (one.ravel()[:, None] == one.ravel()).sum(axis=1) / 2
        for one in (first, second)
    ]
    a, b = (one - one.mean() for one in ranks)
    expected = (a @ b) / np.sqrt((a @ a) * (b @ b))
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert rank_correlation(first, np.ones((6, 7))) == 0
