"""Is one picture a copy of another? Laid over each other, copies agree in every detail.

The keypoints that two pictures have in common tell the affine map between them: cutting, turning
and squeezing a photo are affine, walking around a building is not. The map is refined on the pixels
(G. Evangelidis, E. Psarakis, Parametric image alignment using enhanced correlation coefficient
maximization, PAMI 2008). Then a window of the one is compared with the same window of the other
everywhere: in a copy they correlate, whatever was done to brightness and colours; in another photo
of the same thing shadows, people and depth have moved.

Positions and sizes in here are pixels of reduced pictures, about 256 at their longer side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints import Keypoints

__all__ = ["Agreement", "Sight", "agreement"]

_SIDE = 256.0
_NEAR = 1.5  # pixels within which matches agree on a map
_NEAR_PIXELS = 1.4  # the same in pixels of the whole photo, for very small ones
_FEWEST = 10  # matches that agree
_LEAST_SHARE = 0.42  # of the matches
_TRIES = 300  # of three matches each; where so many agree, 90 find the map at 99.9 %
_MOST_SHARE = 0.7  # from which on they speak for a copy of which much is painted over
_MANY = 40  # matches that it then takes
_ALIKE = 0.95  # mean correlation of the windows of a copy
_NEARLY_ALIKE = 0.9  # of one of whose matches agree
_CLEAR_SHARE = 0.6  # or of whose windows are alike
_ALL_WINDOWS = 0.97
_FEW_KEYPOINTS = 40  # a photo with fewer is compared as a whole
_FULL = 0.9  # overlap of such photos
_SOFT = 1.0  # standard deviation
_WINDOW = 4.0  # standard deviation of a window
_LIKE_WINDOW = 0.8  # correlation of a window that is not painted over
_UNPAINTED = 0.5  # least share of such windows
_NEARLY_ALL = 0.82  # of the matches: then it takes
_SOME_UNPAINTED = 0.28
_FLAT = 4.0  # standard deviation of the luma, of 255, in a window that shows nothing
_LEAST_TEXTURE = 0.02  # share of windows that show something
_LEAST_OVERLAP = 0.6  # of the picture that has more of it
_LEAST_OF_OTHER = 0.25  # of the picture that has less of it
_GROWTH = 5.0  # a copy is not scaled further, either way
_SQUEEZE = 2.2  # nor the one side more than the other


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One picture: `luma` (h, w) uint8, reduced; `keypoints` of the whole photo."""

    luma: NDArray[np.uint8]
    keypoints: Keypoints


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two pictures that are copies agree.

    `correlation`
        mean correlation of their windows in [-1, 1], those with more contrast counting more.
    `matches`
        the share of matching keypoints that agree on the map, in [0, 1].
    `overlap`
        how much of the picture with more around it the other one shows, a share in [0, 1].
    """

    correlation: float
    matches: float
    overlap: float


def agreement(first: Sight, second: Sight) -> Agreement | None:
    """Compare two pictures; None when they are not copies. A mirrored one has to be turned first.

    Two overlapping cuts of one photo are copies when the overlap is 60 % of one of them.
    """
    if min(len(first.keypoints), len(second.keypoints)) < _FEW_KEYPOINTS:
        return _whole(first, second)
    found = _map(first, second)
    if found is None or found.share < _LEAST_SHARE:
        return None
    # The coarser of the two sets the grid, so that no detail is asked of it that it cannot have.
    if abs(np.linalg.det(found.there[:, :2])) < 1:
        laid = _lay(second.luma, first.luma, _inverse(found.there))
    else:
        laid = _lay(first.luma, second.luma, found.there)
    if laid is None:
        return None
    unpainted = _SOME_UNPAINTED if found.share >= _NEARLY_ALL else _UNPAINTED
    clear = found.share >= _CLEAR_SHARE or laid.alike >= _ALL_WINDOWS
    alike = laid.correlation >= (_NEARLY_ALIKE if clear else _ALIKE)
    painted = found.share >= _MOST_SHARE and found.agreeing >= _MANY and laid.alike >= unpainted
    less, more = sorted((laid.of_grid, laid.of_other))
    enough = more >= _LEAST_OVERLAP and less >= _LEAST_OF_OTHER
    if not (enough and (alike or painted)):
        return None
    return Agreement(laid.correlation, found.share, less)


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    """`there` (2, 3): first → second; `agreeing` matches say so, a `share` of all."""

    there: NDArray[np.float64]
    agreeing: int
    share: float


@dataclass(frozen=True, slots=True)
class _Laid:
    """`alike`: share of the windows that are; `of_grid`, `of_other`: the pictures' overlap."""

    correlation: float
    alike: float
    of_grid: float
    of_other: float


def _whole(first: Sight, second: Sight) -> Agreement | None:
    """Compare two pictures with hardly any keypoints: whole ones only, stretched to one shape."""
    scale = np.array(second.luma.shape) / first.luma.shape
    stretch = np.array([[scale[1], 0, (scale[1] - 1) / 2], [0, scale[0], (scale[0] - 1) / 2]])
    laid = _lay(first.luma, second.luma, stretch)
    if laid is None or laid.correlation < _ALIKE or min(laid.of_grid, laid.of_other) < _FULL:
        return None
    return Agreement(laid.correlation, 0.0, min(laid.of_grid, laid.of_other))


