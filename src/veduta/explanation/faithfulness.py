"""How far a map tells the truth about a network.

A map that ranks the pixels rightly makes the score fall fast when the highest pixels are removed
first (deletion), and rise fast when they are shown first (insertion; Petsiuk, Das and Saenko, RISE,
BMVC 2018). What replaces a removed pixel matters: a blurred photo, or values between those of its
neighbours with a little noise, which hide where pixels were removed (ROAD: Rong et al., A
Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.explanation.perturbation import blurred, enlarged

if TYPE_CHECKING:
    from veduta.explanation.scorers import Scorer

__all__ = [
    "Fill",
    "blurred_fill",
    "deletion_and_insertion",
    "mass_inside",
    "noisy_linear_fill",
    "on_pixels",
    "points_inside",
    "rank_correlation",
    "removal_order",
    "removal_scores",
]

Fill = Callable[[NDArray[np.bool_]], NDArray[np.uint8]]
"""A function that gives a photo (h, w, 3) uint8 without some pixels; its argument is which, (h, w).
"""

Box = tuple[int, int, int, int]
Shape = tuple[int, ...]

_NOISE = 0.01 * 255
"""Standard deviation of the noise in filled pixels, as in the authors' code."""

_NEIGHBOURS = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]], dtype=np.float32) / 12
"""Weights of the neighbours of a pixel: 1/6 beside it and 1/12 at its corners."""

_FILL_ITERATIONS = 30
"""Then the error of a filled pixel is below that of the noise."""

_MAX_SQUARE = 1e-6
"""Sum of the squared errors of the equations at which they are solved."""


def on_pixels(values: NDArray[np.floating], box: Box, shape: Shape) -> NDArray[np.float32]:
    """Return a map at the size of its photo. Pixels that the network did not see have 0.

    Args:
        values: (H, W), the map.
        box: x, y, width, height in pixels: the part of the photo that the map covers.
        shape: (h, w, …) of the photo.

    Returns:
        (h, w) float32.
    """
    x, y, width, height = box
    whole = np.zeros(shape[:2], dtype=np.float32)
    whole[y : y + height, x : x + width] = enlarged(values, width, height)
    return whole


def blurred_fill(pixels: NDArray[np.uint8]) -> Fill:
    """Return the function that replaces removed pixels of a photo by those of its blurred copy.

    Args:
        pixels: (h, w, 3) uint8 RGB.
    """
    cover = blurred(pixels)
    return lambda removed: np.where(removed[:, :, None], cover, pixels)


def noisy_linear_fill(pixels: NDArray[np.uint8], seed: int = 0) -> Fill:
    """Return the function that replaces removed pixels by the mean of their neighbours, plus noise.

    The mean has the weights of ROAD: 1/6 beside a pixel, 1/12 at its corners. Neighbours that are
    removed too are unknown, so this is a system of linear equations. It is solved to an error below
    that of the noise. If no pixel is left, all become the mean colour of the photo.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        seed: of the noise.
    """
    noise = np.random.default_rng(seed).normal(0, _NOISE, pixels.shape).astype(np.float32)
    values = pixels.astype(np.float32)

    def filled(removed: NDArray[np.bool_]) -> NDArray[np.uint8]:
        if removed.all():
            means = np.broadcast_to(values.mean(axis=(0, 1)), values.shape)
        else:
            means = _solved(values, ~removed)
        noisy = np.clip(np.rint(means + noise), 0, 255).astype(np.uint8)
        return np.where(removed[:, :, None], noisy, pixels)

    return filled


def removal_order(ranking: NDArray[np.floating], seed: int = 0) -> NDArray[np.intp]:
    """Return the flat positions (h · w,) of pixels, the highest first.

    Args:
        ranking: (h, w), the map at the size of the photo; see `on_pixels`.
        seed: of the order of pixels whose values are equal.
    """
    random = np.random.default_rng(seed).permutation(ranking.size)
    return random[np.argsort(-ranking.ravel()[random], kind="stable")]


def removal_scores(
    scorer: Scorer, fill: Fill, order: NDArray[np.intp], shape: Shape, shares: Sequence[float]
) -> NDArray[np.float64]:
    """Return the scores of a photo with some of its pixels removed.

    Args:
        scorer: gives the score of a photo.
        fill: gives the photo without some pixels.
        order: (h · w,) flat positions of the pixels; the first are removed first.
        shape: (h, w, …) of the photo.
        shares: (n,) of the pixels that are removed, in [0, 1].

    Returns:
        (n,) float64.
    """
    photos = []
    for share in shares:
        removed = np.zeros(shape[:2], dtype=np.bool_)
        removed.flat[order[: round(share * order.size)]] = True
        photos.append(fill(removed))
    return scorer(photos)