def _map(first: Sight, second: Sight) -> _Map | None:
    """Return the map on which most matches agree; None if no copy is made like that.

    Nearness is measured in the picture that shows things smaller, whichever comes first.
    """
    from veduta.keypoints import mutual

    matches = mutual(first.keypoints, second.keypoints)
    if len(matches) < _FEWEST:
        return None
    a, b = _placed(first)[matches[:, 0]], _placed(second)[matches[:, 1]]
    longer = min(max(one.keypoints.width, one.keypoints.height) for one in (first, second))
    near = max(_NEAR, _NEAR_PIXELS * _SIDE / longer)
    there = _affine(a, b, near)
    if there is not None and np.linalg.det(there[:, :2]) > 1:
        back = _affine(b, a, near)
        there = back if back is None else _inverse(back)
    if there is None:
        return None
    large, small = np.linalg.svd(there[:, :2], compute_uv=False)
    if large > _GROWTH or small < 1 / _GROWTH or large / small > _SQUEEZE:
        return None
    near *= max(1.0, float(np.sqrt(large * small)))
    for _ in range(3):  # the map of a few matches, then of all that it finds near
        agree = np.linalg.norm(a @ there[:, :2].T + there[:, 2] - b, axis=1) <= near
        if agree.sum() < _FEWEST:
            return None
        from_a = np.column_stack([a[agree], np.ones(agree.sum())])
        there = np.linalg.lstsq(from_a, b[agree], rcond=None)[0].T
    return _Map(_in_pixels(there, first, second), int(agree.sum()), float(agree.mean()))


def _placed(sight: Sight) -> NDArray[np.float32]:
    """Return the keypoints' positions (n, 2) where the longer side measures `_SIDE`."""
    scale = _SIDE / max(sight.keypoints.width, sight.keypoints.height)
    placed: NDArray[np.float32] = ((sight.keypoints.xy + 0.5) * scale).astype(np.float32)
    return placed


def _affine(
    a: NDArray[np.float32], b: NDArray[np.float32], near: float
) -> NDArray[np.float64] | None:
    import cv2

    there, agree = cv2.estimateAffine2D(
        a, b, method=cv2.RANSAC, ransacReprojThreshold=near, maxIters=_TRIES, confidence=0.999
    )
    if there is None or agree.sum() < _FEWEST or np.linalg.det(there[:, :2]) <= 0:
        return None
    return np.asarray(there, np.float64)


def _in_pixels(there: NDArray[np.float64], first: Sight, second: Sight) -> NDArray[np.float64]:
    """Return the map between the pixels of the reduced pictures, (0, 0) the first one's middle."""
    to_placed, to_pixels = (_SIDE / max(one.luma.shape) for one in (first, second))
    matrix = there[:, :2] * (to_placed / to_pixels)
    shift = (matrix.sum(axis=1) - 1) / 2 + there[:, 2] / to_pixels
    return np.column_stack([matrix, shift])


def _inverse(there: NDArray[np.float64]) -> NDArray[np.float64]:
    import cv2

    back: NDArray[np.float64] = cv2.invertAffineTransform(there)
    return back


def _lay(
    grid: NDArray[np.uint8], other: NDArray[np.uint8], there: NDArray[np.float64]
) -> _Laid | None:
    """Lay `other` over `grid` by the map `there` from grid to other, refined; None if it fails."""
    import cv2

    growth = float(np.sqrt(abs(np.linalg.det(there[:, :2]))))
    soft = cv2.GaussianBlur(other, (0, 0), max(0.5, 0.6 * growth))
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        _, exact = cv2.findTransformECC(
            grid, soft, there.astype(np.float32, order="C"), cv2.MOTION_AFFINE, stop, None, 3
        )
    except cv2.error:  # it does not converge: nothing is alike
        return None
    rows, columns = grid.shape
    how = cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(soft, exact, (columns, rows), flags=cv2.INTER_LINEAR | how)
    seen = cv2.warpAffine(
        np.ones(other.shape, np.uint8), exact, (columns, rows), flags=cv2.INTER_NEAREST | how
    )
    area = float(seen.sum())
    of_other = area * abs(float(np.linalg.det(exact[:, :2]))) / other.size
    # At the border of the overlap pixels are half interpolated, or half frame.
    inside = cv2.erode(seen, np.ones((7, 7), np.uint8), borderValue=0).astype(np.float32)
    if inside.sum() < _WINDOW**2:
        return None
    correlation, contrast = _windows(_soft(grid), _soft(laid), inside)
    where = (inside > 0) & (contrast > _FLAT)
    if where.sum() < _LEAST_TEXTURE * inside.sum():
        return None
    correlation, contrast = correlation[where], contrast[where]
    mean = float((correlation * contrast).sum() / contrast.sum())
    alike = float((correlation > _LIKE_WINDOW).mean())
    return _Laid(mean, alike, area / grid.size, of_other)


def _soft(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take out the grain, and what a loss of sharpness takes out of a copy."""
    import cv2

    return np.asarray(cv2.GaussianBlur(luma, (0, 0), _SOFT), np.uint8)


def _windows(
    first: NDArray[np.uint8], second: NDArray[np.uint8], inside: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return at each pixel (h, w) the correlation of the windows around it, and their contrast.

    Windows are Gaussian; what is not `inside` has no weight. The contrast is the greater one.
    """
    import cv2

    def around(values: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred: NDArray[np.float32] = cv2.GaussianBlur(values * inside, (0, 0), _WINDOW)
        blurred /= weight
        return blurred

    weight: NDArray[np.float32] = cv2.GaussianBlur(inside, (0, 0), _WINDOW) + np.float32(1e-6)
    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = around(a), around(b)
    of_a = np.maximum(around(a * a) - mean_a**2, 0)
    of_b = np.maximum(around(b * b) - mean_b**2, 0)
    together = around(a * b) - mean_a * mean_b
    contrast: NDArray[np.float32] = np.sqrt(np.maximum(of_a, of_b))
    correlation: NDArray[np.float32] = together / np.sqrt(of_a * of_b + np.float32(1e-6))
    return correlation, contrast