def deletion_and_insertion(
    scorer: Scorer, fill: Fill, ranking: NDArray[np.floating], *, steps: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Return the areas under the curves of deletion and insertion.

    The score is scaled so that the whole photo has 1 and the photo without any pixel has 0. An area
    is the integral of this score over the share of pixels that are removed or shown, by the
    trapezoid rule. A better map has a smaller deletion area and a larger insertion area.

    Args:
        scorer: gives the score of a photo.
        fill: gives the photo without some pixels.
        ranking: (h, w), the map at the size of the photo; see `on_pixels`.
        steps: the number of equal steps from the whole photo to no pixel, >= 1.
        seed: of the order of pixels whose values are equal.

    Returns:
        The areas of deletion and insertion. Both are NaN if the photo without any pixel has the
        score of the whole photo.
    """
    order = removal_order(ranking, seed)
    inner = (np.arange(1, steps) / steps).tolist()
    removed = removal_scores(scorer, fill, order, ranking.shape, [0, *inner, 1])
    shown = removal_scores(scorer, fill, order[::-1], ranking.shape, inner)
    whole, empty = removed[0], removed[-1]
    if whole == empty:
        return float("nan"), float("nan")
    deletion, insertion = (
        float(((scores - empty) / (whole - empty)).sum() + 0.5) / steps
        for scores in (removed[1:-1], shown)
    )
    return deletion, insertion


def points_inside(ranking: NDArray[np.floating], region: NDArray[np.bool_]) -> bool:
    """Return whether the highest pixel of a map lies in a region.

    This is the pointing game of Zhang et al., Top-down Neural Attention by Excitation Backprop,
    ECCV 2016.

    Args:
        ranking: (h, w), the map at the size of the photo.
        region: (h, w), which pixels belong to the region.
    """
    return bool(region.ravel()[ranking.argmax()])


def mass_inside(ranking: NDArray[np.floating], region: NDArray[np.bool_]) -> float:
    """Return the share of the positive part of a map that lies in a region, in [0, 1].

    Args:
        ranking: (h, w), the map at the size of the photo.
        region: (h, w), which pixels belong to the region.

    Returns:
        The share; NaN if no pixel is positive.
    """
    positive = np.maximum(ranking, 0).astype(np.float64)
    total = positive.sum()
    return float(positive[region].sum() / total) if total > 0 else float("nan")


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return Spearman's correlation of the ranks of two maps, in [-1, 1].

    Args:
        first: (H, W).
        second: (H, W).

    Returns:
        The correlation; 0 if all positions of a map are equal, because it ranks nothing.
    """
    a, b = (_ranks(one) for one in (first, second))
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ranks of values from 0. Equal values share their mean rank."""
    _, position, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[position.ravel()])


def _solved(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (h, w, 3): values whose unknown pixels are the weighted means of their neighbours.

    The matrix of the equations is symmetric and positive, so conjugate gradients solve them. The
    first guess is the solution at half the size.
    """
    import cv2

    if known.all():
        return values
    unknown = np.repeat((~known)[:, :, None].astype(np.float32), 3, axis=2)

    def neighbours(of: NDArray[np.float32]) -> NDArray[np.float32]:
        sums = cv2.filter2D(of, -1, _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(sums, dtype=np.float32)

    weights = neighbours(np.ones_like(values))
    guess = unknown * _first_guess(values, known)
    residual = unknown * (neighbours(values * (1 - unknown) + guess) - weights * guess)
    direction = residual
    square = float(np.vdot(residual, residual))
    for _ in range(_FILL_ITERATIONS):
        if square < _MAX_SQUARE:
            break
        product = unknown * (weights * direction - neighbours(direction))
        step = np.float32(square / np.vdot(direction, product))
        guess = guess + step * direction
        residual = residual - step * product
        before, square = square, float(np.vdot(residual, residual))
        direction = residual + np.float32(square / before) * direction
    return np.where(known[:, :, None], values, guess.astype(np.float32))


def _first_guess(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (h, w, 3): the solution for the photo at half the size, at the size of the photo."""
    import cv2

    height, width = known.shape
    if min(height, width) < 4:
        return np.broadcast_to(values[known].mean(axis=0), values.shape)
    half = ((width + 1) // 2, (height + 1) // 2)
    share = cv2.resize(np.float32(known), half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(values * known[:, :, None], half, interpolation=cv2.INTER_AREA)
    means = sums / np.maximum(share, 1e-6)[:, :, None]
    solved = _solved(means, share > 0)
    larger = cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(larger, dtype=np.float32)
